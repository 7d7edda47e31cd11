"""The waiting requests of a replica by priority, then arrival, then id: a leftist heap in arrays of branches."""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart
from ..state import NONE

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]


@apart
def goes_before(priority: Ints, arrived_at: Floats, one: int, other: int) -> bool:
    """Whether a request is served before another."""
    if priority[one] != priority[other]:
        return bool(priority[one] < priority[other])
    if arrived_at[one] != arrived_at[other]:
        return bool(arrived_at[one] < arrived_at[other])
    return one < other


@apart
def merge(left: Ints, right: Ints, rank: Ints, priority: Ints, arrived_at: Floats, one: int, other: int) -> int:
    """Make one heap of two; returns its root. Heaps are named by their roots, the empty one is NONE.

    The way down is kept in the right branches, which point up meanwhile; a rank is the length of a right branch.
    """
    parent = NONE
    while one != NONE and other != NONE:
        if goes_before(priority, arrived_at, other, one):
            one, other = other, one
        below = right[one]
        right[one] = parent
        parent = one
        one = below
    merged = other if one == NONE else one
    while parent != NONE:
        above = right[parent]
        right[parent] = merged
        shallow = left[parent] == NONE or (merged != NONE and rank[left[parent]] < rank[merged])
        if shallow:
            left[parent], right[parent] = merged, left[parent]
        rank[parent] = 1 if right[parent] == NONE else rank[right[parent]] + 1
        merged, parent = parent, above
    return int(merged)


@apart
def put(left: Ints, right: Ints, rank: Ints, priority: Ints, arrived_at: Floats, root: int, request: int) -> int:
    """Add a request to a heap; returns the root."""
    left[request] = right[request] = NONE
    rank[request] = 1
    return merge(left, right, rank, priority, arrived_at, root, request)
