"""Cohorts of a pipeline of vLLM V1 that take their turns: a batch ends, and the next one is formed at once.

A request that is listed, an arrival or a shortage of blocks is for the scheduler. Until then each batch is a cohort
alone, or empty where no cohort has the turn, and all rounds are done in one loop. What it counts in whole numbers for
each batch is added up after it, as the members of a cohort stay the same.
"""

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import bin_end, count_run, ticks_at
from ..accounts.histogram import bin_of
from ..accounts.series import BINS, FIRST_SHIFT, KV, RUNNING_SERIES
from ..cost import host_seconds, steady_layers_ms
from ..exits import Ending, Exit
from ..memory.paged import take_free
from ..replicas.timetable import go_through, has_timetable, pass_empty
from ..state import (
    CLOCK,
    COHORT,
    DECODE_KV,
    FORM_DUE,
    FREE,
    GROUP,
    HORIZON,
    IN_FLIGHT,
    ITERATIONS,
    LEFT,
    LONGEST_KV,
    NONE,
    NUM_DECODES,
    NUM_LISTED,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    PEAK,
    PRESENT,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SEGMENT_END,
    SHIFT,
    SLOT,
    SUM_HOST,
    SUM_WAIT,
    SUM_WORK,
    TBT_COUNT,
    TBT_MAX,
    TBT_SUM,
    TOKENS,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .ahead import next_to_matter
from .launch import schedules_on
from .state import (
    CALLS,
    COHORT_CALL,
    COHORT_FLYING,
    COHORT_KV,
    COHORT_LEAVES,
    COHORT_LONGEST,
    COHORT_SIZE,
    COHORT_STEP,
    ENDED,
    HIT,
    HIT_AGAIN,
    HITS_BEFORE,
    IDLE_CALL,
    OLDEST,
    REFUSED,
    RESTARTS_BEFORE_TOKEN,
    TURNS,
    WHOLE,
)


@inlined
def run_rounds(state: State, cost: Cost, limits: Limits, r: int) -> int:
    """Let the oldest batch end and the next one start while both are cohorts alone; FAULT when one has no time.

    This follows the start of a batch. A step that cannot be done as a whole is left to the scheduler.
    """
    counts, own, rules = state.replicas.counts[r], state.engine.counts[r], limits.engine
    # A chunk of a waiting request is the shorter, the larger the cohort is.
    refused = own[REFUSED] == WHOLE or counts[GROUP] == limits.max_num_seqs
    if (
        counts[FORM_DUE]
        or counts[RUNNING] > 0
        or counts[GROUP] == 0
        or (counts[WAITING] > 0 and not refused)
        or counts[OUTCOME] != Ending.GOING
        or not has_timetable(state)
    ):
        return Exit.FORM
    times, features, cohorts = state.replicas.times[r], state.batches.features[r], state.engine.cohorts[r]
    growth, sums, last_end = state.batches.growth[r], state.batches.sums[r], state.batches.last_end[r]
    on_stage, seconds, batch_end = state.batches.on_stage[r], state.batches.seconds[r], state.engine.batch_end[r]
    until = min(float(state.moments[HORIZON]), next_to_matter(state, limits, r))
    turns, flying = rules.asynchronous and rules.shares_turns == TURNS, counts[IN_FLIGHT]
    slot, call, idle, ended = own[OLDEST], own[CALLS], own[IDLE_CALL] > 0, NONE
    now, place, left = float(times[CLOCK]), call % limits.num_stages, state.cursor[LEFT]
    number = sampled = 0
    total, widest = times[TBT_SUM], times[TBT_MAX]
    tick = first_tick = bin_until = held = blocks = 0
    if detailed(state.requests):
        tick = first_tick = ticks_at(state, now)
        if tick >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
            return Exit.FORM
        bin_until = bin_end(state, r, tick >> (counts[SHIFT] + FIRST_SHIFT))
    while left > 0 and features[slot, NUM_LISTED] == 0:
        end = max(now, batch_end[slot])
        begin = end + rules.sleep_s if idle and rules.sleep_s > 0.0 else end
        if not begin < until:
            break
        before = features[slot, COHORT]
        place = (place + 1 if place + 1 < limits.num_stages else 0) if turns else before
        cohort = cohorts[place]
        members, need = cohort[COHORT_SIZE], 0
        if members > 0:
            need = growth[place, cohort[COHORT_STEP] % limits.block_size]
            too_many = members > limits.max_num_batched_tokens or need > counts[FREE]
            if too_many or cohort[COHORT_STEP] >= cohort[COHORT_LEAVES]:
                break
        if detailed(state.requests):
            tick_end, after = ticks_at(state, end), ticks_at(state, begin)
            if after >= bin_until:
                break
            held += tick_end - tick
            blocks += (tick_end - tick) * (limits.num_blocks - counts[FREE])
            tick = after
        if ended == NONE:
            _begin(state, limits, r)
        ended, number = before, features[slot, NUM_RESIDENTS]
        if number > 0:
            gap = end - last_end[ended]
            sampled += number
            total += gap * number
            widest = max(widest, gap)
            state.tbt[bin_of(gap)] += number
            sums[ended, SUM_WORK] += seconds[slot]
            if detailed(state.requests):
                share = 1.0 if gap >= on_stage[slot] else gap / on_stage[slot]
                sums[ended, SUM_WAIT] += gap - on_stage[slot] * share
                sums[ended, SUM_HOST] += host_seconds(cost, number) * share
        last_end[ended] = end
        now, slot, call, left = begin, slot + 1 if slot + 1 < rules.depth else 0, call + 1, left - 1
        new = slot + flying - 1
        new = new - rules.depth if new >= rules.depth else new
        if need > 0:
            take_free(state, limits, r, need)
            counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
        if not _start(state, cost, limits, r, place, new, call, now):
            state.cursor[SLOT] = new
            return Exit.FAULT
        idle = members == 0
        if flying < rules.depth:
            own[OLDEST], times[CLOCK] = slot, now
            if schedules_on(state, limits, r, not idle):
                counts[FORM_DUE] = 1
                if idle and rules.sleep_s > 0.0:
                    now += rules.sleep_s
                break
    if ended == NONE:
        return Exit.FORM
    times[CLOCK], times[TBT_SUM], times[TBT_MAX] = now, total, widest
    counts[TBT_COUNT] += sampled
    own[OLDEST], own[CALLS], own[IDLE_CALL], own[ENDED] = slot, call, idle, ended if turns else NONE
    state.cursor[LEFT] = left
    if sampled > 0:
        own[RESTARTS_BEFORE_TOKEN] = counts[RESTARTS]
    if detailed(state.requests):
        bin_now, running = first_tick >> (counts[SHIFT] + FIRST_SHIFT), counts[PRESENT] - counts[WAITING]
        state.replicas.series[r, bin_now, RUNNING_SERIES] += running * held
        state.replicas.series[r, bin_now, KV] += blocks
    _count_started(state, limits, r, first_tick)
    return Exit.FORM


@inlined
def _begin(state: State, limits: Limits, r: int) -> None:
    """Note the step of each cohort, and forget where it was on attention's line."""
    for place in range(limits.num_stages):
        state.batches.segments[r, place, SEGMENT_END] = -1.0
        state.scratch[0, place] = state.engine.cohorts[r, place, COHORT_STEP]


@inlined
def _count_started(state: State, limits: Limits, r: int, tick: int) -> None:
    """Count the batches with tokens that have started since the steps were noted, in the bin that holds ``tick``."""
    counts, own, started, given = state.replicas.counts[r], state.engine.counts[r], 0, 0
    for place in range(limits.num_stages):
        cohort = state.engine.cohorts[r, place]
        members, steps = cohort[COHORT_SIZE], cohort[COHORT_STEP] - state.scratch[0, place]
        if members > 0 and steps > 0:
            started += steps
            given += steps * members
            if detailed(state.requests):
                bin_now = tick >> (counts[SHIFT] + FIRST_SHIFT)
                count_run(state, r, bin_now, members, steps, cohort[COHORT_KV] - steps * members)
    counts[ITERATIONS] += started
    counts[TOKENS] += given
    if started > 0:
        counts[RESTARTS_BEFORE] = counts[RESTARTS]
        own[HITS_BEFORE] = own[HIT] + own[HIT_AGAIN]


@inlined
def _start(state: State, cost: Cost, limits: Limits, r: int, place: int, slot: int, call: int, now: float) -> bool:
    """Start the next batch of a cohort, which may be empty, at ``now``, s; False when the tables give it no time."""
    cohort, features, engine = state.engine.cohorts[r, place], state.batches.features[r, slot], state.engine
    members, ready, batches = cohort[COHORT_SIZE], now, state.batches
    since = call - cohort[COHORT_CALL]
    cohort[COHORT_FLYING] = since < state.replicas.counts[r, IN_FLIGHT]
    if features[NUM_LISTED] > 0:  # of a batch that has ended
        features[:] = 0
    features[COHORT], features[NUM_RESIDENTS] = place, members
    features[NUM_SEQS] = features[NUM_TOKENS] = features[NUM_DECODES] = features[NUM_SAMPLED] = members
    if members > 0:
        kv, longest = cohort[COHORT_KV], cohort[COHORT_LONGEST] + cohort[COHORT_STEP]
        features[DECODE_KV], features[LONGEST_KV] = kv, longest
        if cohort[COHORT_FLYING] and limits.engine.awaits_tokens:
            last = slot - since
            ready = max(now, engine.batch_end[r, last if last >= 0 else last + limits.engine.depth])
        ms = steady_layers_ms(cost, members, kv, longest, batches.segments[r, place])
        if not go_through(state, cost, r, slot, ms, ready):
            return False
        engine.batch_start[r, slot] = state.replicas.stage_start[r, 0]
        engine.batch_end[r, slot] = batches.leaves_at[r, slot]
    else:
        features[DECODE_KV] = features[LONGEST_KV] = 0
        batches.on_stage[r, slot] = batches.seconds[r, slot] = 0.0
        engine.batch_start[r, slot], engine.batch_end[r, slot] = pass_empty(state, r, now)
    cohort[COHORT_CALL] = call
    cohort[COHORT_STEP] += 1
    cohort[COHORT_KV] += members
    return True
