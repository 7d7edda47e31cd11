"""What surrounds a scheduling function of the user's: it is shown its replica, and what it chooses is made so.

The loop itself is written out per function (fastsim/policies/source.py): numba caches no function that is an argument.
"""

from .._jit import inlined
from ..cost import Cost
from ..exits import Exit
from ..iterations.batches import retire
from ..memory.blocks import allocate, blocks_for, grow, preempt
from ..memory.queues import move, sort_by_arrival
from ..replicas.replica import launch
from ..state import (
    ALLOCATED,
    CLOCK,
    COMING,
    FORM_DUE,
    FREE,
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
    Limits,
    State,
)
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
    Desk,
    ReplicaView,
)


@inlined
def ready(state: State, limits: Limits, desk: Desk) -> bool:
    """Bring the queue of the replica at cursor up to date; False when it has no room, and the shell has to give some.

    In front of the queue there is always room for all that may be restarted.
    """
    r = state.cursor[REPLICA]
    counts, queue, ends = state.replicas.counts[r], desk.queue[r], desk.ends[r]
    first, last, slack = ends[0], ends[1], limits.max_num_seqs
    number = counts[WAITING]
    if first < slack or first + number > queue.size:
        start = 2 * slack
        if start + 2 * number > queue.size:
            counts[FORM_DUE] = 1
            desk.trouble[0] = NO_ROOM
            return False
        if start < first:
            move(queue, first, last, queue, start)
        else:
            for i in range(last - first - 1, -1, -1):
                queue[start + i] = queue[first + i]
        first, last = start, start + last - first
    request = counts[HEAD]
    while request != counts[COMING]:
        queue[last] = request
        desk.mark[request] = WAITS
        last += 1
        request = state.requests.next[request]
    counts[HEAD] = request
    ends[0], ends[1] = first, last
    sort_by_arrival(state.replicas.running[r], counts[RUNNING], state.requests.arrived_at)
    return True


@inlined
def view(state: State, limits: Limits, desk: Desk) -> ReplicaView:
    """What the policy sees of the replica at cursor."""
    r = state.cursor[REPLICA]
    counts, first, last = state.replicas.counts[r], desk.ends[r, 0], desk.ends[r, 1]
    joined = last - first - desk.asked[r]
    return ReplicaView(
        state.replicas.times[r, CLOCK],
        desk.queue[r, first:last],
        state.replicas.running[r, : counts[RUNNING]],
        joined,
        desk.arrived_at,
        desk.num_prompt_tokens,
        desk.num_output_tokens,
        desk.prefill,
        desk.processed,
        desk.blocks,
        counts[FREE],
        limits.num_blocks,
        limits.block_size,
        limits.watermark_blocks,
        counts[ALLOCATED],
        limits.max_num_seqs,
        limits.micro_batch_size,
        limits.max_num_batched_tokens,
        limits.chunk_size,
        desk.memo,
        desk.notes[r],
    )


@inlined
def start(state: State, cost: Cost, limits: Limits, desk: Desk, chosen: int) -> int:
    """Start the batch that the policy chose at cursor, ``chosen`` requests in scratch; FAULT when it cannot be."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    size = _place(state, limits, desk, chosen)
    if desk.trouble[0] != FINE:
        return Exit.FAULT
    if size > 0:
        return launch(state, cost, limits, size)
    # Whoever chooses nothing waits for the next arrival. A restart may have made room.
    if counts[IN_FLIGHT] == 0 and counts[RESTARTS] > counts[RESTARTS_BEFORE]:
        counts[FORM_DUE] = 1
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    return Exit.FORM


@inlined
def finish(state: State, cost: Cost, desk: Desk) -> None:
    """End the batch at cursor."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    request, size = state.batches.request[r, slot], state.batches.features[r, slot, NUM_SEQS]
    retire(state, cost)
    left = state.batches.features[r, slot, NUM_SEQS]
    for i in range(size):
        desk.mark[request[i]] = RUNS if i < left else ELSEWHERE


@inlined
def _place(state: State, limits: Limits, desk: Desk, chosen: int) -> int:
    """Put what was chosen and fits into the batch at cursor; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    if chosen < 0 or chosen > state.scratch.shape[1]:
        return _trouble(desk, BAD_SIZE, chosen, state.scratch.shape[1], 0)
    size = num_tokens = admitted = 0
    for i in range(chosen):
        candidate, number = state.scratch[0, i], state.scratch[1, i]
        if candidate < 0 or candidate >= desk.mark.size or requests.replica[candidate] != r:
            return _trouble(desk, NOT_HERE, candidate, r, 0)
        where = desk.mark[candidate]
        if where == RESTARTED:
            continue
        if where != WAITS and where != RUNS:
            return _trouble(desk, TWICE if where == TAKEN else NOT_HERE, candidate, r, 0)
        decodes = requests.processed[candidate] > requests.prefill[candidate]
        most = 1 if decodes else int(requests.prefill[candidate] - requests.processed[candidate])
        if number < 0 or number > most or (number == 0 and where == WAITS):
            return _trouble(desk, BAD_TOKENS, candidate, number, most)
        if number == 0:
            _restart(state, desk, r, candidate)
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
            if not _has_room(state, limits, desk, r, candidate):
                continue
            grow(requests.processed, requests.blocks, counts, limits.num_blocks, limits.block_size, candidate)
        desk.mark[candidate] = TAKEN
        request[size], tokens[size] = candidate, number
        size += 1
        num_tokens += number
    _leave_running(state, desk, r)
    _leave_queue(state, desk, r, admitted)
    return size


@inlined
def _trouble(desk: Desk, why: int, first: int, second: int, third: int) -> int:
    desk.trouble[0], desk.trouble[1], desk.trouble[2], desk.trouble[3] = why, first, second, third
    return 0


@inlined
def _restart(state: State, desk: Desk, r: int, request: int) -> None:
    requests = state.requests
    prompt = max(requests.prefill[request], requests.processed[request])
    preempt(requests, state.replicas.counts[r], state.replicas.preempted[r], request, state.replicas.times[r, CLOCK])
    # Of a prompt that was not complete, all has to be processed, not only what had been.
    requests.prefill[request] = prompt
    desk.mark[request] = RESTARTED


@inlined
def _has_room(state: State, limits: Limits, desk: Desk, r: int, request: int) -> bool:
    """See to the block that a decode needs: the youngest outside the batch restart, itself when it is the youngest."""
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    last = counts[RUNNING] - 1
    if requests.processed[request] <= requests.blocks[request] * limits.block_size:
        return True
    while counts[FREE] < 1:
        while desk.mark[running[last]] != RUNS:
            last -= 1
        victim = running[last]
        _restart(state, desk, r, victim)
        if victim == request:
            return False
    return True


@inlined
def _leave_running(state: State, desk: Desk, r: int) -> None:
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    left = 0
    for i in range(counts[RUNNING]):
        if desk.mark[running[i]] == RUNS:
            running[left] = running[i]
            left += 1
    counts[RUNNING] = left


@inlined
def _leave_queue(state: State, desk: Desk, r: int, admitted: int) -> None:
    """Take the admitted out of the queue and put the restarted in front of it, the last first.

    Those before the last admitted move up, as there are few of them when the first are taken.
    """
    counts, queue, ends = state.replicas.counts[r], desk.queue[r], desk.ends[r]
    first, last, found = ends[0], ends[1], 0
    place = first
    while found < admitted and place < last:
        found += desk.mark[queue[place]] == TAKEN
        place += 1
    if found < admitted:
        _trouble(desk, QUEUE_LOST, 0, 0, 0)
        return
    free = place
    while place > first:
        place -= 1
        if desk.mark[queue[place]] != TAKEN:
            free -= 1
            queue[free] = queue[place]
    counts[WAITING] -= admitted
    desk.asked[r] = last - free
    for i in range(counts[PREEMPTED]):
        free -= 1
        queue[free] = state.replicas.preempted[r, i]
        desk.mark[queue[free]] = WAITS
    counts[PREEMPTED] = 0
    ends[0] = free
