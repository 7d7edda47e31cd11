"""vLLM v0: a batch of whole prompts if one is admitted, else a token for every running request, oldest first."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..exits import Exit
from ..iterations.group import grouped, growth_due
from ..iterations.group_iterations import NO_LIMIT, launch_group
from ..iterations.pipeline_decodes import NEVER, dissolve, keep_residents, make_resident
from ..iterations.shortage import is_short, launch_short, preempt_members
from ..memory.admission import admit
from ..memory.blocks import blocks_for, grow, make_room
from ..memory.prefix import blocks_to_take
from ..memory.queues import head, move, sort_by_arrival
from ..replicas.pools import Stages, one_stage, pipeline
from ..replicas.replica import launch
from ..replicas.rounds import go_round
from ..state import ALLOCATED, CLOCK, FREE, REPLICA, RUNNING, SLOT, WAITING, Limits, State
from ..tables import Cost
from .loop import simulate_plain

GROWS, STATIC, REFUSAL_LASTS = True, False, True


@merged
def _grant(
    state: State, limits: Limits, request: int, cached: int, held: int, size: int, longest: int
) -> tuple[int, int, int]:
    """Grant a prompt as a whole; ``longest`` is the longest of the batch so far, tokens."""
    counts, computed = state.replicas.counts[state.cursor[REPLICA]], held - cached
    blocks = blocks_to_take(limits, held, cached)
    longest = max(longest, computed)
    if (
        counts[FREE] - blocks < limits.watermark_blocks
        # vLLM v0 pads: every prompt counts as the longest.
        or (size + 1) * longest > limits.max_num_batched_tokens
        or counts[ALLOCATED] == limits.max_num_seqs
        or size == limits.micro_batch_size
    ):
        return 0, 0, longest
    return computed, blocks, longest


@inlined
def _admit(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with waiting prompts; returns its size."""
    return admit(state, limits, 0, 0, _grant)


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
def _refused_from(state: State, limits: Limits) -> int:
    """0 where the first waiting request is refused for an empty batch, else more decodes than there are."""
    r = state.cursor[REPLICA]
    counts = state.replicas.counts[r]
    if counts[WAITING] > 0:
        prompt = int(state.requests.prefill[head(state.replicas.preempted[r], counts)])
        short = counts[FREE] - blocks_for(prompt, limits.block_size) < limits.watermark_blocks
        if short or prompt > limits.max_num_batched_tokens or counts[ALLOCATED] == limits.max_num_seqs:
            return 0
    return NEVER


@inlined
def form_of_all(state: State, limits: Limits) -> int:
    """Fill the batch at cursor with waiting prompts, else with decodes, where no decodes are resident."""
    size = _admit(state, limits)
    return size if size > 0 else _form_decodes(state, limits)


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns how many requests it lists."""
    size = _admit(state, limits)
    if size > 0:
        dissolve(state, limits, GROWS)
    elif keep_residents(state, limits, limits.micro_batch_size, GROWS):
        return 0
    else:
        size = _form_decodes(state, limits)
    return make_resident(state, limits, size, GROWS) if limits.num_stages > 1 else size


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    if grouped(state, limits):
        size = _admit(state, limits)
        if size == 0 and is_short(state, limits):
            preempt_members(state, cost, limits, True)
            counts = state.replicas.counts[state.cursor[REPLICA]]
            counts[FREE] -= growth_due(state, limits, state.cursor[REPLICA])
            return launch_short(state, cost, limits, 0)
        return launch_group(state, cost, limits, size, False, NO_LIMIT, GROWS, STATIC)
    code = launch(state, cost, limits, form(state, limits))
    if code == Exit.FORM and limits.num_stages > 1:
        code = go_round(state, cost, limits, limits.micro_batch_size, _refused_from(state, limits), GROWS)
    return code


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    return simulate_plain(state, costs, limits, stages, launch_next, GROWS, STATIC, REFUSAL_LASTS)


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)


@kernel
def run_stages(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate pipelines."""
    return advance(pointed(state), pointed(costs), pointed(limits), pipeline)
