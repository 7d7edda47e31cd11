"""Batches that go round a pipeline: while their members stay, each is formed again at the moment when it ends.

Between two decisions a batch of decodes alone changes by one token for each member, and its times are those of its
timetable. A prompt beside decodes, a member that finishes, an arrival or a shortage of memory is for the scheduler.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import count_batch
from ..cost import batch_ms, host_seconds
from ..exits import Exit
from ..iterations.batches import count_gaps
from ..memory.followers import may_arrive_at
from ..state import (
    ALIGNED,
    CLOCK,
    DECODE_KV,
    EVENTS,
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
    REPLICA,
    RUNNING,
    SLOT,
    STEP,
    SUM_HOST,
    SUM_WAIT,
    SUM_WORK,
    TOKENS,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .timetable import count_until, has_timetable, leave_stages, next_end, oldest, pass_stages


@inlined
def go_round(state: State, cost: Cost, limits: Limits, most: int, refused_from: int, grows: bool) -> int:
    """Let batches of up to ``most`` decodes go round until something has to be decided; FAULT when one has no time.

    This follows the start of a batch. ``refused_from``: the first waiting request is refused for a batch of as many
    decodes or more. ``grows``: decodes take blocks.
    """
    r = state.cursor[REPLICA]
    counts = state.replicas.counts[r]
    if not has_timetable(state) or counts[EVENTS] > 0 or counts[RUNNING] > 0 or counts[KEPT_BATCH] != NONE:
        return Exit.FORM
    # A place in the pipeline that is free stays so only where no request waits.
    if counts[WAITING] > 0 and counts[IN_FLIGHT] < limits.num_stages:
        return Exit.FORM
    counts[FORM_DUE] = 0
    until = min(float(state.moments[HORIZON]), may_arrive_at(state, r))  # what ends before changes nothing
    while _stays(state, limits, r, until, most, refused_from, grows):
        slot = _take_tokens(state, cost, limits, r, grows)
        state.cursor[SLOT] = slot
        if not _start_again(state, cost, r, slot):
            return Exit.FAULT
    return Exit.FORM


@inlined
def _stays(state: State, limits: Limits, r: int, until: float, most: int, refused_from: int, grows: bool) -> bool:
    """Whether the oldest batch in flight ends before ``until``, s, and is then formed again as it is."""
    counts = state.replicas.counts[r]
    end = next_end(state, r)
    if not end < until or state.cursor[LEFT] <= 0:
        return False
    slot = oldest(state, r)
    features = state.batches.features[r, slot]
    step, number = features[STEP] + 1, features[NUM_RESIDENTS]
    if (
        features[NUM_LISTED] > 0
        or not features[ALIGNED]
        or step >= features[FIRST_FINISH]
        or number > most
        or (counts[WAITING] > 0 and number < refused_from)
    ):
        return False
    return bool(not grows or counts[FREE] > state.batches.growth[r, slot, step % limits.block_size])


@inlined
def _take_tokens(state: State, cost: Cost, limits: Limits, r: int, grows: bool) -> int:
    """End the oldest batch in flight: each of its decodes takes a token, and the blocks for the next; returns it."""
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    now = next_end(state, r)
    count_until(state, limits, r, now)
    times[CLOCK] = now
    slot = leave_stages(state, r)
    features, sums = state.batches.features[r, slot], state.batches.sums[r, slot]
    number, gap = features[NUM_RESIDENTS], now - float(state.batches.last_end[r, slot])
    if detailed(state.requests):
        sums[SUM_HOST] += host_seconds(cost, number)
    sums[SUM_WAIT] += gap - state.batches.on_stage[r, slot]
    sums[SUM_WORK] += state.batches.seconds[r, slot]
    count_gaps(state, gap, number)
    state.batches.last_end[r, slot] = now
    features[STEP] += 1
    features[DECODE_KV] += number
    features[LONGEST_KV] += 1
    if grows:
        counts[FREE] -= state.batches.growth[r, slot, features[STEP] % limits.block_size]
        counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    return slot


@inlined
def _start_again(state: State, cost: Cost, r: int, slot: int) -> bool:
    """Start the batch again that has just ended, of the same decodes; False when the tables give it no time."""
    counts, features = state.replicas.counts[r], state.batches.features[r, slot]
    counts[ITERATIONS] += 1
    counts[IN_FLIGHT] += 1
    counts[TOKENS] += features[NUM_RESIDENTS]
    state.cursor[LEFT] -= 1
    ms = batch_ms(cost, features, 0.0)
    state.batches.layers_ms[r, slot] = ms
    if math.isnan(ms):
        return False
    count_batch(state, r, slot)
    return pass_stages(state, cost, r, slot)
