"""What detail keeps beside requests: batches by size, work in integers, and series over time.

Time is counted in ticks since the first arrival and bins are powers of two of them, so all is integer: sums are exact,
whatever the order, however a run of iterations is cut, on any number of threads.
"""

from .._jit import apart, inlined
from ..state import (
    CLOCK,
    DECODE_KV,
    FREE,
    NUM_DECODES,
    NUM_PREFILL_TOKENS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    ORIGIN,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    PRESENT,
    SHIFT,
    WAITING,
    Limits,
    Longs,
    State,
)
from .breakdown import detailed
from .histogram import bin_of, size_bin

TICKS = 1048576.0  # per s
FIRST_SHIFT = 10  # a bin has 2 ** (FIRST_SHIFT + folds) ticks, at first a millisecond
BINS = 256

# Columns of Replicas.series; the first three are levels, in their unit times ticks.
BUSY, RUNNING_SERIES, KV, PREFILL_TOKENS, DECODE_TOKENS, NUM_SERIES = range(6)

# Columns of Replicas.sums, over all members of all batches: n tokens after p processed ones.
SQUARES, PAIRS, SAMPLED, NUM_SUMS = range(4)  # n * n; n * p; output tokens


@inlined
def ticks_at(state: State, time: float) -> int:
    """A time of the clock, s, in ticks since the first arrival."""
    return int((time - state.moments[ORIGIN]) * TICKS)


@apart
def fold(series: Longs, counts: Longs, ticks: int) -> None:
    """Fold the bins of a replica by two until there is one for a tick."""
    while ticks >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
        counts[SHIFT] += 1
        for column in range(NUM_SERIES):
            for place in range(BINS // 2):
                series[place, column] = series[2 * place, column] + series[2 * place + 1, column]
            for place in range(BINS // 2, BINS):
                series[place, column] = 0


@apart
def spread(series: Longs, counts: Longs, first: int, last: int, busy: int, running: int, blocks: int) -> None:
    """Add levels that hold from tick ``first`` to ``last`` to the bins of a replica in between."""
    while first < last:
        fold(series, counts, first)
        shift = counts[SHIFT] + FIRST_SHIFT
        place = first >> shift
        until = min(last, (place + 1) << shift)
        series[place, BUSY] += busy * (until - first)
        series[place, RUNNING_SERIES] += running * (until - first)
        series[place, KV] += blocks * (until - first)
        first = until


@inlined
def bin_at(state: State, r: int, ticks: int) -> int:
    """The bin of a tick on a replica, whose bins fold until it has one."""
    counts = state.replicas.counts[r]
    if ticks >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
        fold(state.replicas.series[r], counts, ticks)
    return int(ticks >> (counts[SHIFT] + FIRST_SHIFT))


@inlined
def bin_end(state: State, r: int, place: int) -> int:
    """The tick at which a bin ends."""
    return int((place + 1) << (state.replicas.counts[r, SHIFT] + FIRST_SHIFT))


@inlined
def count_time(state: State, limits: Limits, r: int, busy: int, until: float) -> None:
    """Count what a replica holds from its clock ``until``, s, while so many of its stages are ``busy``."""
    if detailed(state.requests) and busy > 0:
        counts = state.replicas.counts[r]
        running, blocks = counts[PRESENT] - counts[WAITING], limits.num_blocks - counts[FREE]
        first, last = ticks_at(state, state.replicas.times[r, CLOCK]), ticks_at(state, until)
        spread(state.replicas.series[r], counts, first, last, busy, running, blocks)


@inlined
def count_stage(state: State, seconds: float) -> None:
    """Count a batch on a stage by its time."""
    if detailed(state.requests):
        state.tally.batch_seconds[bin_of(seconds)] += 1


@inlined
def count_batch(state: State, r: int, slot: int) -> None:
    """Count the batch that starts at the clock."""
    if detailed(state.requests):
        features, tally, sums = state.batches.features[r, slot], state.tally, state.replicas.sums[r]
        decodes, prefill_tokens = features[NUM_DECODES], features[NUM_PREFILL_TOKENS]
        tally.batch_size[features[NUM_SEQS]] += 1
        tally.batch_decodes[decodes] += 1
        tally.batch_tokens[size_bin(features[NUM_TOKENS])] += 1
        tally.batch_prefill_tokens[size_bin(prefill_tokens)] += 1
        sums[SQUARES] += decodes + features[PREFILL_SQUARES]
        sums[PAIRS] += features[DECODE_KV] + features[PREFILL_PAIRS]
        sums[SAMPLED] += features[NUM_SAMPLED]
        place = bin_at(state, r, ticks_at(state, state.replicas.times[r, CLOCK]))
        state.replicas.series[r, place, PREFILL_TOKENS] += prefill_tokens
        state.replicas.series[r, place, DECODE_TOKENS] += decodes


@inlined
def count_run(state: State, r: int, place: int, number: int, started: int, decode_kv: int) -> None:
    """Count ``started`` batches of the same ``number`` of decodes, whose KV was ``decode_kv`` in the first."""
    tally, sums = state.tally, state.replicas.sums[r]
    tally.batch_size[number] += started
    tally.batch_decodes[number] += started
    tally.batch_tokens[size_bin(number)] += started
    tally.batch_prefill_tokens[0] += started
    sums[SQUARES] += started * number
    sums[PAIRS] += started * decode_kv + number * (started * (started - 1) // 2)
    sums[SAMPLED] += started * number
    state.replicas.series[r, place, DECODE_TOKENS] += started * number
