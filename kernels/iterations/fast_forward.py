"""A group that runs alone: a loop over iterations between which only the clock, the step and the KV length change."""

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import bin_at, bin_end, count_run, count_stage, spread, ticks_at
from ..accounts.histogram import bin_bounds, bin_of
from ..accounts.log import record
from ..accounts.series import BUSY, KV, RUNNING_SERIES, TICKS
from ..cost import host_seconds, steady_parts, steady_seconds, steady_segment
from ..exits import Exit
from ..state import (
    CLOCK,
    DECODE_KV,
    FREE,
    FRESH,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    HOST,
    IDLE,
    IN_FLIGHT,
    ITERATIONS,
    LAST_END,
    LEFT,
    LOGGED,
    LONGEST,
    LONGEST_KV,
    NUM_DECODES,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    ORIGIN,
    PEAK,
    PRESENT,
    TBT_COUNT,
    TBT_MAX,
    TBT_SUM,
    TOKENS,
    WAITING,
    WORK,
    WORK_LOW,
    Limits,
    State,
)
from ..tables import COMPOSE_AFFINE, COMPOSE_FASTSIM, Cost
from .batches import count_gaps
from .group import ID_BITS

ROUNDING = 2.0**-30  # of the time of an iteration, by which its terms may be rounded
EPSILON = 2.0**-52  # of a time of the clock, by which one addition may round it


@inlined
def fast_forward(state: State, cost: Cost, limits: Limits, r: int, arrival: float, most: int, grows: bool) -> int:
    """Run up to ``most`` iterations of the group alone, in which no member finishes, none joins and memory suffices.

    Between two of them only the clock, the step and the KV length change, and the loop holds nothing else. ``arrival``,
    s: the loop ends with the first iteration that ends then or later. Returns ENDED when the last iteration has ended,
    FORM when it is in flight beyond the horizon, and FAULT when the tables give it no time.
    """
    cursor, counts, times = state.cursor, state.replicas.counts[r], state.replicas.times[r]
    growth, longest, horizon = state.replicas.growth[r], counts[LONGEST], state.moments[HORIZON]
    number, first_step, logging = counts[GROUP], counts[GROUP_STEP], state.log.start.size > 0
    last_step = min(first_step + min(most, cursor[LEFT]), state.replicas.heap[r, 0] >> ID_BITS)
    if logging:
        last_step = min(last_step, first_step + state.log.start.size - cursor[LOGGED])
    step, decode_kv, free = first_step, counts[GROUP_KV], counts[FREE]
    phase, mean, code = step % limits.block_size, decode_kv // number, Exit.ENDED
    fastsim, skew, kv_step = cost.compose == COMPOSE_FASTSIM, cost.fastsim.skew, cost.fastsim.kv_step
    affine, parts = cost.compose == COMPOSE_AFFINE, steady_parts(cost, number)
    value, rise, cell, segment_end = 0.0, 0.0, 0.0, -1.0
    # Sums grow one iteration after the other, so that they do not depend on where a run of iterations is cut.
    start, busy, tbt_sum = times[CLOCK], state.replicas.busy[r, 0], 0.0
    work, work_low, host, host_each = times[WORK], times[WORK_LOW], times[HOST], host_seconds(cost, number)
    low, high, widest, gap_bin, equal = 0.0, 0.0, 0.0, 0, 0
    detail, origin, first_tick, bin_now, bin_until, held = detailed(state.requests), 0.0, 0, 0, 0, 0
    if detail:
        origin, first_tick = state.moments[ORIGIN], ticks_at(state, start)
        bin_now = bin_at(state, r, first_tick)
        bin_until = bin_end(state, r, bin_now)
    tick = first_tick
    while step < last_step:
        if grows:
            if free <= growth[phase]:
                break
            free -= growth[phase]
            phase = phase + 1 if phase + 1 < limits.block_size else 0
        kv = float(mean)
        if fastsim:
            kv = decode_kv / number
            kv = kv + skew * (longest + step - kv)
        elif affine:
            kv = float(decode_kv)
        if not kv < segment_end:
            value, rise, cell, segment_end = steady_segment(cost, number, kv)
        seconds = steady_seconds(cost, parts, value + rise * (kv / kv_step - cell))
        end = start + seconds
        if logging or end >= horizon or not seconds > 0.0:
            counts[FREE], counts[GROUP_KV], counts[GROUP_STEP] = free, decode_kv, step
            set_features(state, r, number)
            if not seconds > 0.0:
                return Exit.FAULT
            record(state, limits.num_blocks, 0, 0, start, end)
        if end >= horizon:
            state.replicas.stage_end[r, 0], state.replicas.stage_seconds[r, 0] = end, seconds
            busy += seconds
            counts[IN_FLIGHT], code = 1, Exit.FORM
            count_stage(state, end - start)
            break
        if step == first_step:
            count_first_gaps(state, r, end)
            count_stage(state, end - start)
            tbt_sum = times[TBT_SUM]
        else:
            gap = end - start
            if gap < low or gap >= high:
                state.tbt[gap_bin] += equal * number
                if detail:
                    state.tally.batch_seconds[gap_bin] += equal
                gap_bin, equal = bin_of(gap), 0
                low, high = bin_bounds(gap_bin)
            equal += 1
            tbt_sum += gap * number
            widest = max(widest, gap)
        busy += seconds
        total = work + seconds
        work_low += (work - total) + seconds
        work = total
        host += host_each
        start = end
        step += 1
        mean += 1
        decode_kv += number
        if detail:
            before, tick = tick, int((end - origin) * TICKS)
            held += (limits.num_blocks - free) * (tick - before)
            if tick >= bin_until:
                break
        if end >= arrival:
            break
    done = step - first_step
    started = done + counts[IN_FLIGHT]
    state.tbt[gap_bin] += equal * number
    if detail:
        state.tally.batch_seconds[gap_bin] += equal
        count_run(state, r, bin_now, number, started, decode_kv - done * number)
        running, blocks, beyond = counts[PRESENT] - counts[WAITING], limits.num_blocks - free, max(0, tick - bin_until)
        series = state.replicas.series[r]
        series[bin_now, BUSY] += tick - beyond - first_tick
        series[bin_now, RUNNING_SERIES] += running * (tick - beyond - first_tick)
        series[bin_now, KV] += held - blocks * beyond
        # The last iteration may reach beyond the bin, or stay in flight.
        rest = bin_until if beyond > 0 else tick
        last = ticks_at(state, state.replicas.stage_end[r, 0]) if counts[IN_FLIGHT] else tick
        if last > rest:
            spread(series, counts, rest, last, 1, running, blocks)
    if started > 0:
        times[IDLE] += times[CLOCK] - times[LAST_END]
    if done > 0:
        counts[TBT_COUNT] += (done - 1) * number
        times[TBT_SUM] = tbt_sum
        times[TBT_MAX] = max(times[TBT_MAX], widest)
        times[LAST_END] = start
    times[WORK], times[WORK_LOW], times[HOST], times[CLOCK] = work, work_low, host, start
    state.replicas.busy[r, 0] = busy
    counts[FREE], counts[GROUP_KV], counts[GROUP_STEP] = free, decode_kv, step
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - free)
    counts[ITERATIONS] += started
    counts[TOKENS] += started * number
    cursor[LEFT] -= started
    return code


@inlined
def next_finish(state: State, cost: Cost, limits: Limits, r: int, grows: bool) -> float:
    """When the next member of the group in flight finishes, s, if the group runs on alone; a lower bound."""
    counts, end = state.replicas.counts[r], float(state.replicas.stage_end[r, 0])
    return finish_after(state, cost, limits, r, end, counts[GROUP_STEP] + 1, counts[GROUP_KV] + counts[GROUP], grows)


@inlined
def finish_after(
    state: State, cost: Cost, limits: Limits, r: int, end: float, step: int, decode_kv: int, grows: bool
) -> float:
    """The same for a group whose iteration ``step``, with ``decode_kv`` tokens in all, begins at ``end``, s, or later.

    The bound counts the iterations until then for which memory certainly suffices, and of these only as many as lie on
    one segment of decode attention's line, where the shortest iteration is the first or the last. A bound that is too
    early costs another look at the replica; one that is too late would be wrong. Hence the allowance for rounding.
    """
    counts, number = state.replicas.counts[r], state.replicas.counts[r, GROUP]
    left = (state.replicas.heap[r, 0] >> ID_BITS) - step
    if grows:  # in as many steps as a block has tokens each member needs one block
        left = min(left, (counts[FREE] - 1) // number * limits.block_size)
    if left <= 0:
        return end
    rate, kv_step = 1, cost.fastsim.kv_step
    kv = float(decode_kv // number)
    if cost.compose == COMPOSE_FASTSIM:
        kv = decode_kv / number
        kv = kv + cost.fastsim.skew * (counts[LONGEST] + step - kv)
    elif cost.compose == COMPOSE_AFFINE:
        kv, rate = float(decode_kv), number
    parts = steady_parts(cost, number)
    value, rise, cell, segment_end = steady_segment(cost, number, kv)
    iterations = max(1, int(min(float(left), (segment_end - kv) / rate)))
    first = steady_seconds(cost, parts, value + rise * (kv / kv_step - cell))
    last = steady_seconds(cost, parts, value + rise * ((kv + (iterations - 1) * rate) / kv_step - cell))
    seconds = min(first, last) * (1.0 - ROUNDING)
    if not seconds > 0.0:
        return end
    return max(end, end + iterations * (seconds - (end + iterations * seconds) * EPSILON))


@inlined
def count_first_gaps(state: State, r: int, now: float) -> None:
    """Count the gaps of an iteration that ends at ``now``, s, when members may have joined or the group have paused."""
    counts = state.replicas.counts[r]
    for i in range(counts[FRESH]):
        count_gaps(state, now - state.requests.last_token_at[state.replicas.fresh[r, i]], 1)
    count_gaps(state, now - state.replicas.times[r, LAST_END], counts[GROUP] - counts[FRESH])
    counts[FRESH] = 0


@inlined
def set_features(state: State, r: int, number: int) -> None:
    """Set the features of the batch that consists of the group alone."""
    counts, features = state.replicas.counts[r], state.batches.features[r, 0]
    features[NUM_SEQS] = features[NUM_TOKENS] = features[NUM_DECODES] = features[NUM_SAMPLED] = number
    features[NUM_PREFILLS] = features[NUM_PREFILL_TOKENS] = 0
    features[DECODE_KV] = counts[GROUP_KV]
    features[LONGEST_KV] = counts[LONGEST] + counts[GROUP_STEP]
