"""A binary min-heap of int64 keys in an array, by which the next request to finish is found."""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined

Longs = NDArray[np.int64]


@inlined
def push(heap: Longs, size: int, key: int) -> None:
    """Add a key to heap[:size]."""
    position = size
    while position > 0:
        parent = (position - 1) >> 1
        if heap[parent] <= key:
            break
        heap[position] = heap[parent]
        position = parent
    heap[position] = key


@inlined
def pop(heap: Longs, size: int) -> None:
    """Remove the least key, heap[0], from heap[:size]."""
    key = heap[size - 1]
    last = size - 2
    position = 0
    child = 1
    while child <= last:
        if child < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[position] = heap[child]
        position = child
        child = 2 * position + 1
    heap[position] = key


@inlined
def remove(heap: Longs, size: int, position: int) -> None:
    """Remove the key at a position from heap[:size]."""
    key = heap[size - 1]
    last = size - 2
    if position > last:
        return
    while position > 0 and heap[(position - 1) >> 1] > key:
        heap[position] = heap[(position - 1) >> 1]
        position = (position - 1) >> 1
    child = 2 * position + 1
    while child <= last:
        if child < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[position] = heap[child]
        position = child
        child = 2 * position + 1
    heap[position] = key
