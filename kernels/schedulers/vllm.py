"""vLLM v0: prompts first, whole; else one token for every running request, oldest first."""

from .._jit import inlined, kernel
from ..cost import Cost
from ..iterations.batches import retire
from ..iterations.group import grouped, is_grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group, retire_group
from ..iterations.pipeline_decodes import break_up, retire_standing, stand, stays
from ..memory.blocks import allocate, blocks_for, grow, make_room
from ..memory.queues import head, move, pop_head, sort_by_arrival
from ..replicas.replica import launch
from ..replicas.route import next_turn
from ..replicas.stages import of_one_stage, of_stages
from ..state import ALLOCATED, CLOCK, ENDED, FAULT, FORM, FREE, REPLICA, RUNNING, SLOT, WAITING, Limits, State

GROWS, GANG, PATIENT = True, False, True


@inlined
def admit(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with waiting prompts; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, preempted = state.requests, state.replicas.counts[r], state.replicas.preempted[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size = longest = 0
    while counts[WAITING] > 0:
        candidate = head(preempted, counts)
        prompt = requests.prefill[candidate]
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
        allocate(requests.blocks, counts, limits.num_blocks, candidate, need)
        request[size], tokens[size] = candidate, prompt
        size += 1
    return size


@inlined
def _form_decodes(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with running requests, oldest first; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    preempted, running = state.replicas.preempted[r], state.replicas.running[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size, low, high, now = 0, 0, counts[RUNNING], state.replicas.times[r, CLOCK]
    sort_by_arrival(running, high, requests.arrived_at)
    while low < high and size < limits.micro_batch_size:
        candidate = running[low]
        low += 1
        fits, high = make_room(requests, counts, preempted, running, candidate, low, high, now)
        if fits:
            grow(requests.processed, requests.blocks, counts, limits.num_blocks, limits.block_size, candidate)
            request[size], tokens[size] = candidate, 1
            size += 1
    move(running, low, high, running, 0)
    counts[RUNNING] = high - low
    return size


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns how many it lists."""
    size = admit(state, limits)
    if size > 0:
        break_up(state, limits, GROWS)
    elif stays(state, limits, limits.micro_batch_size, GROWS):
        return 0
    else:
        size = _form_decodes(state, limits)
    return stand(state, limits, size, GROWS) if limits.num_stages > 1 else size


@inlined
def advance(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, cost, limits, GROWS, PATIENT)
        if event == FORM:
            if grouped(state, limits, GROWS):
                size = admit(state, limits)
                code = launch_group(state, cost, limits, size, False, NO_LIMIT, GROWS, GANG)
            else:
                code = launch(state, cost, limits, form(state, limits))
            if code == FAULT:
                return FAULT
        elif event != ENDED:
            return event
        elif is_grouped(state):
            retire_group(state, cost, limits, GROWS, GANG)
        elif limits.num_stages > 1:
            retire_standing(state, cost, limits, GROWS, GANG)
        else:
            retire(state, cost)


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate replicas of one stage."""
    return advance(state, cost, of_one_stage(limits))


@kernel
def run_stages(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate pipelines."""
    return advance(state, cost, of_stages(limits))
