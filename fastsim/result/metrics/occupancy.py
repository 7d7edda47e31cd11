"""How many requests wait or run, over time, from when each arrived, began and finished."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def peak(begin: Floats, end: Floats) -> int:
    """Most intervals [begin, end) at once; NaN begins or ends never."""
    starts, ends = _ordered(begin), _ordered(end)
    if not len(starts):
        return 0
    # Just after the i-th start, i + 1 have started; those that end at that time are gone.
    there = np.arange(1, len(starts) + 1) - np.searchsorted(ends, starts, side="right")
    return max(0, int(there.max()))


def mean(begin: Floats, end: Floats, edges: Floats) -> Floats:
    """float64[len(edges) - 1]: intervals [begin, end) at once, mean over each bin; NaN begins or ends never."""
    held = _passed(_ordered(begin), edges) - _passed(_ordered(end), edges)
    found: Floats = np.diff(held) / np.diff(edges)
    return found


def occupied(replica: NDArray[np.integer], begin: Floats, end: Floats, number: int) -> Floats:
    """float64[number], s: how long each replica has a request, the union of its intervals [begin, end)."""
    known = np.isfinite(begin) & np.isfinite(end)
    replica, begin, end = replica[known], begin[known], end[known]
    if not len(begin):
        return np.zeros(number)
    order = np.lexsort((begin, replica))
    replica, begin, end = replica[order], begin[order], end[order]
    # Replicas one after the other on a single axis, so that one running maximum serves all.
    first, apart = begin.min(), end.max() - begin.min()
    offset = replica * apart - first
    latest = np.maximum.accumulate(end + offset)
    gained = latest - np.maximum(begin + offset, np.concatenate([[-np.inf], latest[:-1]]))
    return np.bincount(replica, np.maximum(gained, 0.0), number).astype(float)


def _ordered(times: Floats) -> Floats:
    ordered = np.sort(times)
    return ordered[: np.searchsorted(ordered, np.nan)]


def _passed(times: Floats, edges: Floats) -> Floats:
    """Time since each of ``times``, summed, at every edge; ``times`` ascending."""
    before = np.searchsorted(times, edges)
    sums = np.concatenate([[0.0], np.cumsum(times)])
    found: Floats = before * edges - sums[before]
    return found
