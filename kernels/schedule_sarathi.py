"""Sarathi-Serve: decodes first, then prompts in chunks, up to chunk_size tokens a batch."""

from ._jit import inlined, kernel
from .batches import retire
from .blocks import allocate, blocks_for, grow, make_room
from .cost import Cost
from .queues import head, move, pop_head, sort_by_arrival
from .replica import launch
from .route import next_turn
from .state import ALLOCATED, ENDED, FAULT, FORM, FREE, REPLICA, RUNNING, SLOT, WAITING, Limits, State


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    prefill, processed, blocks = requests.prefill, requests.processed, requests.blocks
    preempted, running = state.replicas.preempted[r], state.replicas.running[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    chunked = state.scratch[0]
    size = num_chunked = num_tokens = 0

    low, high = 0, counts[RUNNING]
    while low < high and size < limits.micro_batch_size:
        candidate = running[low]
        low += 1
        if processed[candidate] <= prefill[candidate]:
            # Out of reach of preemption, and not counted in the batch's size.
            chunked[num_chunked] = candidate
            num_chunked += 1
            continue
        fits, high = make_room(requests, counts, preempted, running, candidate, low, high)
        if fits:
            grow(processed, blocks, counts, limits.num_blocks, limits.block_size, candidate)
            request[size], tokens[size] = candidate, 1
            size += 1
    num_tokens = size

    num_skipped = 0
    for i in range(num_chunked):
        candidate = chunked[i]
        chunk = min(prefill[candidate] - processed[candidate], limits.chunk_size - num_tokens)
        if chunk <= 0:
            chunked[num_skipped] = candidate
            num_skipped += 1
            continue
        request[size], tokens[size] = candidate, chunk
        size += 1
        num_tokens += chunk

    # Those skipped go before those not reached; low >= num_skipped, so nothing is overwritten too early.
    move(running, low, high, running, num_skipped)
    for i in range(num_skipped):
        running[i] = chunked[i]
    counts[RUNNING] = num_skipped + high - low
    sort_by_arrival(running, counts[RUNNING], requests.arrived_at)

    while counts[WAITING] > 0:
        candidate = head(preempted, counts)
        need = blocks_for(prefill[candidate], limits.block_size)
        chunk = min(prefill[candidate], limits.chunk_size - num_tokens)
        if (
            counts[ALLOCATED] == limits.max_num_seqs
            or size == limits.micro_batch_size
            or counts[FREE] - need < limits.watermark_blocks
            or chunk <= 0
        ):
            break
        pop_head(requests.next, counts)
        allocate(blocks, counts, limits.num_blocks, candidate, need)
        request[size], tokens[size] = candidate, chunk
        size += 1
        num_tokens += chunk
    return size


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, cost, limits)
        if event == FORM:
            if launch(state, cost, limits, form(state, limits)) == FAULT:
                return FAULT
        elif event == ENDED:
            retire(state)
        else:
            return event
