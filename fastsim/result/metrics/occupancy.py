"""How many requests wait or run over time, from the times at which each began and ended to do so.

Here an interval [begin, end) is the time that one request waits or runs; a request whose begin or end is NaN never
began or ended.
"""

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns, Floats


def queued_at(columns: Columns) -> Floats:
    """Return when requests reach a scheduler, float64[n], s: after the front end where the columns have it."""
    arrived: Floats = columns["arrived_at"]
    return arrived + columns["front_end"] if "front_end" in columns else arrived


def peak(begin: Floats, end: Floats) -> int:
    """Return the largest number of intervals at once; ``begin`` and ``end`` hold float64[n] times, s."""
    begins, ends = _sorted_finite(begin), _sorted_finite(end)
    if not len(begins):
        return 0
    # Just after the i-th begin, i + 1 intervals have begun, and those that end at that time have ended.
    at_once = np.arange(1, len(begins) + 1) - np.searchsorted(ends, begins, side="right")
    return max(0, int(at_once.max()))


def mean(begin: Floats, end: Floats, edges: Floats) -> Floats:
    """Return the mean number of intervals in each bin, float64[len(edges) - 1].

    ``begin`` and ``end`` hold float64[n] times, and ``edges`` the ascending bounds of the bins, all in seconds.
    """
    elapsed = _elapsed(_sorted_finite(begin), edges) - _elapsed(_sorted_finite(end), edges)
    means: Floats = np.diff(elapsed) / np.diff(edges)
    return means


def occupied(replica: NDArray[np.integer], begin: Floats, end: Floats, num_replicas: int) -> Floats:
    """Return how long each replica has at least one request, float64[num_replicas], s.

    ``replica`` int[n] is the replica of each request, which has it from ``begin`` to ``end``, float64[n], s. Requests
    that never began or ended are left out.
    """
    known = np.isfinite(begin) & np.isfinite(end)
    replica, begin, end = replica[known], begin[known], end[known]
    if not len(begin):
        return np.zeros(num_replicas)
    order = np.lexsort((begin, replica))
    replica, begin, end = replica[order], begin[order], end[order]
    # Replicas lie one after the other on a single axis, so that one running maximum serves all of them.
    first, apart = begin.min(), end.max() - begin.min()
    offset = replica * apart - first
    latest = np.maximum.accumulate(end + offset)
    gained = latest - np.maximum(begin + offset, np.concatenate([[-np.inf], latest[:-1]]))
    return np.bincount(replica, np.maximum(gained, 0.0), num_replicas).astype(float)


def _sorted_finite(times: Floats) -> Floats:
    """Return the times that are not NaN, ascending."""
    ordered = np.sort(times)
    return ordered[: np.searchsorted(ordered, np.nan)]


def _elapsed(times: Floats, edges: Floats) -> Floats:
    """Return, at every edge, the sum of the time elapsed since each of the ascending ``times`` before it."""
    before = np.searchsorted(times, edges)
    sums = np.concatenate([[0.0], np.cumsum(times)])
    elapsed: Floats = before * edges - sums[before]
    return elapsed


def engine_of(columns: Columns, num_ranks: int) -> NDArray[np.int32]:
    """Return the row of the engine that served each request, int32[n]: its replica, or a rank of it."""
    replica: NDArray[np.int32] = columns["replica_id"]
    return replica if num_ranks == 1 else replica * np.int32(num_ranks) + columns["rank"]


def served(columns: Columns, number: int, ranks: int = 1) -> NDArray[np.integer]:
    """Return how many requests each of ``number`` replicas, or of their ranks, served, also in part."""
    counted = np.bincount(engine_of(columns, ranks), minlength=number)
    if "prefill_replica_id" in columns:
        first = columns["prefill_replica_id"]
        counted += np.bincount(first[first >= 0], minlength=number)
    return counted
