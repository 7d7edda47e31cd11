"""LightLLM: token-level memory; a prompt is admitted when the peak of all that runs will still fit."""

from ._jit import inlined, kernel
from .batches import retire
from .blocks import allocate, grow
from .cost import Cost
from .queues import head, move, pop_head
from .replica import launch
from .route import next_turn
from .state import (
    ALLOCATED,
    ENDED,
    FAULT,
    FORM,
    FREE,
    OUT_OF_MEMORY,
    OUTCOME,
    REPLICA,
    RUNNING,
    SLOT,
    WAITED,
    WAITING,
    Limits,
    Longs,
    State,
)


@inlined
def _insert(remaining: Longs, held: Longs, number: int, tokens_left: int, tokens_held: int) -> None:
    """Keep remaining[:number + 1] in descending order."""
    place = number
    while place > 0 and remaining[place - 1] < tokens_left:
        remaining[place] = remaining[place - 1]
        held[place] = held[place - 1]
        place -= 1
    remaining[place] = tokens_left
    held[place] = tokens_held


@inlined
def _peak(remaining: Longs, held: Longs, number: int) -> int:
    """Most tokens that will be held at once: whoever finishes i-th from last, all before it still grow."""
    peak = total = 0
    for i in range(number):
        total += held[i]
        peak = max(peak, remaining[i] * (i + 1) + total)
    return peak


@inlined
def form_prefill(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with prompts; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, preempted = state.requests, state.replicas.counts[r], state.replicas.preempted[r]
    running = state.replicas.running[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    remaining, held = state.scratch[0], state.scratch[1]
    known = 0
    if counts[WAITING] > 0:
        for i in range(counts[RUNNING]):
            member = running[i]
            tokens_left = requests.total[member] - requests.processed[member] - 1
            _insert(remaining, held, known, max(tokens_left, 0), requests.processed[member])
            known += 1
    size = num_tokens = 0
    while counts[WAITING] > 0:
        candidate = head(preempted, counts)
        prompt = requests.prefill[candidate]
        output = requests.total[candidate] - prompt
        _insert(remaining, held, known, max(output - 2, 0), prompt + 1)
        known += 1
        if (
            _peak(remaining, held, known) >= limits.num_blocks
            or num_tokens + prompt > limits.max_num_batched_tokens
            or counts[ALLOCATED] == limits.max_num_seqs
            or size == limits.micro_batch_size
        ):
            break
        pop_head(requests.next, counts)
        allocate(requests.blocks, counts, limits.num_blocks, candidate, prompt)
        request[size], tokens[size] = candidate, prompt
        num_tokens += prompt
        size += 1
    return size


@inlined
def form_decode(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with all that run; returns its size, 0 when memory does not suffice."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size = counts[RUNNING]
    if counts[FREE] < size:
        counts[OUTCOME] = OUT_OF_MEMORY
        return 0
    for i in range(size):
        grow(requests.processed, requests.blocks, counts, limits.num_blocks, 1, running[i])
        tokens[i] = 1
    move(running, 0, size, request, 0)
    counts[RUNNING] = 0
    counts[WAITED] += 1
    return int(size)


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns its size."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    if counts[RUNNING] == 0:
        size = form_prefill(state, limits)
        if size > 0:
            counts[WAITED] = 0
        return size
    if counts[WAITED] >= limits.max_waiting_iters:
        counts[WAITED] = 0
        size = form_prefill(state, limits)
        if size > 0:
            return size
    return form_decode(state, limits)


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
