"""Lanes: the state that each thread simulates, and how a thread runs its lane to the end."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.errors import TooLargeError
from fastsim.kernels import state
from fastsim.kernels._entry import Entry, entry
from fastsim.kernels.engine.state import Engine
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas.routers import ASSIGNED, ROUTED
from fastsim.kernels.sglang import state as sglang_state
from fastsim.kernels.sglang.state import Sglang
from fastsim.kernels.state import Limits, Replicas, State
from fastsim.kernels.tables import Cost
from fastsim.simulation import layout
from fastsim.simulation.apart import split
from fastsim.simulation.arena import Arena
from fastsim.simulation.check import check_size, described, pool_of
from fastsim.simulation.custom.policy import user_policy
from fastsim.simulation.engine import free_all, lay_out_engine, no_engine
from fastsim.simulation.faults import explain_fault
from fastsim.simulation.limits import largest
from fastsim.simulation.ranks import addresses_ranks, first_replica, lay_out_ranks, ranks_given
from fastsim.simulation.ring import owners
from fastsim.simulation.sglang import lay_out_sglang, no_sglang
from fastsim.simulation.stream import Stream
from fastsim.simulation.transfers import lay_out_transfers
from fastsim.workload import Workload

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
    if resolved.data_parallel_size > 1:
        return entry(policy, "run_ranks")
    if resolved.is_apart:
        return entry("apart", "run")
    return entry(policy, "run" if resolved.pipeline_parallel_size == 1 else "run_stages")


def lay_out(
    resolved: Resolved, limits: tuple[Limits, ...], workload: Workload, stream: Stream, log_rows: int, detail: bool
) -> list[State]:
    """Return one state per thread; they share all arrays of requests and replicas, and each simulates its own replicas.

    A router that looks at the replicas makes them depend on each other, so one thread then simulates all of them.
    ``log_rows`` is the room for rows in the log of each thread; ``detail`` keeps where the time of each request goes.
    """
    number = resolved.num_replicas
    num_lanes = (
        min(number, os.cpu_count() or 1)
        if limits[0].router == ROUTED and not stream.following and not resolved.is_apart
        else 1
    )
    whole = lay_out_whole(resolved, limits, workload, stream, Arena(), log_rows, detail)
    bounds = np.linspace(0, number, num_lanes + 1).astype(int)
    if num_lanes == 1:
        return [whole]
    arrays = whole.requests, whole.replicas, whole.batches
    return [
        layout.lay_out_lane(
            *arrays,
            largest(limits),
            int(first),
            int(last),
            log_rows,
            Arena(),
            engine=whole.engine,
            sglang=whole.sglang,
            front_end=resolved.front_end_s,
            ranks=whole.ranks,
        )
        for first, last in pairwise(bounds)
    ]


def lay_out_whole(
    resolved: Resolved,
    limits: tuple[Limits, ...],
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
    number, most, transfers = resolved.num_replicas, largest(limits), None
    fewest = min(each.num_blocks for each in limits)
    if resolved.is_apart:
        workload, stream, source = split(resolved, workload, stream)
        transfers = lay_out_transfers(number, source, arena)
    check_size(resolved, most, fewest, workload, detail)
    try:
        requests = layout.lay_out_requests(stream, arena, detail, resolved.front_end_s)
        replicas = layout.lay_out_replicas(number, most, arena, detail)
        batches = layout.lay_out_batches(number, most, arena)
        engine, sglang = no_engine(), no_sglang()
        if resolved.scheduler.sglang is not None:
            engine, sglang = lay_out_sglang(number, most, workload, arena)
        elif resolved.scheduler.release is not None:
            engine = lay_out_engine(number, most, workload, arena, fewest)
    except MemoryError:  # the system may give no such piece at once, even if little of it would be written
        raise TooLargeError(f"{described(resolved)} need a larger piece of memory than the system gives") from None
    if resolved.pools:
        give_memory([each.pool.num_replicas for each in resolved.pools], limits, replicas, engine, sglang)
    before = first_replica(len(replicas.counts), most)
    if most.router == ASSIGNED:
        requests.replica[:] = assignment(resolved, workload) + before
    elif most.router == ROUTED and not stream.following:
        layout.assign(requests, replicas, assignment(resolved, workload) + before)
    ranks = lay_out_ranks(number, most, arena, ranks_given(resolved, workload))
    following = stream.following
    arrays = requests, replicas, batches, most
    front_end = resolved.front_end_s
    engines = engine, sglang, front_end, ranks
    return layout.lay_out_lane(*arrays, 0, number, log_rows, arena, following, *engines, transfers)


def give_memory(
    sizes: Sequence[int], limits: tuple[Limits, ...], replicas: Replicas, engine: Engine, sglang: Sglang | None = None
) -> None:
    """Give each replica the KV blocks of its pool; ``sizes``: replicas of each pool."""
    replicas.pool[:] = np.repeat(np.arange(len(sizes)), sizes)
    blocks = np.repeat([each.num_blocks for each in limits], sizes)
    replicas.counts[:, state.FREE] = blocks
    if sglang is None or not sglang.counts.size:
        if engine.blocks.size:
            free_all(engine, blocks)
    else:
        sglang.counts[:, sglang_state.FREE_PAGES] = blocks


def assignment(resolved: Resolved, workload: Workload) -> NDArray[np.integer]:
    """Return the replica of each request, int[n], for routers that do not look at the replicas."""
    policy = resolved.router
    if policy == "pinned" and workload.replica_id is not None:
        return workload.replica_id // resolved.data_parallel_size if addresses_ranks(resolved) else workload.replica_id
    rng = np.random.default_rng(resolved.seed) if policy == "random" else None
    if not resolved.pools or resolved.deployment.router.pools == "load":
        return _among(policy, workload.session_id, workload.num_requests, resolved.num_replicas, rng)
    replica = np.zeros(workload.num_requests, np.int32)
    pools = pool_of(resolved, workload)
    for place, each in enumerate(resolved.pools):
        own = pools == place
        sessions = None if workload.session_id is None else workload.session_id[own]
        replica[own] = each.first + _among(policy, sessions, int(own.sum()), each.pool.num_replicas, rng)
    return replica


def _among(
    policy: str, sessions: NDArray[np.int64] | None, requests: int, number: int, rng: np.random.Generator | None
) -> NDArray[np.integer]:
    """Return which of a number of replicas each of some requests goes to."""
    if policy == "session" and sessions is not None:
        return owners(sessions, number)
    if rng is not None:
        return rng.integers(number, size=requests)
    return np.arange(requests, dtype=np.int32) % np.int32(number)


def call_of(
    run: Kernel, lane: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], last: Call | None = None
) -> Call:
    """The call of a kernel on a lane, which passes its arguments once for all slices where it can.

    ``last``: a call of the same kernel, on what may be the same arrays.
    """
    return _bound(run, lane, costs, limits, last) or partial(run, lane, costs, limits)


def _bound(
    run: Kernel, lane: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], last: Call | None = None
) -> Call | None:
    return run.bound(lane, costs, limits, last=last) if isinstance(run, Entry) else None


def get_ready(run: Kernel, lane: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> Call:
    """The same, of a kernel that is compiled or loaded before, so that no clock includes that."""
    if call := _bound(run, lane, costs, limits):
        return call
    nothing = lane.cursor.copy()
    nothing[state.LEFT] = 0
    run(lane._replace(cursor=nothing), costs, limits)  # running for no iteration compiles it
    return partial(run, lane, costs, limits)


def finish(call: Call, lane: State, costs: tuple[Cost, ...], stop: threading.Event) -> list[Columns]:
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
            explain_fault(costs, lane)
        if code != Exit.BUDGET:
            break
    return drained
