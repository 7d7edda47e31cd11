"""The parts around a user's scheduling function: the view it gets of its replica, and the batch made of its choice.

The loop itself is written out for each function, because Numba caches no kernel that takes a function as argument.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..exits import Exit
from ..iterations.batches import retire
from ..memory.blocks import allocate, blocks_for, grow, preempt
from ..memory.queues import move
from ..replicas.replica import launch
from ..state import (
    ALLOCATED,
    CLOCK,
    COMING,
    FORM_DUE,
    FREE,
    FRESH,
    GROUP,
    GROUPED,
    HEAD,
    IN_FLIGHT,
    NUM_SEQS,
    PREEMPTED,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SLOT,
    WAITING,
    Floats,
    Ints,
    Limits,
    Longs,
    State,
)
from ..tables import Cost
from .order import MANY, insert, shift_left, sort_all, sort_front, sort_joined
from .view import (
    BAD_SIZE,
    BAD_TOKENS,
    ELSEWHERE,
    FINE,
    NO_ROOM,
    NOT_HERE,
    QUEUE_LOST,
    RESTARTED,
    RUNS,
    TAKEN,
    TWICE,
    WAITS,
    ReplicaView,
    SchedulerState,
)


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
def replica_view(state: State, limits: Limits, policy: SchedulerState) -> ReplicaView:
    """The view of the replica at cursor that the policy gets."""
    r = state.cursor[REPLICA]
    counts, first, last = state.replicas.counts[r], policy.ends[r, 0], policy.ends[r, 1]
    joined = last - first - policy.queue_length[r]
    return ReplicaView(
        state.replicas.times[r, CLOCK],
        policy.queue[r, first:last],
        state.replicas.running[r, : counts[RUNNING]],
        joined,
        policy.arrived_at,
        policy.num_prompt_tokens,
        policy.num_output_tokens,
        policy.prefill,
        policy.processed,
        policy.blocks,
        counts[FREE],
        limits.num_blocks,
        limits.block_size,
        limits.watermark_blocks,
        counts[ALLOCATED],
        limits.max_num_seqs,
        limits.micro_batch_size,
        limits.max_num_batched_tokens,
        limits.chunk_size,
        policy.memo,
        policy.notes[r],
    )


@inlined
def start_chosen(state: State, cost: Cost, limits: Limits, policy: SchedulerState, chosen: int) -> int:
    """Start the batch of the ``chosen`` requests that the policy put into scratch; FAULT when it cannot be formed."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    size = _apply_choice(state, limits, policy, chosen)
    if policy.trouble[0] != FINE:
        return Exit.FAULT
    if size > 0:
        return launch(state, cost, limits, size)
    # A policy that chooses nothing waits for the next arrival, unless a restart may have made room.
    if counts[IN_FLIGHT] == 0 and counts[RESTARTS] > counts[RESTARTS_BEFORE]:
        counts[FORM_DUE] = 1
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    return Exit.FORM


@inlined
def end_chosen(state: State, cost: Cost, policy: SchedulerState) -> None:
    """End the batch at cursor."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    request, size = state.batches.request[r, slot], state.batches.features[r, slot, NUM_SEQS]
    retire(state, cost)
    left = state.batches.features[r, slot, NUM_SEQS]
    for i in range(size):
        policy.status[request[i]] = RUNS if i < left else ELSEWHERE


@inlined
def _apply_choice(state: State, limits: Limits, policy: SchedulerState, chosen: int) -> int:
    """Put the chosen requests that fit into the batch at cursor; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    if chosen < 0 or chosen > state.scratch.shape[1]:
        return refuse(policy, BAD_SIZE, chosen, state.scratch.shape[1], 0)
    size = num_tokens = admitted = 0
    for i in range(chosen):
        candidate, number = state.scratch[0, i], state.scratch[1, i]
        if candidate < 0 or candidate >= policy.status.size or requests.replica[candidate] != r:
            return refuse(policy, NOT_HERE, candidate, r, 0)
        where = policy.status[candidate]
        if where == RESTARTED:
            continue
        if where != WAITS and where != RUNS:
            return refuse(policy, TWICE if where == TAKEN else NOT_HERE, candidate, r, 0)
        decodes = requests.processed[candidate] > requests.prefill[candidate]
        most = 1 if decodes else int(requests.prefill[candidate] - requests.processed[candidate])
        if number < 0 or number > most or (number == 0 and where == WAITS):
            return refuse(policy, BAD_TOKENS, candidate, number, most)
        if number == 0:
            _restart(state, policy, r, candidate)
            continue
        if size == limits.micro_batch_size or num_tokens + number > limits.max_num_batched_tokens:
            continue
        if where == WAITS:
            need = blocks_for(requests.prefill[candidate], limits.block_size)
            if counts[FREE] - need < limits.watermark_blocks or counts[ALLOCATED] == limits.max_num_seqs:
                continue
            allocate(requests.blocks, counts, limits.num_blocks, candidate, need)
            admitted += 1
        elif decodes:
            if not _has_room(state, limits, policy, r, candidate):
                continue
            grow(requests.processed, requests.blocks, counts, limits.num_blocks, limits.block_size, candidate)
        policy.status[candidate] = TAKEN
        request[size], tokens[size] = candidate, number
        size += 1
        num_tokens += number
    _leave_running(state, policy, r)
    leave_queue(state, policy, r, admitted)
    return size


@inlined
def refuse(policy: SchedulerState, why: int, first: int, second: int, third: int) -> int:
    """Record what is wrong with a choice, and numbers about it; returns 0, the size of a batch that is not formed."""
    policy.trouble[0], policy.trouble[1], policy.trouble[2], policy.trouble[3] = why, first, second, third
    return 0


@inlined
def _restart(state: State, policy: SchedulerState, r: int, request: int) -> None:
    """Preempt a request, which starts again from its prompt and its output so far."""
    requests = state.requests
    prompt = max(requests.prefill[request], requests.processed[request])
    preempt(requests, state.replicas.counts[r], state.replicas.preempted[r], request, state.replicas.times[r, CLOCK])
    # A prompt that was not complete has to be processed as a whole, not only as far as it had been.
    requests.prefill[request] = prompt
    policy.status[request] = RESTARTED


@inlined
def _has_room(state: State, limits: Limits, policy: SchedulerState, r: int, request: int) -> bool:
    """Make room for the block that a decode needs: the latest arrivals outside the batch restart, at last itself."""
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    last = counts[RUNNING] - 1
    if requests.processed[request] <= requests.blocks[request] * limits.block_size:
        return True
    while counts[FREE] < 1:
        while policy.status[running[last]] != RUNS:
            last -= 1
        victim = running[last]
        _restart(state, policy, r, victim)
        if victim == request:
            return False
    return True


@inlined
def _leave_running(state: State, policy: SchedulerState, r: int) -> None:
    """Remove the requests that no longer run from the running ones."""
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    left = 0
    for i in range(counts[RUNNING]):
        if policy.status[running[i]] == RUNS:
            running[left] = running[i]
            left += 1
    counts[RUNNING] = left


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
