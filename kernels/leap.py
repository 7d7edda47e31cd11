"""Iterations of a group: with prompts beside it, and on its own for as long as nothing has to be decided."""

import math

from ._jit import inlined
from .batches import count_gaps, weigh
from .blocks import release
from .cost import COMPOSE_FASTSIM, Cost, solo_parts, solo_seconds, solo_segment, stage_seconds
from .counters import bin_bounds, bin_of
from .group import ID_BITS, add_work, disband, finish_due, growth_due, join, line_up
from .log import full, record
from .queues import arrive
from .state import (
    CHUNKED,
    CLOCK,
    COMING,
    DECODE_KV,
    ENDED,
    FAULT,
    FORM,
    FORM_DUE,
    FREE,
    FRESH,
    GOING,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    IN_FLIGHT,
    IN_USE,
    ITERATIONS,
    LAST_END,
    LEFT,
    LOGGED,
    LONGEST,
    LONGEST_KV,
    NONE,
    NUM_DECODES,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    PEAK,
    PRESENT,
    REPLICA,
    STUCK,
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

NO_LIMIT = 1 << 62


@inlined
def launch_group(
    state: State, cost: Cost, limits: Limits, size: int, together: bool, most: int, grows: bool, gang: bool
) -> int:
    """Start ``size`` prompts, with the group when ``together``; without prompts, let the group leap.

    At most ``most`` iterations in a leap. FAULT when the tables give no time.
    """
    r, cursor = state.cursor[REPLICA], state.cursor
    counts = state.replicas.counts[r]
    if size == 0 and counts[GROUP] == 0:
        if counts[WAITING] + counts[CHUNKED] > 0 and counts[OUTCOME] == GOING:
            counts[OUTCOME] = STUCK
        return FORM
    if size == 0:
        return _leap(state, cost, limits, most, grows, gang)
    counts[ITERATIONS] += 1
    counts[IN_FLIGHT] = 1
    cursor[LEFT] -= 1
    ms = weigh(state, cost, size, counts[GROUP] if together else 0)
    features = state.batches.features[r, 0]
    seconds = stage_seconds(cost, features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED], ms, 0)
    if not seconds > 0.0:
        return FAULT
    now = state.replicas.times[r, CLOCK]
    started_at, request = state.requests.started_at, state.batches.request[r, 0]
    for i in range(size):
        if math.isnan(started_at[request[i]]):
            started_at[request[i]] = now
    _stay_in_flight(state, limits, r, now, seconds)
    record(state, limits.num_blocks, 0, 0, now, now + seconds)
    return FORM


@inlined
def _stay_in_flight(state: State, limits: Limits, r: int, now: float, seconds: float) -> None:
    state.replicas.stage_end[r, 0] = now + seconds
    state.replicas.stage_seconds[r, 0] = seconds
    state.replicas.busy[r, 0] += seconds
    counts = state.replicas.counts[r]
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])


@inlined
def _leap(state: State, cost: Cost, limits: Limits, most: int, grows: bool, gang: bool) -> int:
    """Run the group alone until something has to be decided, or an iteration reaches beyond the horizon.

    Whoever waits at the head of the queue now was refused, and will be as long as nobody leaves: an arrival
    matters to an empty queue only.
    """
    r, requests = state.cursor[REPLICA], state.requests
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    arrival = math.inf
    if counts[WAITING] == 0 and counts[COMING] != NONE:
        arrival = requests.arrived_at[counts[COMING]]
    while True:
        number, before = counts[GROUP], counts[ITERATIONS]
        code = _run_on(state, cost, limits, r, arrival, most, grows)
        if code != ENDED:
            return code
        most -= counts[ITERATIONS] - before
        finish_due(state, cost, limits, r, grows, gang)
        if gang and counts[GROUP] == 0:
            disband(state, r)
        if (
            times[CLOCK] >= arrival
            or (counts[GROUP] < number and (counts[GROUP] == 0 or counts[WAITING] + counts[CHUNKED] > 0))
            or (grows and counts[FREE] <= growth_due(state, limits, r))
            or most == 0
            or state.cursor[LEFT] <= 0
            or full(state)
        ):
            break
    arrive(requests.arrived_at, requests.next, counts, times[CLOCK])
    counts[FORM_DUE] = 1
    return FORM


@inlined
def _run_on(state: State, cost: Cost, limits: Limits, r: int, arrival: float, most: int, grows: bool) -> int:
    """Up to ``most`` iterations of the group alone, in which nobody leaves, comes or lacks memory.

    Between two of them only the clock, the step and the KV length change: these are all that the loop holds.
    ENDED when it may go on, FORM when the last one stays in flight beyond the horizon, FAULT.
    """
    cursor, counts, times = state.cursor, state.replicas.counts[r], state.replicas.times[r]
    growth, longest, horizon = state.replicas.growth[r], counts[LONGEST], state.until[0]
    number, first_step, logging = counts[GROUP], counts[GROUP_STEP], state.log.start.size > 0
    last_step = min(first_step + min(most, cursor[LEFT]), state.replicas.heap[r, 0] >> ID_BITS)
    if logging:
        last_step = min(last_step, first_step + state.log.start.size - cursor[LOGGED])
    step, decode_kv, free = first_step, counts[GROUP_KV], counts[FREE]
    phase, mean, code = step % limits.block_size, decode_kv // number, ENDED
    fastsim, skew, kv_step = cost.compose == COMPOSE_FASTSIM, cost.fastsim.skew, cost.fastsim.kv_step
    parts = solo_parts(cost, number)
    value, rise, cell, segment_end = 0.0, 0.0, 0.0, -1.0
    # Sums take one iteration after the other, so that it makes no difference where a leap is cut.
    start, busy, tbt_sum = times[CLOCK], state.replicas.busy[r, 0], 0.0
    work, work_low = times[WORK], times[WORK_LOW]
    low, high, widest, place, equal = 0.0, 0.0, 0.0, 0, 0
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
        if not kv < segment_end:
            value, rise, cell, segment_end = solo_segment(cost, number, kv)
        seconds = solo_seconds(cost, parts, value + rise * (kv / kv_step - cell))
        end = start + seconds
        if logging or end >= horizon or not seconds > 0.0:
            counts[FREE], counts[GROUP_KV], counts[GROUP_STEP] = free, decode_kv, step
            _describe(state, r, number)
            if not seconds > 0.0:
                return FAULT
            record(state, limits.num_blocks, 0, 0, start, end)
        if end >= horizon:
            state.replicas.stage_end[r, 0], state.replicas.stage_seconds[r, 0] = end, seconds
            busy += seconds
            counts[IN_FLIGHT], code = 1, FORM
            break
        if step == first_step:
            _count_first_gaps(state, r, end)
            tbt_sum = times[TBT_SUM]
        else:
            gap = end - start
            if gap < low or gap >= high:
                state.tbt[place] += equal * number
                place, equal = bin_of(gap), 0
                low, high = bin_bounds(place)
            equal += 1
            tbt_sum += gap * number
            widest = max(widest, gap)
        busy += seconds
        total = work + seconds
        work_low += (work - total) + seconds
        work = total
        start = end
        step += 1
        mean += 1
        decode_kv += number
        if end >= arrival:
            break
    done = step - first_step
    started = done + counts[IN_FLIGHT]
    state.tbt[place] += equal * number
    if done > 0:
        counts[TBT_COUNT] += (done - 1) * number
        times[TBT_SUM] = tbt_sum
        times[TBT_MAX] = max(times[TBT_MAX], widest)
        times[LAST_END] = start
    times[WORK], times[WORK_LOW], times[CLOCK] = work, work_low, start
    state.replicas.busy[r, 0] = busy
    counts[FREE], counts[GROUP_KV], counts[GROUP_STEP] = free, decode_kv, step
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - free)
    counts[ITERATIONS] += started
    counts[TOKENS] += started * number
    cursor[LEFT] -= started
    return code


@inlined
def next_leave(state: State, cost: Cost, limits: Limits, r: int, grows: bool) -> float:
    """When the next member leaves, s, if the group that is in flight goes on alone; before memory gets short."""
    counts, growth = state.replicas.counts[r], state.replicas.growth[r]
    number, longest, last_step = counts[GROUP], counts[LONGEST], state.replicas.heap[r, 0] >> ID_BITS
    step, decode_kv, free = counts[GROUP_STEP] + 1, counts[GROUP_KV] + number, counts[FREE]
    phase, mean = step % limits.block_size, decode_kv // number
    fastsim, skew, kv_step = cost.compose == COMPOSE_FASTSIM, cost.fastsim.skew, cost.fastsim.kv_step
    parts = solo_parts(cost, number)
    value, rise, cell, segment_end = 0.0, 0.0, 0.0, -1.0
    end = float(state.replicas.stage_end[r, 0])
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
        if not kv < segment_end:
            value, rise, cell, segment_end = solo_segment(cost, number, kv)
        seconds = solo_seconds(cost, parts, value + rise * (kv / kv_step - cell))
        if not seconds > 0.0:
            break
        end = end + seconds
        step += 1
        mean += 1
        decode_kv += number
    return end


@inlined
def _count_first_gaps(state: State, r: int, now: float) -> None:
    """Count the gaps of an iteration before which members may have joined, or the group may have paused."""
    counts = state.replicas.counts[r]
    for i in range(counts[FRESH]):
        count_gaps(state, now - state.requests.last_token_at[state.replicas.fresh[r, i]], 1)
    count_gaps(state, now - state.replicas.times[r, LAST_END], counts[GROUP] - counts[FRESH])
    counts[FRESH] = 0


@inlined
def _describe(state: State, r: int, number: int) -> None:
    """The features of a batch that is the group alone."""
    counts, features = state.replicas.counts[r], state.batches.features[r, 0]
    features[NUM_SEQS] = features[NUM_TOKENS] = features[NUM_DECODES] = features[NUM_SAMPLED] = number
    features[NUM_PREFILLS] = features[NUM_PREFILL_TOKENS] = 0
    features[DECODE_KV] = counts[GROUP_KV]
    features[LONGEST_KV] = counts[LONGEST] + counts[GROUP_STEP]


@inlined
def end_group(state: State, cost: Cost, limits: Limits, r: int, seconds: float, grows: bool, gang: bool) -> None:
    """End an iteration of the group at the clock: a token for everybody, and those go whose last it was."""
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    now, number = times[CLOCK], counts[GROUP]
    add_work(state, r, seconds)
    _count_first_gaps(state, r, now)
    times[LAST_END] = now
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += number
    finish_due(state, cost, limits, r, grows, gang)
    if gang and counts[GROUP] == 0:
        disband(state, r)


@inlined
def retire_group(state: State, cost: Cost, limits: Limits, grows: bool, gang: bool) -> None:
    """End the batch in flight: the group, if it took part, then the prompts, which join it when complete."""
    r = state.cursor[REPLICA]
    requests, counts = state.requests, state.replicas.counts[r]
    request, tokens = state.batches.request[r, 0], state.batches.tokens[r, 0]
    features = state.batches.features[r, 0]
    now, seconds = state.replicas.times[r, CLOCK], state.replicas.stage_seconds[r, 0]
    features[IN_USE] = 0
    if features[NUM_DECODES] > 0:
        end_group(state, cost, limits, r, seconds, grows, gang)
    for i in range(features[NUM_PREFILLS]):
        member = request[i]
        processed = requests.processed[member] + tokens[i]
        requests.execution_time[member] += seconds
        if processed < requests.prefill[member]:
            requests.processed[member] = processed
            state.replicas.chunked[r, counts[CHUNKED]] = member
            counts[CHUNKED] += 1
            continue
        requests.processed[member] = processed + 1
        if math.isnan(requests.first_token_at[member]):
            requests.first_token_at[member] = now
        else:
            count_gaps(state, now - requests.last_token_at[member], 1)
        requests.last_token_at[member] = now
        if requests.processed[member] < requests.total[member]:
            join(state, limits, r, member)
            continue
        requests.finished_at[member] = now
        counts[PRESENT] -= 1
        if gang:
            line_up(state, r, member)
        else:
            release(requests.blocks, counts, member)
    if gang and counts[GROUP] == 0:
        disband(state, r)
