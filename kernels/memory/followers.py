"""Requests that arrive once another has finished: the next turn of a session, or the next request of a closed loop.

When a request finishes, the one that follows it gets its arrival time. It then waits in a heap, State.later, until its
time comes. Where one replica serves all (cursor DIRECT), the soonest of the heap moves on to the replica's own list, so
that the head of that list is always the next request to arrive. Otherwise the router takes requests out of the heap.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..state import (
    COMING,
    DIRECT,
    HEAD,
    HORIZON,
    LAST_ARRIVED,
    LATER,
    NEXT_IN_LOOP,
    NONE,
    PRESENT,
    TAIL,
    UNSEEN,
    Requests,
    State,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

LOOP = -2  # Requests.follower: whichever request of the closed loop is next


@inlined
def depends(requests: Requests) -> bool:
    """Whether some requests arrive only once others have finished."""
    return bool(requests.follower.size > 0)


@inlined
def just_after(time: float) -> float:
    """The least time greater than ``time``, s, which is not negative; infinite after an infinite one."""
    return float(np.int64(np.float64(time + 0.0).view(np.int64) + 1).view(np.float64)) if time < math.inf else time


@inlined
def just_before(time: float) -> float:
    """The greatest time less than ``time``, s, which is positive."""
    return float(np.int64(np.float64(time).view(np.int64) - 1).view(np.float64))


@inlined
def may_arrive_at(state: State, r: int) -> float:
    """When the next request may arrive at a replica, s.

    Where requests follow others and are routed, one may arrive at any replica from just before the horizon.
    """
    coming = state.replicas.counts[r, COMING]
    time = math.inf if coming == NONE else float(state.requests.arrived_at[coming])
    if depends(state.requests) and not state.cursor[DIRECT]:
        time = min(time, just_before(state.moments[HORIZON]))
    return time


@inlined
def held(state: State, now: float) -> bool:
    """Whether a batch that is due at ``now``, s, must wait until all replicas have come so far.

    A request that finishes at that time on any replica may be followed at once by one that can be in the batch.
    """
    waits = depends(state.requests) and not state.cursor[DIRECT]
    return bool(waits and just_after(now) >= state.moments[HORIZON])


@inlined
def finish(state: State, r: int, request: int, now: float) -> None:
    """Finish a request of a replica at ``now``, s, and give the request that follows it, if any, its arrival time."""
    requests, counts = state.requests, state.replicas.counts[r]
    requests.finished_at[request] = now
    counts[PRESENT] -= 1
    if requests.follower.size > 0:
        following, arrived_at = requests.next, requests.arrived_at
        released = requests.follower, requests.think, arrived_at, following
        due = _release(released, state.later, state.cursor, state.moments, request, now)
        if due != NONE and state.cursor[DIRECT]:
            requests.replica[due] = r
            bring_soonest(arrived_at, following, state.later, state.cursor, counts)


@apart
def _release(
    streams: tuple[Ints, Floats, Floats, Ints], later: Ints, cursor: Longs, moments: Floats, request: int, now: float
) -> int:
    """Set when the request arrives that follows a finished one; returns it, or NONE when none follows.

    ``streams``: follower, think, arrived_at and next of Requests. No replica is advanced beyond the arrival.
    """
    follower, think, arrived_at, following = streams
    due = int(follower[request])
    if due == LOOP:
        due = int(cursor[NEXT_IN_LOOP])
        if due != NONE:
            cursor[NEXT_IN_LOOP] = following[due]
    if due == NONE:
        return NONE
    time = now + think[due]
    # What was there before is when its client wants to send it, or NaN.
    arrived_at[due] = arrived_at[due] if arrived_at[due] > time else time
    _push(later, cursor, arrived_at, due)
    if not cursor[DIRECT]:
        moments[HORIZON] = min(moments[HORIZON], just_after(arrived_at[due]))
    return due


@inlined
def comes_before(arrived_at: Floats, one: int, other: int) -> bool:
    """Whether a request arrives before another; of two that arrive at the same time, the one with the lower id does."""
    return bool(arrived_at[one] < arrived_at[other] or (arrived_at[one] == arrived_at[other] and one < other))


@apart
def _push(later: Ints, cursor: Longs, arrived_at: Floats, request: int) -> None:
    """Add a request to the heap of those that are to arrive."""
    position = int(cursor[LATER])
    cursor[LATER] += 1
    while position > 0:
        parent = (position - 1) >> 1
        if comes_before(arrived_at, later[parent], request):
            break
        later[position] = later[parent]
        position = parent
    later[position] = request


@apart
def pop_soonest(later: Ints, cursor: Longs, arrived_at: Floats) -> int:
    """Take the soonest request out of a heap that is not empty."""
    soonest = int(later[0])
    cursor[LATER] -= 1
    number = int(cursor[LATER])
    request, position, child = later[number], 0, 1
    while child < number:
        if child + 1 < number and comes_before(arrived_at, later[child + 1], later[child]):
            child += 1
        if comes_before(arrived_at, request, later[child]):
            break
        later[position] = later[child]
        position = child
        child = 2 * position + 1
    later[position] = request
    return soonest


@apart
def bring_soonest(arrived_at: Floats, following: Ints, later: Ints, cursor: Longs, counts: Longs) -> None:
    """Move the soonest request of the heap to the replica's list if it arrives before all that are to come there."""
    coming = counts[COMING]
    if cursor[LATER] == 0 or (coming != NONE and comes_before(arrived_at, coming, later[0])):
        return
    request = pop_soonest(later, cursor, arrived_at)
    following[request] = coming
    if counts[HEAD] == coming:
        counts[HEAD] = request
    else:
        following[counts[LAST_ARRIVED]] = request
    if coming == NONE:
        counts[TAIL] = request
    counts[COMING] = request
    counts[UNSEEN] += 1
