"""The requests that a user's scheduling function sees: those that wait, in the order that it gives them, and those
that run, in order of arrival.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..memory.queues import move
from ..state import (
    COMING,
    FORM_DUE,
    FRESH,
    GROUP,
    GROUPED,
    HEAD,
    PREEMPTED,
    REPLICA,
    RUNNING,
    WAITING,
    Floats,
    Ints,
    Limits,
    Longs,
    State,
)
from .order import MANY, insert, shift_left, sort_all, sort_front, sort_joined
from .view import ELSEWHERE, NO_ROOM, QUEUE_LOST, TAKEN, WAITS, SchedulerState, refuse


@inlined
def refresh_queue(state: State, limits: Limits, policy: SchedulerState) -> bool:
    """Bring the queue of the replica at cursor up to date; False when the shell has to give it more room."""
    if not _has_room_for_all(state, limits, policy):
        return False
    r = state.cursor[REPLICA]
    counts, queue, ends = state.replicas.counts[r], policy.queue[r], policy.ends[r]
    request, last = counts[HEAD], ends[1]
    while request != counts[COMING]:
        queue[last] = request
        policy.status[request] = WAITS
        last += 1
        request = state.requests.next[request]
    counts[HEAD] = request
    ends[1] = last
    _refresh_running(state, policy)
    return True


@inlined
def refresh_ordered(state: State, limits: Limits, policy: SchedulerState, keys: NDArray[Any]) -> bool:
    """The same for a function that sorts the queue by ``keys`` before it looks at it, as soon as requests have joined.

    A key does not change while a request waits. So all but those that have joined are in order.
    """
    if not _has_room_for_all(state, limits, policy):
        return False
    r = state.cursor[REPLICA]
    counts, queue, ends = state.replicas.counts[r], policy.queue[r], policy.ends[r]
    first, last = ends[0], ends[1]
    restarted = last - first - policy.queue_length[r]
    if restarted > 0:
        sort_front(queue, keys, first, last, restarted)
    joined = counts[WAITING] - (last - first)
    request = counts[HEAD]
    while request != counts[COMING]:
        if joined < MANY:
            first, last = insert(queue, keys, first, last, request, limits.max_num_seqs)
        else:
            queue[last] = request
            last += 1
        policy.status[request] = WAITS
        request = state.requests.next[request]
    if joined >= MANY:
        sort_all(queue, keys, first, last)
    counts[HEAD] = request
    ends[0], ends[1] = first, last
    _refresh_running(state, policy)
    return True


@inlined
def _has_room_for_all(state: State, limits: Limits, policy: SchedulerState) -> bool:
    """Move the queue of the replica at cursor so that all that wait have room; False when the shell has to make some.

    In front of the queue there is always room for all requests that may be restarted.
    """
    r = state.cursor[REPLICA]
    counts, queue, ends = state.replicas.counts[r], policy.queue[r], policy.ends[r]
    first, last, slack = ends[0], ends[1], limits.max_num_seqs
    number = counts[WAITING]
    if first < slack or first + number > queue.size:
        start = 2 * slack
        if start + 2 * number > queue.size:
            counts[FORM_DUE] = 1
            policy.trouble[0] = NO_ROOM
            return False
        if start < first:
            move(queue, first, last, queue, start)
        else:
            for i in range(last - first - 1, -1, -1):
                queue[start + i] = queue[first + i]
        ends[0], ends[1] = start, start + last - first
    return True


@inlined
def _refresh_running(state: State, policy: SchedulerState) -> None:
    """Bring the running requests of the replica at cursor into order of arrival, without those that have finished."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    first = 0
    if counts[GROUPED]:
        _drop_finished(running, counts, state.requests.finished_at, policy.status)
        first = max(0, counts[RUNNING] - counts[FRESH])  # only those behind have joined
    sort_joined(running, state.requests.arrived_at, first, counts[RUNNING])


@apart
def _drop_finished(running: Ints, counts: Longs, finished_at: Floats, status: NDArray[np.int8]) -> None:
    """Remove the members of the group that have finished from the running requests."""
    finished, i = counts[RUNNING] - counts[GROUP], 0
    while finished > 0:
        request = running[i]
        if finished_at[request] >= 0.0:
            status[request] = ELSEWHERE
            shift_left(running, i + 1, counts[RUNNING])
            counts[RUNNING] -= 1
            finished -= 1
        else:
            i += 1


@inlined
def leave_queue(state: State, policy: SchedulerState, r: int, admitted: int) -> None:
    """Take the admitted requests out of the queue and put the restarted ones in front of it, the last restart first.

    Requests before the last admitted one move towards it: they are few when the policy admits from the front.
    """
    counts, queue, ends = state.replicas.counts[r], policy.queue[r], policy.ends[r]
    first, last, taken = ends[0], ends[1], 0
    i = first
    while taken < admitted and i < last:
        taken += policy.status[queue[i]] == TAKEN
        i += 1
    if taken < admitted:
        refuse(policy, QUEUE_LOST, 0, 0, 0)
        return
    front = i
    while i > first:
        i -= 1
        if policy.status[queue[i]] != TAKEN:
            front -= 1
            queue[front] = queue[i]
    counts[WAITING] -= admitted
    policy.queue_length[r] = last - front
    for k in range(counts[PREEMPTED]):
        front -= 1
        queue[front] = state.replicas.preempted[r, k]
        policy.status[queue[front]] = WAITS
    counts[PREEMPTED] = 0
    ends[0] = front
