"""What a run with detail records beside its requests: batches by size, work in integers, and series over time.

Time is counted in ticks since the first arrival, and the width of a bin is a power of two of ticks. So all numbers are
integers and their sums exact: in any order, wherever a run of iterations is cut, on any number of threads.
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
    REMOTE,
    SHIFT,
    WAITING,
    Limits,
    Longs,
    State,
)
from .breakdown import detailed
from .histogram import bin_of, size_bin
from .series import (
    BINS,
    BUSY,
    DECODE_TOKENS,
    FIRST_SHIFT,
    KV,
    NUM_SERIES,
    PAIRS,
    PREFILL_TOKENS,
    RUNNING_SERIES,
    SAMPLED,
    SQUARES,
    TICKS,
)


@inlined
def ticks_at(state: State, time: float) -> int:
    """A time of the clock, s, in ticks since the first arrival."""
    return int((time - state.moments[ORIGIN]) * TICKS)


@apart
def fold(series: Longs, counts: Longs, ticks: int) -> None:
    """Add up neighbouring bins of a replica, two by two, until its bins reach as far as ``ticks``."""
    while ticks >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
        counts[SHIFT] += 1
        for column in range(NUM_SERIES):
            for i in range(BINS // 2):
                series[i, column] = series[2 * i, column] + series[2 * i + 1, column]
            for i in range(BINS // 2, BINS):
                series[i, column] = 0


@apart
def spread(series: Longs, counts: Longs, first: int, last: int, busy: int, running: int, blocks: int) -> None:
    """Add busy stages, running requests and KV blocks, which hold from tick ``first`` to ``last``, to the bins."""
    while first < last:
        fold(series, counts, first)
        shift = counts[SHIFT] + FIRST_SHIFT
        i = first >> shift
        until = min(last, (i + 1) << shift)
        series[i, BUSY] += busy * (until - first)
        series[i, RUNNING_SERIES] += running * (until - first)
        series[i, KV] += blocks * (until - first)
        first = until


@inlined
def bin_at(state: State, r: int, ticks: int) -> int:
    """The index of the bin of a replica that holds a tick; bins are folded until there is one."""
    counts = state.replicas.counts[r]
    if ticks >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
        fold(state.replicas.series[r], counts, ticks)
    return int(ticks >> (counts[SHIFT] + FIRST_SHIFT))


@inlined
def bin_end(state: State, r: int, index: int) -> int:
    """The tick at which a bin of a replica ends."""
    return int((index + 1) << (state.replicas.counts[r, SHIFT] + FIRST_SHIFT))


@inlined
def count_time(state: State, limits: Limits, r: int, busy: int, until: float) -> None:
    """Count what a replica holds from its clock to ``until``, s, while ``busy`` of its stages run a batch."""
    if detailed(state.requests) and busy > 0:
        counts = state.replicas.counts[r]
        running, blocks = counts[PRESENT] - counts[WAITING], limits.num_blocks - counts[FREE]
        first, last = ticks_at(state, state.replicas.times[r, CLOCK]), ticks_at(state, until)
        spread(state.replicas.series[r], counts, first, last, busy, running, blocks)


@inlined
def count_held(state: State, limits: Limits, r: int, until: float) -> None:
    """Count the running requests and KV blocks of a replica of vllm_v1 from its clock to ``until``, s."""
    if detailed(state.requests):
        counts, since = state.replicas.counts[r], max(state.engine.counted[r], state.replicas.times[r, CLOCK])
        running, blocks = counts[PRESENT] - counts[WAITING] - counts[REMOTE], limits.num_blocks - counts[FREE]
        spread(state.replicas.series[r], counts, ticks_at(state, since), ticks_at(state, until), 0, running, blocks)


@inlined
def count_stage(state: State, seconds: float) -> None:
    """Count a batch on a stage by its time there, s."""
    if detailed(state.requests):
        state.tally.batch_seconds[bin_of(seconds)] += 1


@inlined
def count_batch(state: State, r: int, slot: int) -> None:
    """Count the batch in a slot, which starts at the clock of its replica."""
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
        now = bin_at(state, r, ticks_at(state, state.replicas.times[r, CLOCK]))
        state.replicas.series[r, now, PREFILL_TOKENS] += prefill_tokens
        state.replicas.series[r, now, DECODE_TOKENS] += decodes


@inlined
def count_run(state: State, r: int, bin_now: int, number: int, started: int, decode_kv: int) -> None:
    """Count ``started`` batches of the same ``number`` of decodes, which held ``decode_kv`` tokens in the first."""
    tally, sums = state.tally, state.replicas.sums[r]
    tally.batch_size[number] += started
    tally.batch_decodes[number] += started
    tally.batch_tokens[size_bin(number)] += started
    tally.batch_prefill_tokens[0] += started
    sums[SQUARES] += started * number
    sums[PAIRS] += started * decode_kv + number * (started * (started - 1) // 2)
    sums[SAMPLED] += started * number
    state.replicas.series[r, bin_now, DECODE_TOKENS] += started * number
