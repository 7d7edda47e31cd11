"""The queue of a user's scheduling function that sorts it before it looks at it: kept in order, request by request.

A request that joins is put where a binary search says, and the shorter side of the queue moves by one place.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import apart
from ..memory.queues import earlier
from .view import place_in, shift_right, sort_by

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

MANY = 1024  # requests that join at a time, from which on the whole queue is sorted


@apart
def shift_left(queue: Ints, first: int, last: int) -> None:
    """Move queue[first:last] by one place towards the beginning."""
    moved = queue[first - 1 : last]
    for i in range(last - first):
        moved[i] = moved[i + 1]


@apart
def insert(queue: Ints, keys: NDArray[Any], first: int, last: int, request: int, front: int) -> tuple[int, int]:
    """Put a request into queue[first:last], which is in order; returns where the queue begins and ends then.

    It may begin at ``front`` or later. There is room for one request behind it.
    """
    place = place_in(queue, keys, first, last, request)
    if place - first < last - place and first > front:
        shift_left(queue, first, place)
        queue[place - 1] = request
        return first - 1, last
    shift_right(queue, place, last)
    queue[place] = request
    return first, last + 1


@apart
def sort_front(queue: Ints, keys: NDArray[Any], first: int, last: int, number: int) -> None:
    """Sort queue[first:last], which is in order but for its first ``number`` requests."""
    for i in range(number - 1, -1, -1):
        request = queue[first + i]
        place = place_in(queue, keys, first + i + 1, last, request)
        shift_left(queue, first + i + 1, place)
        queue[place - 1] = request


@apart
def sort_joined(running: Ints, arrived_at: Floats, first: int, last: int) -> None:
    """Sort running[:last] by arrival, stably, where running[:first] is in order already."""
    for i in range(first, last):
        request = running[i]
        if i == 0 or not earlier(arrived_at, request, running[i - 1]):
            continue
        low, high = 0, i - 1
        while low < high:
            middle = (low + high) // 2
            if earlier(arrived_at, request, running[middle]):
                high = middle
            else:
                low = middle + 1
        shift_right(running, low, i)
        running[low] = request


@apart
def sort_all(queue: Ints, keys: NDArray[Any], first: int, last: int) -> None:
    """Sort queue[first:last]."""
    sort_by(queue[first:last], keys)
