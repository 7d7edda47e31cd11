"""The waiting queue of a replica: restarted requests first, then the requests of its stream in order of arrival."""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined
from ..state import COMING, DIRECT, HEAD, LAST_ARRIVED, LATER, NONE, PREEMPTED, PRESENT, UNSEEN, WAITING, State
from .followers import bring_soonest

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def arrive(state: State, r: int, now: float) -> bool:
    """Queue the requests of a replica's stream that have arrived by ``now``, s; returns whether there was any."""
    arrived_at, following, counts = state.requests.arrived_at, state.requests.next, state.replicas.counts[r]
    request = counts[COMING]
    before = counts[WAITING]
    while request != NONE and arrived_at[request] <= now:
        counts[LAST_ARRIVED] = request
        request = following[request]
        counts[WAITING] += 1
        counts[PRESENT] += 1
        counts[UNSEEN] -= 1
        if state.cursor[DIRECT] and state.cursor[LATER] > 0:
            counts[COMING] = request
            bring_soonest(arrived_at, following, state.later, state.cursor, counts)
            request = counts[COMING]
    counts[COMING] = request
    return bool(counts[WAITING] > before)


@inlined
def head(preempted: Ints, counts: Longs) -> int:
    """The request at the head of a queue that is not empty."""
    return int(preempted[counts[PREEMPTED] - 1]) if counts[PREEMPTED] > 0 else int(counts[HEAD])


@inlined
def pop_head(following: Ints, counts: Longs) -> None:
    """Take the request at the head out of a queue that is not empty. ``following``: Requests.next."""
    if counts[PREEMPTED] > 0:
        counts[PREEMPTED] -= 1
    else:
        counts[HEAD] = following[counts[HEAD]]
    counts[WAITING] -= 1


@inlined
def push_front(preempted: Ints, counts: Longs, request: int) -> None:
    """Put a restarted request at the head of the queue."""
    preempted[counts[PREEMPTED]] = request
    counts[PREEMPTED] += 1
    counts[WAITING] += 1


@inlined
def earlier(arrived_at: Floats, one: int, other: int) -> bool:
    """Whether a request arrived before another; of two that arrived at the same time, neither did."""
    return bool(arrived_at[one] < arrived_at[other])


@inlined
def sort_by_arrival(running: Ints, count: int, arrived_at: Floats) -> None:
    """Sort running[:count] by arrival, stably; requests that are in order already take one pass."""
    for i in range(1, count):
        request = running[i]
        if not earlier(arrived_at, request, running[i - 1]):
            continue
        j = i
        while j > 0 and earlier(arrived_at, request, running[j - 1]):
            running[j] = running[j - 1]
            j -= 1
        running[j] = request


@inlined
def move(source: Ints, first: int, last: int, target: Ints, start: int) -> None:
    """Copy source[first:last] to target[start:], in ascending order; within one array only towards its beginning.

    A slice assignment would allocate memory in case the two overlap, and kernels are compiled without an allocator.
    """
    for i in range(first, last):
        target[start + i - first] = source[i]
