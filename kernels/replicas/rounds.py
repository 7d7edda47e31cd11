"""Batches that go round a pipeline: while their members stay, each is formed again at the moment when it ends.

Between two decisions a batch of decodes alone changes by one token for each member, and its times are those of its
timetable. A prompt beside decodes, a member that finishes, an arrival or a shortage of memory is for the scheduler.
What is counted in whole numbers for each batch is added up after the last.
"""

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import bin_end, count_run, ticks_at
from ..accounts.histogram import bin_of
from ..accounts.series import BINS, FIRST_SHIFT, KV, RUNNING_SERIES
from ..cost import host_seconds, steady_layers_ms
from ..exits import Exit
from ..memory.followers import may_arrive_at
from ..state import (
    ALIGNED,
    CLOCK,
    DECODE_KV,
    EVENTS,
    EVENTS_HEAD,
    FIRST_FINISH,
    FORM_DUE,
    FREE,
    HORIZON,
    IN_FLIGHT,
    ITERATIONS,
    KEPT_BATCH,
    LEFT,
    LONGEST_KV,
    NONE,
    NUM_LISTED,
    NUM_RESIDENTS,
    PEAK,
    PRESENT,
    REPLICA,
    RUNNING,
    SEGMENT_END,
    SHIFT,
    SLOT,
    STEP,
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
from .timetable import go_through, has_timetable


@inlined
def go_round(state: State, cost: Cost, limits: Limits, most: int, refused_from: int, grows: bool) -> int:
    """Let batches of up to ``most`` decodes go round until something has to be decided; FAULT when one has no time.

    This follows the start of a batch. ``refused_from``: the first waiting request is refused for a batch of as many
    decodes or more. ``grows``: decodes take blocks.
    """
    r = state.cursor[REPLICA]
    counts, times, flying = state.replicas.counts[r], state.replicas.times[r], state.replicas.counts[r, IN_FLIGHT]
    if not has_timetable(state) or counts[EVENTS] > 0 or counts[RUNNING] > 0 or counts[KEPT_BATCH] != NONE:
        return Exit.FORM
    # A place in the pipeline that is free stays so only where no request waits.
    if flying == 0 or (counts[WAITING] > 0 and flying < limits.num_stages):
        return Exit.FORM
    counts[FORM_DUE] = 0
    until = min(float(state.moments[HORIZON]), may_arrive_at(state, r))  # what ends before changes nothing
    fewest = refused_from if counts[WAITING] > 0 else 0
    ring, head, last = state.replicas.queue[r, 0], counts[EVENTS_HEAD], counts[EVENTS_HEAD]
    leaves_at, last_end, growth = state.batches.leaves_at[r], state.batches.last_end[r], state.batches.growth[r]
    batches, all_sums, seconds = state.batches.features[r], state.batches.sums[r], state.batches.seconds[r]
    segments, tbt, free, peak = state.batches.segments[r], state.tbt, counts[FREE], counts[PEAK]
    started, sampled, left = 0, 0, state.cursor[LEFT]
    now, total, widest = float(times[CLOCK]), times[TBT_SUM], times[TBT_MAX]
    tick = first_tick = bin_until = held = blocks = 0
    if detailed(state.requests):
        tick = first_tick = ticks_at(state, now)
        if tick >> (counts[SHIFT] + FIRST_SHIFT) >= BINS:
            return Exit.FORM
        bin_until = bin_end(state, r, tick >> (counts[SHIFT] + FIRST_SHIFT))
    while left > 0:
        slot = ring[head]
        end, features = float(leaves_at[slot]), batches[slot]
        step, number, need = features[STEP] + 1, features[NUM_RESIDENTS], 0
        if grows:
            need = growth[slot, step % limits.block_size]
        changes = features[NUM_LISTED] > 0 or not features[ALIGNED] or step >= features[FIRST_FINISH]
        if not end < until or changes or number > most or number < fewest or (grows and need >= free):
            break
        if detailed(state.requests):
            after = ticks_at(state, end)
            if after >= bin_until:
                break
            held += after - tick
            blocks += (after - tick) * (limits.num_blocks - free)
            tick = after
        if started == 0:
            _begin(state, r)
        sums, gap = all_sums[slot], end - float(last_end[slot])
        if detailed(state.requests):
            sums[SUM_HOST] += host_seconds(cost, number)
            sums[SUM_WAIT] += gap - state.batches.on_stage[r, slot]
        sums[SUM_WORK] += seconds[slot]
        total += gap * number
        widest = max(widest, gap)
        tbt[bin_of(gap)] += number
        sampled += number
        last_end[slot] = now = end
        features[STEP] = step
        features[DECODE_KV] += number
        features[LONGEST_KV] += 1
        free -= need
        if limits.num_blocks - free > peak and need > 0:
            peak = limits.num_blocks - free
        last = head + flying if head + flying < ring.size else head + flying - ring.size
        ring[last] = slot
        head = head + 1 if head + 1 < ring.size else 0
        kv, longest = features[DECODE_KV], features[LONGEST_KV]
        ms = steady_layers_ms(cost, number, kv, longest, segments[slot])
        if not go_through(state, cost, r, slot, ms, now):
            state.cursor[SLOT], counts[FREE], counts[PEAK] = slot, free, peak
            return Exit.FAULT
        started, left = started + 1, left - 1
    if started == 0:
        return Exit.FORM
    state.cursor[SLOT], state.cursor[LEFT] = ring[last], left
    times[CLOCK], times[TBT_SUM], times[TBT_MAX] = now, total, widest
    counts[EVENTS_HEAD], counts[FREE], counts[PEAK] = head, free, peak
    counts[TBT_COUNT] += sampled
    counts[ITERATIONS] += started
    counts[TOKENS] += sampled
    if detailed(state.requests):
        bin_now, running = first_tick >> (counts[SHIFT] + FIRST_SHIFT), counts[PRESENT] - counts[WAITING]
        state.replicas.series[r, bin_now, RUNNING_SERIES] += running * held
        state.replicas.series[r, bin_now, KV] += blocks
        _count_batches(state, r, bin_now)
    return Exit.FORM


@inlined
def _begin(state: State, r: int) -> None:
    """Note the step of each batch, and forget where it was on attention's line."""
    for slot in range(state.batches.features.shape[1]):
        state.batches.segments[r, slot, SEGMENT_END] = -1.0
        state.scratch[0, slot] = state.batches.features[r, slot, STEP]


@inlined
def _count_batches(state: State, r: int, bin_now: int) -> None:
    """Count the batches that have started since the steps were noted."""
    for slot in range(state.batches.features.shape[1]):
        features = state.batches.features[r, slot]
        steps, number = features[STEP] - state.scratch[0, slot], features[NUM_RESIDENTS]
        if steps > 0:
            count_run(state, r, bin_now, number, steps, features[DECODE_KV] - (steps - 1) * number)
