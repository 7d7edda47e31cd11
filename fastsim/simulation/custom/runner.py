"""Runner: simulates with a user's functions, in place of the kernel of one of fastsim's own policies."""

import linecache
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from fastsim.errors import PolicyError, StuckError
from fastsim.kernels import state as columns
from fastsim.kernels.custom.router import RouterState
from fastsim.kernels.custom.view import (
    BAD_REPLICA,
    BAD_SIZE,
    BAD_TOKENS,
    FINE,
    NO_ROOM,
    NOT_HERE,
    NOTES,
    TWICE,
    SchedulerState,
)
from fastsim.kernels.exits import Ending, Exit
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost
from fastsim.simulation.custom.policy import UserPolicy
from fastsim.simulation.custom.rehearsal import rehearse
from fastsim.simulation.custom.source import PREFIX, router_module, scheduler_module

ROOM = 1024  # requests that a queue has room for at first, besides those of a few batches

_rehearsed: set[Callable[..., Any]] = set()


class Runner:
    """A kernel for one simulation: ``runner(state, costs, limits)``, by pool, returns why it stopped.

    Raises PolicyError when a function does something that it may not do, and StuckError when a scheduling function
    leaves requests unserved.
    """

    def __init__(self, scheduler: UserPolicy | str, router: UserPolicy | None, num_stages: int) -> None:
        """Rehearse and compile the functions.

        ``scheduler`` is a user's function, or the name of one of fastsim's own policies. ``router`` is a user's
        function, or None for fastsim's own router. Every replica has ``num_stages`` pipeline stages.
        """
        for policy in (scheduler, router):
            if isinstance(policy, UserPolicy) and policy.function not in _rehearsed:
                rehearse(policy)
                _rehearsed.add(policy.function)
        self.scheduler, self.router = scheduler, router
        own = not isinstance(scheduler, str)
        module: Any = scheduler_module(scheduler) if isinstance(scheduler, UserPolicy) else scheduler
        if router is not None:
            module = router_module(router, module, num_stages)
        self.run = module._run
        self.has_scheduler = own
        self.policies: dict[int, SchedulerState] = {}
        self.router_state: RouterState | None = None
        names = [policy.name for policy in (scheduler, router) if isinstance(policy, UserPolicy)]
        self.names = " and ".join(names)

    def __call__(self, state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
        lane = int(state.cursor[columns.FIRST])
        if self.has_scheduler and lane not in self.policies:
            self.policies[lane] = lay_out_scheduler_state(state, limits[0])
        if self.router is not None and self.router_state is None:
            self.router_state = lay_out_router_state(state)
        while True:
            policy = self.policies.get(lane)
            extra = [argument for argument in (policy, self.router_state) if argument is not None]
            try:
                code = int(self.run(state, costs, limits, *extra))
            except NumbaError as error:
                raise PolicyError(f"{self.names}: {_first_problem(str(error))}") from error
            except (ArithmeticError, LookupError, ValueError) as error:
                raise PolicyError(f"{self.names}: {type(error).__name__}: {error}") from error
            if policy is not None and policy.trouble[0] == NO_ROOM:
                self.policies[lane] = _with_room(policy, state)
                continue
            for argument in extra:
                if argument.trouble[0] != FINE:
                    raise PolicyError(self._sentence(*argument.trouble.tolist()))
            if code == Exit.DONE and policy is not None:
                self._check_served(state, policy)
            return code

    def _sentence(self, why: int, first: int, second: int, third: int) -> str:
        """Return what a function did wrong, from the four numbers of ``trouble``."""
        if why == BAD_REPLICA:
            return f"{self.names}: request {first}: it returns replica {second} of {third} (valid: 0 to {third - 1})"
        if why == BAD_SIZE:
            return f"{self.names}: it returns {first} requests, but chosen has room for {second} (e.g. 2)"
        if why == NOT_HERE:
            reason = f"which neither waits nor runs on replica {second}"
            valid = "the requests in replica.waiting and replica.running"
            return f"{self.names}: it chooses request {first}, {reason} (valid: {valid})"
        if why == TWICE:
            return f"{self.names}: it chooses request {first} twice (choose each once)"
        if why == BAD_TOKENS:
            left = f"which has {third} left to process (e.g. {third})"
            return f"{self.names}: it gives {second} tokens to request {first}, {left}"
        return f"{self.names}: it overwrites replica.waiting (use fastsim.sort_by to reorder it)"

    def _check_served(self, state: State, policy: SchedulerState) -> None:
        """Raise StuckError if a replica has requests at the end that the scheduling function never chose."""
        first, last = int(state.cursor[columns.FIRST]), int(state.cursor[columns.LAST])
        for r in range(first, last):
            counts = state.replicas.counts[r]
            if counts[columns.PRESENT] == 0 or counts[columns.OUTCOME] != Ending.GOING:
                continue
            unserved = [*policy.queue[r, policy.ends[r, 0] : policy.ends[r, 1]], *state.replicas.running[r]]
            raise StuckError(
                f"replica {r}: {self.names} leaves {counts[columns.PRESENT]} requests unserved, with "
                f"{counts[columns.FREE]} KV blocks free; the first is request {unserved[0]}, which has "
                f"{state.requests.prefill[unserved[0]]} tokens to process (choose it, or give the replica more memory "
                "or larger batches)"
            )


def lay_out_scheduler_state(state: State, limits: Limits) -> SchedulerState:
    """The state of the user's scheduler on a lane in which nothing has happened yet."""
    requests, counts = state.requests, state.replicas.counts
    number, slack = len(requests.arrived_at), limits.max_num_seqs
    room = 8 * slack + ROOM
    num_prompt_tokens = requests.prefill.copy()
    return SchedulerState(
        queue=np.zeros((len(counts), room), np.int32),
        ends=np.full((len(counts), 2), 2 * slack),
        queue_length=np.zeros(len(counts), np.int64),
        status=np.zeros(number, np.int8),
        memo=np.zeros(number),
        notes=np.zeros((len(counts), NOTES)),
        trouble=np.zeros(4, np.int64),
        arrived_at=_frozen(requests.arrived_at),
        num_prompt_tokens=_frozen(num_prompt_tokens),
        num_output_tokens=_frozen(requests.total - num_prompt_tokens),
        prefill=_frozen(requests.prefill),
        processed=_frozen(requests.processed),
        blocks=_frozen(requests.blocks),
    )


def lay_out_router_state(state: State) -> RouterState:
    """The state of the user's router in a cluster in which nothing has happened yet."""
    number, replicas = len(state.requests.arrived_at), len(state.replicas.counts)
    num_prompt_tokens = state.requests.prefill.copy()
    return RouterState(
        num_waiting=np.zeros(replicas, np.int64),
        num_outstanding=np.zeros(replicas, np.int64),
        free_blocks=np.zeros(replicas, np.int64),
        cached_tokens=np.zeros(replicas, np.int64),
        memo=np.zeros(number),
        notes=np.zeros((replicas, NOTES)),
        trouble=np.zeros(4, np.int64),
        num_prompt_tokens=num_prompt_tokens,
        num_output_tokens=state.requests.total - num_prompt_tokens,
    )


def _with_room(policy: SchedulerState, state: State) -> SchedulerState:
    """The same, with queues that have room for twice as many."""
    policy.trouble[0] = FINE
    waiting = int(state.replicas.counts[:, columns.WAITING].max())
    queue = np.zeros((len(policy.queue), 2 * policy.queue.shape[1] + 4 * waiting), np.int32)
    for r, (first, last) in enumerate(policy.ends):
        queue[r, first:last] = policy.queue[r, first:last]
    return policy._replace(queue=queue)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


def _first_problem(message: str) -> str:
    """Return what Numba reports as wrong in one clause, with the line of the user's function if the report has it."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in message.splitlines()]
    if "NRT required" in message or "returning of array" in message:
        what = "it creates an array, list, string or dictionary, which a policy cannot do (use memo and notes)"
    else:
        skipped = ("Failed in", "During:", "- Resolution", "Cannot determine Numba type of <class 'numba")
        what = next((line.rstrip(" :") for line in lines if line and not line.startswith(skipped)), "")
    # The first location in the report is the innermost one.
    location = re.search(rf"at (\S*{PREFIX}\w+\.py) \((\d+)\)", " ".join(lines))
    near = linecache.getline(location[1], int(location[2])).strip() if location else ""
    return f"it does not compile: {what}" + (f", near `{near}`" if near else "")
