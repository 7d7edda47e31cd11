"""The parts around a user's scheduling function: the view it gets of its replica, and the batch made of its choice.

The loop itself is written out for each function, because Numba caches no kernel that takes a function as argument.
"""

from .._jit import inlined
from ..exits import Exit
from ..iterations.batches import retire
from ..memory.blocks import allocate, blocks_for, grow, preempt
from ..replicas.replica import launch
from ..state import (
    ALLOCATED,
    CLOCK,
    FORM_DUE,
    FREE,
    IN_FLIGHT,
    NUM_SEQS,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SLOT,
    Limits,
    State,
)
from ..tables import Cost
from .queue import leave_queue
from .view import (
    BAD_SIZE,
    BAD_TOKENS,
    ELSEWHERE,
    FINE,
    NOT_HERE,
    RESTARTED,
    RUNS,
    TAKEN,
    TWICE,
    WAITS,
    ReplicaView,
    SchedulerState,
    refuse,
)


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
