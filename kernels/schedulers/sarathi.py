"""Sarathi-Serve: decodes first, then prompts in chunks, up to chunk_size tokens a batch."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..exits import Exit
from ..iterations.group import grouped, growth_due
from ..iterations.group_iterations import NO_LIMIT, launch_group
from ..iterations.pipeline_decodes import keep_residents, make_resident
from ..iterations.shortage import is_short, launch_short, preempt_members
from ..memory.admission import admit
from ..memory.blocks import blocks_for, grow, make_room
from ..memory.prefix import blocks_to_take
from ..memory.queues import head, move, sort_by_arrival
from ..replicas.pools import Stages, one_stage, pipeline
from ..replicas.replica import launch
from ..replicas.rounds import go_round
from ..state import (
    ALLOCATED,
    CHUNKED,
    CLOCK,
    FREE,
    GROUP,
    LEFT_OVER,
    NUM_LISTED,
    NUM_RESIDENTS,
    REPLICA,
    RUNNING,
    SKIPPED,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .loop import simulate_plain

GROWS, STATIC, REFUSAL_LASTS = True, False, True


@inlined
def _give_chunks(state: State, limits: Limits, number: int, size: int, beside: int) -> int:
    """Add chunks of prompts whose prefill has begun, the first ``number`` of scratch, to the batch at cursor.

    The batch lists ``size`` requests, and ``beside`` decodes take part besides. Returns the new size. The prompts that
    got no tokens are left in scratch, and their number in cursor.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, chunked = state.requests, state.scratch[0]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    num_tokens, skipped = size + beside, 0
    for i in range(number):
        candidate = chunked[i]
        left = requests.prefill[candidate] - requests.processed[candidate]
        chunk = min(left, limits.chunk_size - num_tokens)
        if chunk <= 0:
            chunked[skipped] = candidate
            skipped += 1
            continue
        request[size], tokens[size] = candidate, chunk
        size += 1
        num_tokens += chunk
    state.cursor[LEFT_OVER] = skipped
    return size


@merged
def _grant(
    state: State, limits: Limits, request: int, cached: int, held: int, size: int, taken: tuple[int, int]
) -> tuple[int, int, tuple[int, int]]:
    """Grant the first chunk of a prompt. ``taken``: decodes beside the listed requests, and tokens of the batch."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    beside, num_tokens = taken
    blocks = blocks_to_take(limits, held, cached)
    if (
        counts[ALLOCATED] == limits.max_num_seqs
        or size + beside == limits.micro_batch_size
        or counts[FREE] - blocks < limits.watermark_blocks
    ):
        return 0, 0, taken
    chunk = min(held - cached, limits.chunk_size - num_tokens)
    return chunk, blocks, (beside, num_tokens + chunk)


@inlined
def _admit(state: State, limits: Limits, size: int, beside: int) -> int:
    """Add first chunks of waiting prompts to the batch at cursor; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    tokens = state.batches.tokens[r, slot]
    num_tokens = beside
    for i in range(size):
        num_tokens += tokens[i]
    return admit(state, limits, size, (beside, num_tokens), _grant)


@inlined
def admit_beside(state: State, limits: Limits, short: bool) -> int:
    """Fill the batch at cursor with chunks of prompts, which run together with the group; returns their number.

    ``short``: room was made for the group, which takes its blocks now even where it runs alone.
    """
    r = state.cursor[REPLICA]
    requests, counts = state.requests, state.replicas.counts[r]
    chunked, scratch = state.replicas.chunked[r], state.scratch[0]
    if counts[WAITING] == 0 and counts[CHUNKED] == 0 and not short:
        return 0
    # Decodes and the blocks they need come first. A group that runs alone takes its blocks itself.
    growth = growth_due(state, limits, r)
    counts[FREE] -= growth
    for i in range(counts[CHUNKED]):
        scratch[i] = chunked[i]
    size = _give_chunks(state, limits, counts[CHUNKED], 0, counts[GROUP])
    skipped = state.cursor[LEFT_OVER]
    for i in range(skipped):
        chunked[i] = scratch[i]
    counts[CHUNKED] = counts[SKIPPED] = skipped
    sort_by_arrival(chunked, skipped, requests.arrived_at)
    size = _admit(state, limits, size, counts[GROUP])
    if size == 0 and not short:
        counts[FREE] += growth
    return size


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns how many requests it lists."""
    if not keep_residents(state, limits, limits.micro_batch_size, GROWS):
        size = form_of_all(state, limits)
        return make_resident(state, limits, size, GROWS) if limits.num_stages > 1 else size
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts, features, scratch = state.replicas.counts[r], state.batches.features[r, slot], state.scratch[0]
    for i in range(features[NUM_LISTED]):
        scratch[i] = state.batches.request[r, slot, i]
    size = _give_chunks(state, limits, features[NUM_LISTED], 0, features[NUM_RESIDENTS])
    counts[RUNNING] = state.cursor[LEFT_OVER]
    for i in range(counts[RUNNING]):
        state.replicas.running[r, i] = scratch[i]
    return _admit(state, limits, size, features[NUM_RESIDENTS])


@inlined
def _refused_from(state: State, limits: Limits) -> int:
    """The number of decodes beside which the first waiting request gets no tokens."""
    counts = state.replicas.counts[state.cursor[REPLICA]]
    if counts[WAITING] > 0:
        blocks = blocks_for(
            state.requests.prefill[head(state.replicas.preempted[state.cursor[REPLICA]], counts)], limits.block_size
        )
        if counts[ALLOCATED] == limits.max_num_seqs or counts[FREE] - blocks < limits.watermark_blocks:
            return 0
    return min(limits.micro_batch_size, limits.chunk_size)


@inlined
def form_of_all(state: State, limits: Limits) -> int:
    """Fill the batch at cursor from all requests that wait to run; returns its size."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    preempted, running = state.replicas.preempted[r], state.replicas.running[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    chunked = state.scratch[0]
    size = num_chunked = 0
    now = state.replicas.times[r, CLOCK]

    low, high = 0, counts[RUNNING]
    while low < high and size < limits.micro_batch_size:
        candidate = running[low]
        low += 1
        if requests.processed[candidate] <= requests.prefill[candidate]:
            # A prompt that was set aside can no longer be preempted, and does not count in the batch's size.
            chunked[num_chunked] = candidate
            num_chunked += 1
            continue
        fits, high = make_room(requests, counts, preempted, running, candidate, low, high, now)
        if fits:
            grow(requests.processed, requests.blocks, counts, limits.num_blocks, limits.block_size, candidate)
            request[size], tokens[size] = candidate, 1
            size += 1
    size = _give_chunks(state, limits, num_chunked, size, 0)
    skipped = state.cursor[LEFT_OVER]
    # Skipped prompts go before the requests not reached; low >= skipped, so nothing is overwritten too early.
    move(running, low, high, running, skipped)
    for i in range(skipped):
        running[i] = chunked[i]
    counts[RUNNING] = skipped + high - low
    sort_by_arrival(running, counts[RUNNING], requests.arrived_at)
    return _admit(state, limits, size, 0)


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    if grouped(state, limits):
        short = is_short(state, limits)
        if short:
            preempt_members(state, cost, limits, False)
        size = admit_beside(state, limits, short)
        if short:
            return launch_short(state, cost, limits, size)
        return launch_group(state, cost, limits, size, True, NO_LIMIT, GROWS, STATIC)
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
