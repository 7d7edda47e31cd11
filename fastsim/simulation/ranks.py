"""What replicas keep whose data-parallel ranks step together: a row for each rank, and behind those one per replica."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state as columns
from fastsim.kernels.ranks import state
from fastsim.kernels.ranks.state import GIVEN, INTERNAL, NO_RANKS, ROUND_ROBIN, RankLimits, Ranks
from fastsim.kernels.state import Limits, State
from fastsim.simulation.arena import Arena
from fastsim.workload import Workload

# Of vLLM: its front end learns how many requests ranks have every 100 ms, and ranks ask each other whether any has
# requests every 32 steps.
REFRESH_S, WAVE = 0.1, 32


def rank_limits(resolved: Resolved) -> RankLimits:
    """Return the ranks of the replicas of a deployment, as the kernel reads them."""
    if resolved.data_parallel_size == 1:
        return NO_RANKS
    balancer = INTERNAL
    if resolved.deployment.data_parallel_balancer == "external":
        balancer = GIVEN if addresses_ranks(resolved) else ROUND_ROBIN
    return RankLimits(resolved.data_parallel_size, balancer, REFRESH_S, WAVE)


def addresses_ranks(resolved: Resolved) -> bool:
    """Whether column replica_id of a workload names ranks: those of the first replica, then of the second, ..."""
    is_external = resolved.deployment.data_parallel_balancer == "external"
    return resolved.data_parallel_size > 1 and is_external and resolved.router == "pinned"


def ranks_given(resolved: Resolved, workload: Workload) -> NDArray[np.integer] | None:
    """Return the rank of each request within its replica, int[n], where a workload names ranks."""
    if not addresses_ranks(resolved) or workload.replica_id is None:
        return None
    return workload.replica_id % resolved.data_parallel_size


def rows_of(num_replicas: int, limits: Limits) -> int:
    """Rows of the arrays of replicas: of those without ranks one each."""
    return num_replicas * (limits.ranks.num_ranks + 1) if limits.ranks.num_ranks > 1 else num_replicas


def first_replica(rows: int, limits: Limits) -> int:
    """The row of the first replica, among ``rows``: behind those of all ranks."""
    number = limits.ranks.num_ranks
    return rows // (number + 1) * number if number > 1 else 0


@cache
def no_ranks() -> Ranks:
    """What replicas without ranks have in its place: arrays without entries."""
    return Ranks(np.zeros((0, state.NUM_RANK_COUNTS), np.int64), np.zeros(0, np.int32))


def lay_out_ranks(num_replicas: int, limits: Limits, arena: Arena, rank_of: NDArray[np.integer] | None = None) -> Ranks:
    """Return what replicas of several ranks keep, before the first request arrives.

    Parameters
    ----------
    num_replicas : int
        Replicas.
    limits : Limits
        Limits of the policy.
    arena : Arena
        Memory for the arrays.
    rank_of : int[n], optional
        The rank of each request, from 0, where the balancer does not choose.
    """
    if limits.ranks.num_ranks == 1:
        return no_ranks()
    rows = rows_of(num_replicas, limits)
    counts = arena.take("ranks_counts", (rows, state.NUM_RANK_COUNTS), np.int64)
    first = first_replica(rows, limits)
    counts[first:, state.FIRST_RANK] = np.arange(num_replicas) * limits.ranks.num_ranks
    given = arena.take("ranks_given", 0 if rank_of is None else rank_of.size, np.int32)
    if rank_of is not None:
        given[:] = rank_of
    return Ranks(counts, given)


def by_rank(lane: State, limits: Limits) -> State:
    """Return a finished state with a row for each rank, and none for replicas, whose counts go to their first ranks."""
    if limits.ranks.num_ranks == 1:
        return lane
    replicas, number = lane.replicas, limits.ranks.num_ranks
    first = first_replica(len(replicas.counts), limits)
    counts, times = replicas.counts, replicas.times
    counts[:first:number, columns.TBT_COUNT] += counts[first:, columns.TBT_COUNT]
    times[:first:number, columns.TBT_SUM] += times[first:, columns.TBT_SUM]
    largest = times[:first:number, columns.TBT_MAX]
    times[:first:number, columns.TBT_MAX] = np.maximum(largest, times[first:, columns.TBT_MAX])
    replicas.busy[:first] = np.repeat(replicas.busy[first:], number, axis=0)  # a rank without tokens runs dummy batches
    trees = ("lightest", "soonest")
    rows = {name: array[:first] for name, array in replicas._asdict().items() if name not in trees}
    engine = lane.engine._replace(counts=lane.engine.counts[:first])
    return lane._replace(replicas=replicas._replace(**rows), engine=engine)
