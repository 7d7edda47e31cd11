"""vLLM v0: prompts first, whole; else one token for every running request, oldest first."""

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
    size = longest = 0
    while counts[WAITING] > 0:
        candidate = head(preempted, counts)
        prompt = prefill[candidate]
        need = blocks_for(prompt, limits.block_size)
        longest = max(longest, prompt)
        if (
            counts[FREE] - need < limits.watermark_blocks
            # vLLM v0 pads: every prompt counts as the longest.
            or (size + 1) * longest > limits.max_num_batched_tokens
            or counts[ALLOCATED] == limits.max_num_seqs
            or size == limits.micro_batch_size
        ):
            break
        pop_head(requests.next, counts)
        allocate(blocks, counts, limits.num_blocks, candidate, need)
        request[size], tokens[size] = candidate, prompt
        size += 1
    if size > 0:
        return size

    low, high = 0, counts[RUNNING]
    sort_by_arrival(running, high, requests.arrived_at)
    while low < high and size < limits.micro_batch_size:
        candidate = running[low]
        low += 1
        fits, high = make_room(requests, counts, preempted, running, candidate, low, high)
        if fits:
            grow(processed, blocks, counts, limits.num_blocks, limits.block_size, candidate)
            request[size], tokens[size] = candidate, 1
            size += 1
    move(running, low, high, running, 0)
    counts[RUNNING] = high - low
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
