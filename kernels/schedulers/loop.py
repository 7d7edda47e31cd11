"""The loop that all policies share: batches are formed, launched and ended on all replicas in their turns."""

from collections.abc import Callable

from .._jit import merged
from ..exits import Exit
from ..iterations.group_iterations import retire_group
from ..iterations.pipeline_decodes import retire_residents
from ..replicas.pools import Stages, cost_of, limits_of
from ..replicas.route import NextEvent, QuietUntil, next_event_of_any, next_turn, quiet_until_of_any
from ..state import REPLICA, Limits, State
from ..tables import Cost


@merged
def end_batch(state: State, cost: Cost, limits: Limits, stages: Stages, grows: bool, static: bool) -> None:
    """End the batch at cursor in the way in which it was formed."""
    if limits.num_stages > 1:
        retire_residents(state, cost, limits, grows, static)
    else:
        retire_group(state, cost, limits, grows, static)


@merged
def simulate(
    state: State,
    costs: tuple[Cost, ...],
    limits: tuple[Limits, ...],
    stages: Stages,
    next_event: NextEvent,
    quiet_until: QuietUntil,
    launch_next: Callable[[State, Cost, Limits, Stages], int],
    end: Callable[[State, Cost, Limits, Stages, bool, bool], None],
    grows: bool,
    static: bool,
    refusal_lasts: bool,
    caches: bool,
) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT.

    ``launch_next`` forms the next batch of the replica at cursor and starts it, by the rules of a policy; ``end`` ends
    the batch at cursor. What depends on ``stages`` alone is decided before a kernel is compiled.
    """
    while True:
        event = next_turn(state, costs, limits, stages, next_event, quiet_until, grows, refusal_lasts, caches)
        r = state.cursor[REPLICA]
        if event == Exit.FORM:
            if launch_next(state, cost_of(state, costs, r), limits_of(state, limits, r, stages), stages) == Exit.FAULT:
                return Exit.FAULT
        elif event == Exit.ENDED:
            end(state, cost_of(state, costs, r), limits_of(state, limits, r, stages), stages, grows, static)
        else:
            return event


@merged
def simulate_plain(
    state: State,
    costs: tuple[Cost, ...],
    limits: tuple[Limits, ...],
    stages: Stages,
    launch_next: Callable[[State, Cost, Limits, Stages], int],
    grows: bool,
    static: bool,
    refusal_lasts: bool,
) -> int:
    """Simulate a policy without a prefix cache that only has its own way of forming batches."""
    event, quiet = next_event_of_any, quiet_until_of_any
    return simulate(
        state, costs, limits, stages, event, quiet, launch_next, end_batch, grows, static, refusal_lasts, False
    )
