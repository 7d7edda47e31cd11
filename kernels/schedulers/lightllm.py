"""LightLLM: token-level memory; a prompt is admitted when the peak of all that runs will still fit."""

from .._jit import inlined, kernel
from ..cost import Cost
from ..iterations.group import grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group, retire_group
from ..memory.blocks import allocate
from ..memory.queues import head, pop_head
from ..replicas.route import next_turn
from ..replicas.stages import of_one_stage
from ..state import (
    ALLOCATED,
    ENDED,
    FAULT,
    FORM,
    FREE,
    GROUP,
    GROUP_STEP,
    ITERATIONS,
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

GROWS, GANG, PATIENT = True, False, False


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
            if requests.finished_at[member] >= 0.0:
                continue
            processed = requests.processed[member] + counts[GROUP_STEP]
            _insert(remaining, held, known, max(requests.total[member] - processed - 1, 0), processed)
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
def _form(state: State, cost: Cost, limits: Limits) -> int:
    """Start prompts, or a decode iteration of all that run and, while nothing is to be decided, those after it."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    size = 0
    if counts[GROUP] == 0:
        size = form_prefill(state, limits)
    elif counts[WAITED] >= limits.max_waiting_iters:
        counts[WAITED] = 0
        size = form_prefill(state, limits)
    if size > 0:
        counts[WAITED] = 0
    elif counts[FREE] < counts[GROUP]:
        counts[OUTCOME] = OUT_OF_MEMORY
        return FORM
    most = max(1, limits.max_waiting_iters - counts[WAITED]) if counts[WAITING] > 0 else NO_LIMIT
    before = counts[ITERATIONS]
    code = launch_group(state, cost, limits, size, False, most, GROWS, GANG)
    decodes = counts[ITERATIONS] - before
    if size == 0 and decodes > 0:
        # The counter starts anew whenever it has reached its end, also when nobody waits.
        again = max(1, limits.max_waiting_iters)
        counts[WAITED] = (counts[WAITED] + decodes - 1) % again + 1
    return code


@inlined
def advance(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, cost, limits, GROWS, PATIENT)
        if event == FORM:
            # Nobody is ever preempted, so decodes are always a group.
            if grouped(state, limits, False) and _form(state, cost, limits) == FAULT:
                return FAULT
        elif event == ENDED:
            retire_group(state, cost, limits, GROWS, GANG)
        else:
            return event


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate replicas of one stage."""
    return advance(state, cost, of_one_stage(limits))
