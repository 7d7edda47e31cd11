"""A rank whose group decodes alone, or that has no requests: each pass gives the members a token each and no more.

How many passes that is so is known when the first is formed, unless a request arrives or another finishes before. Until
then a pass is a few additions; the blocks that the group takes leave the list of free ones when that ends.
"""

from .._jit import inlined
from ..accounts.counts import count_batch
from ..engine.group_blocks import cache_in_order
from ..engine.state import CALLS, LINKED, OLDEST, REFUSED, UNANNOUNCED
from ..iterations.group import ID_BITS
from ..memory.paged import take_free
from ..state import (
    CLOCK,
    DECODE_KV,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HOST,
    IDLE,
    IN_FLIGHT,
    ITERATIONS,
    LAST_END,
    LONGEST,
    LONGEST_KV,
    NUM_CACHED,
    NUM_DECODES,
    NUM_LISTED,
    NUM_PREEMPTED,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OTHER,
    PEAK,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    PRESENT,
    RUNNING,
    SUM_HOST,
    SUM_OTHER,
    TOKENS,
    WAITING,
    WORK,
    WORK_LOW,
    Limits,
    State,
)
from .state import OWED, STEADY_FROM, STEADY_UNTIL

FOR_EVER = 1 << 62


@inlined
def is_steady_in(state: State, r: int, call: int) -> bool:
    """Whether the pass of that number gives the group of a rank a token each and no more."""
    return bool(call < state.ranks.counts[r, STEADY_UNTIL])


@inlined
def become_steady(state: State, limits: Limits, r: int, slot: int, call: int) -> None:
    """Find out after pass ``call``, whose batch is in a slot, how many of the following are steady."""
    counts, own, mine = state.replicas.counts[r], state.engine.counts[r], state.ranks.counts[r]
    mine[STEADY_UNTIL] = 0
    mine[STEADY_FROM], mine[OWED] = counts[GROUP_STEP], 0
    if state.log.start.size > 0 or own[UNANNOUNCED]:
        return
    if counts[PRESENT] == 0:
        mine[STEADY_UNTIL] = FOR_EVER
        return
    refused = counts[WAITING] == 0 or (own[REFUSED] > 0 and own[LINKED] == 0)
    if counts[RUNNING] > 0 or counts[GROUP] == 0 or counts[GROUP] > limits.max_num_batched_tokens or not refused:
        return
    mine[STEADY_UNTIL] = call + 1 + _steps(state, limits, r)


@inlined
def _steps(state: State, limits: Limits, r: int) -> int:
    """How many steps the group may take before a member leaves it, or blocks are short."""
    counts, growth, size = state.replicas.counts[r], state.replicas.growth[r], limits.block_size
    step, free = int(counts[GROUP_STEP]), int(counts[FREE])
    last = int(state.replicas.heap[r, 0] >> ID_BITS) - 1
    if counts[GROUP] * ((last - step) // size + 1) <= free:
        return last - step
    first = step
    while step < last and growth[step % size] <= free:
        free -= int(growth[step % size])
        step += 1
    return step - first


@inlined
def form_steady(state: State, limits: Limits, r: int, slot: int) -> None:
    """Form the batch of a rank in a steady pass."""
    counts, features, number = (
        state.replicas.counts[r],
        state.batches.features[r, slot],
        state.replicas.counts[r, GROUP],
    )
    need = state.replicas.growth[r, counts[GROUP_STEP] % limits.block_size]
    counts[FREE] -= need
    state.ranks.counts[r, OWED] += need
    state.engine.counts[r, CALLS] += 1
    if features[NUM_LISTED] > 0 or features[NUM_RESIDENTS] != number or features[NUM_TOKENS] != number:
        features[NUM_SEQS] = features[NUM_TOKENS] = features[NUM_DECODES] = features[NUM_SAMPLED] = number
        features[NUM_RESIDENTS] = number
        features[NUM_LISTED] = features[NUM_PREFILLS] = features[NUM_PREFILL_TOKENS] = 0
        features[PREFILL_KV] = features[PREFILL_SQUARES] = features[PREFILL_PAIRS] = 0
        features[NUM_PREEMPTED] = features[NUM_CACHED] = 0
        state.batches.layers_ms[r, slot] = 0.0
    features[DECODE_KV] = counts[GROUP_KV] if number > 0 else 0
    features[LONGEST_KV] = counts[LONGEST] + counts[GROUP_STEP] if number > 0 else 0
    counts[GROUP_STEP] += 1
    if number > 0:
        counts[GROUP_KV] += number
        counts[TOKENS] += number
        counts[ITERATIONS] += 1
        count_batch(state, r, slot)


@inlined
def catch_up_steady(state: State, limits: Limits, f: int, r: int) -> None:
    """Bring a rank up to date after steady passes, before anything else happens on it; ``f``: row of its replica."""
    counts, mine, batches = state.replicas.counts[r], state.ranks.counts[r], state.batches
    mine[STEADY_UNTIL] = 0
    first, last = int(mine[STEADY_FROM]), int(counts[GROUP_STEP])
    if first == last:
        return
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    if limits.engine.prefix_caching and counts[GROUP] > 0:
        counts[FREE] += mine[OWED]
        take_free(state, limits, r, int(mine[OWED]))
        cache_in_order(state, limits, r, first, last, limits.engine.depth - 1, 0)
    mine[STEADY_FROM], mine[OWED] = last, 0
    oldest = state.engine.counts[f, OLDEST]
    for i in range(state.replicas.counts[f, IN_FLIGHT]):
        place = (oldest + i) % limits.engine.depth
        batches.seconds[r, place], batches.on_stage[r, place] = batches.seconds[f, place], batches.on_stage[f, place]
        batches.sums[r, place, SUM_HOST] = batches.sums[f, place, SUM_HOST]
        batches.sums[r, place, SUM_OTHER] = batches.sums[f, place, SUM_OTHER]


@inlined
def follow(state: State, f: int, r: int) -> None:
    """Let a rank have the clock of its replica, and the sums over the steps so far.

    The requests that decode in each step get the differences, and a step takes the same time on all ranks.
    """
    times, mine = state.replicas.times[f], state.replicas.times[r]
    mine[CLOCK], mine[LAST_END] = times[CLOCK], times[LAST_END]
    mine[WORK], mine[WORK_LOW] = times[WORK], times[WORK_LOW]
    mine[IDLE], mine[HOST], mine[OTHER] = times[IDLE], times[HOST], times[OTHER]
    state.engine.counts[r, OLDEST] = state.engine.counts[f, OLDEST]
    state.replicas.counts[r, IN_FLIGHT] = state.replicas.counts[f, IN_FLIGHT]
