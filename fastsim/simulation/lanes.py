"""Lanes: the state that each thread simulates, and how a thread runs its lane to the end."""

import math
import os
import threading
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.check_router import filled
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.deployment.sections import Router
from fastsim.errors import TooLargeError
from fastsim.kernels import state
from fastsim.kernels._entry import Entry, entry
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import ASSIGNED, CUSTOM, NO_ROUTING, ROUND_ROBIN, ROUTED, Routing
from fastsim.kernels.state import Limits, State
from fastsim.kernels.tables import Cost
from fastsim.predictors.affine import has_ticks
from fastsim.simulation import layout
from fastsim.simulation.arena import Arena
from fastsim.simulation.check import check_size, described
from fastsim.simulation.custom.policy import user_policy
from fastsim.simulation.engine import engine_limits, lay_out_engine, no_engine
from fastsim.simulation.faults import explain_fault
from fastsim.simulation.ring import owners
from fastsim.simulation.sglang import lay_out_sglang, no_sglang, sglang_limits, shared_limits
from fastsim.simulation.stream import Stream
from fastsim.workload import Workload

ROUTERS = {
    "least_outstanding": routers.LEAST_OUTSTANDING,
    "least_waiting": routers.LEAST_WAITING,
    "least_kv": routers.LEAST_KV,
    "prefix_aware": routers.PREFIX_AWARE,
    "weighted": routers.WEIGHTED,
}


# Iterations, about 20 ms of them, after which the kernel returns so that Ctrl-C is noticed and the log is emptied.
SLICE = 200_000


Columns = tuple[NDArray[Any], ...]


Kernel = Callable[[State, tuple[Cost, ...], tuple[Limits, ...]], int]  # costs and limits by pool of replicas
Call = Callable[[], int]  # of a kernel on a lane


def kernel_of(
    resolved: Resolved, scheduler: Callable[..., Any] | None = None, router: Callable[..., Any] | None = None
) -> Kernel:
    """Return the kernel that simulates a deployment: its compiled policy, or a runner around a user's functions.

    Parameters
    ----------
    resolved : Resolved
        The deployment, whose ``scheduler.policy`` and ``router`` name the policies.
    scheduler, router : callable, optional
        A user's functions, given directly instead of by the ``file.py:function`` that the deployment names.

    Returns
    -------
    callable
        ``kernel(state, cost, limits)``, which returns why it stopped. It serves one simulation only.

    Raises
    ------
    PolicyError
        A user's function cannot be loaded, or fails when it is tried on a small example.
    """
    policy, routing = resolved.scheduler.policy.name, resolved.router
    if is_function(policy) or is_function(routing):
        from fastsim.simulation.custom.runner import Runner

        own, other = user_policy(scheduler, policy, "scheduler"), user_policy(router, routing, "router")
        return Runner(own or policy, other, resolved.pipeline_parallel_size)
    return entry(policy, "run" if resolved.pipeline_parallel_size == 1 else "run_stages")


def limits_of(resolved: Resolved, workload: Workload | None = None) -> Limits:
    """Return the limits of a deployment on batches and memory, as the kernel reads them.

    Where requests of ``workload`` follow others, no router can choose replicas beforehand.
    """
    scheduler, memory = resolved.scheduler, resolved.memory
    router = CUSTOM if is_function(resolved.router) else ROUTERS.get(resolved.router, ROUTED)
    if router == ROUTED and resolved.num_replicas > 1 and workload is not None and workload.following is not None:
        router = ROUND_ROBIN if resolved.router == "round_robin" else ASSIGNED
    # The share that vLLM V1 keeps free is one of all blocks, the null block among them.
    null_block = scheduler.release is not None
    watermark_blocks = int(scheduler.watermark * (memory.num_blocks + null_block))
    engine = engine_limits(scheduler, resolved.max_model_len, not has_ticks(resolved))
    sglang = sglang_limits(scheduler)
    if scheduler.sglang is not None:
        engine = shared_limits(sglang, resolved.max_model_len)
    return Limits(
        num_stages=resolved.pipeline_parallel_size,
        num_blocks=memory.num_blocks,
        block_size=scheduler.block_size,
        watermark_blocks=watermark_blocks,
        blocks_per_sequence=memory.blocks_per_sequence,
        max_num_seqs=scheduler.max_num_seqs,
        micro_batch_size=resolved.micro_batch_size,
        max_batch_size=resolved.max_batch_size,
        max_num_batched_tokens=scheduler.max_num_batched_tokens,
        chunk_size=scheduler.chunk_size,
        max_waiting_iters=scheduler.max_waiting_iters,
        router=router,
        engine=engine,
        routing=_routing(resolved.deployment.router),
        sglang=sglang,
    )


def _routing(router: Router) -> Routing:
    """The settings of a router, as the kernel reads them."""
    own = {name: math.inf if value is None else float(value) for name, value in filled(router).items()}
    renamed = {"prefix_cache_weight": "prefix_weight", "kv_cache_utilization_weight": "kv_weight"}
    return NO_ROUTING._replace(**{renamed.get(name, name): value for name, value in own.items()})


def lay_out(
    resolved: Resolved, limits: Limits, workload: Workload, stream: Stream, log_rows: int, detail: bool
) -> list[State]:
    """Return one state per thread; they share all arrays of requests and replicas, and each simulates its own replicas.

    A router that looks at the replicas makes them depend on each other, so one thread then simulates all of them.
    ``log_rows`` is the room for rows in the log of each thread; ``detail`` keeps where the time of each request goes.
    """
    number = resolved.num_replicas
    num_lanes = min(number, os.cpu_count() or 1) if limits.router == ROUTED and not stream.following else 1
    whole = lay_out_whole(resolved, limits, workload, stream, Arena(), log_rows, detail)
    bounds = np.linspace(0, number, num_lanes + 1).astype(int)
    if num_lanes == 1:
        return [whole]
    arrays = whole.requests, whole.replicas, whole.batches
    return [
        layout.lay_out_lane(
            *arrays,
            limits,
            int(first),
            int(last),
            log_rows,
            Arena(),
            engine=whole.engine,
            sglang=whole.sglang,
            front_end=resolved.front_end_s,
        )
        for first, last in pairwise(bounds)
    ]


def lay_out_whole(
    resolved: Resolved,
    limits: Limits,
    workload: Workload,
    stream: Stream,
    arena: Arena,
    log_rows: int = 0,
    detail: bool = False,
) -> State:
    """Return the state of one thread that simulates all replicas.

    Parameters
    ----------
    resolved, limits
        The deployment, and the limits that ``limits_of`` made of it.
    workload, stream
        The requests, and their arrays as ``stream.share`` returns them; arrival times are read from ``stream``.
    arena : Arena
        Memory for the arrays. The state is valid until the arena is used again.
    log_rows : int
        Rows that the log of iterations has room for; 0 keeps no log.
    detail : bool
        Whether the kernel keeps where the time of each request goes.

    Raises
    ------
    TooLargeError
        The arrays need more memory than is free.
    """
    number = resolved.num_replicas
    check_size(resolved, limits, workload, detail)
    try:
        requests = layout.lay_out_requests(stream, arena, detail, resolved.front_end_s)
        replicas = layout.lay_out_replicas(number, limits, arena, detail)
        batches = layout.lay_out_batches(number, limits, arena)
        engine, sglang = no_engine(), no_sglang()
        if resolved.scheduler.sglang is not None:
            engine, sglang = lay_out_sglang(number, limits, workload, arena)
        elif resolved.scheduler.release is not None:
            engine = lay_out_engine(number, limits, workload, arena)
    except MemoryError:  # the system may give no such piece at once, even if little of it would be written
        raise TooLargeError(f"{described(resolved)} need a larger piece of memory than the system gives") from None
    if limits.router == ASSIGNED:
        requests.replica[:] = assignment(resolved, workload)
    elif limits.router == ROUTED and not stream.following:
        layout.assign(requests, replicas, assignment(resolved, workload))
    following = stream.following
    arrays = requests, replicas, batches, limits
    front_end = resolved.front_end_s
    return layout.lay_out_lane(*arrays, 0, number, log_rows, arena, following, engine, sglang, front_end)


def assignment(resolved: Resolved, workload: Workload) -> NDArray[np.integer]:
    """Return the replica of each request, int[n], for routers that do not look at the replicas."""
    policy, number = resolved.router, resolved.num_replicas
    if policy == "pinned" and workload.replica_id is not None:
        return workload.replica_id
    if policy == "session" and workload.session_id is not None:
        return owners(workload.session_id, number)
    if policy == "random":
        rng = np.random.default_rng(resolved.seed)
        return rng.integers(number, size=workload.num_requests)
    return np.arange(workload.num_requests, dtype=np.int32) % np.int32(number)


def call_of(run: Kernel, lane: State, cost: Cost, limits: Limits) -> Call:
    """The call of a kernel on a lane, which passes its arguments once for all slices where it can."""
    bound = run.bound(lane, (cost,), (limits,)) if isinstance(run, Entry) else None
    return bound or partial(run, lane, (cost,), (limits,))


def get_ready(run: Kernel, lane: State, cost: Cost, limits: Limits) -> Call:
    """The same, of a kernel that is compiled or loaded before, so that no clock includes that."""
    call = call_of(run, lane, cost, limits)
    if isinstance(call, partial):  # running for no iteration compiles it
        nothing = lane.cursor.copy()
        nothing[state.LEFT] = 0
        run(lane._replace(cursor=nothing), (cost,), (limits,))
    return call


def finish(call: Call, lane: State, cost: Cost, stop: threading.Event) -> list[Columns]:
    """Run a lane to its end, or until ``stop`` is set.

    Returns the log in pieces, each with the columns of ``kernels.state.Log``. Raises TableError for a batch that the
    tables give no time.
    """
    drained = []
    while not stop.is_set():
        lane.cursor[state.LEFT] = SLICE
        code = call()
        rows = lane.cursor[state.LOGGED]
        if rows:
            drained.append(tuple(column[:rows].copy() for column in lane.log))
            lane.cursor[state.LOGGED] = 0
        if code == Exit.FAULT:
            explain_fault(cost, lane)
        if code != Exit.BUDGET:
            break
    return drained
