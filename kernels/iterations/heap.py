"""A binary min-heap of int64 keys in an array, by which the next request to finish is found."""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined

Longs = NDArray[np.int64]


@inlined
def push(heap: Longs, size: int, key: int) -> None:
    """Add a key to heap[:size]."""
    heap[_rise(heap, size, key)] = key


@inlined
def pop(heap: Longs, size: int) -> None:
    """Remove the least key, heap[0], from heap[:size]."""
    _sink(heap, size - 1, 0, heap[size - 1])


@inlined
def remove(heap: Longs, size: int, position: int) -> None:
    """Remove the key at a position from heap[:size]."""
    key = heap[size - 1]
    if position < size - 1:
        _sink(heap, size - 1, _rise(heap, position, key), key)


@inlined
def _rise(heap: Longs, position: int, key: int) -> int:
    """Move larger keys above a free position down; returns the position that is free for ``key`` then."""
    while position > 0:
        parent = (position - 1) >> 1
        if heap[parent] <= key:
            break
        heap[position] = heap[parent]
        position = parent
    return position


@inlined
def _sink(heap: Longs, size: int, position: int, key: int) -> None:
    """Move smaller keys below a free position of heap[:size] up, and put ``key`` where there are none."""
    child = 2 * position + 1
    while child < size:
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[position] = heap[child]
        position = child
        child = 2 * position + 1
    heap[position] = key
