"""A binary min-heap of int64 keys in an array: who finishes first."""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined

Longs = NDArray[np.int64]


@inlined
def push(heap: Longs, size: int, key: int) -> None:
    """Add a key to heap[:size]."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap[parent] <= key:
            break
        heap[place] = heap[parent]
        place = parent
    heap[place] = key


@inlined
def pop(heap: Longs, size: int) -> None:
    """Remove the least key, heap[0], from heap[:size]."""
    key = heap[size - 1]
    last = size - 2
    place = 0
    child = 1
    while child <= last:
        if child < last and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= key:
            break
        heap[place] = heap[child]
        place = child
        child = 2 * place + 1
    heap[place] = key
