"""A pipeline of which no log is kept: when a batch leaves each stage is known as soon as the batch is formed.

Stages serve batches in the order in which these are formed, one at a time. So a batch starts on a stage once it has
left the stage before, and the batch formed before it has left this one. Only arrivals and the ends of batches change
anything; in between nothing happens. The times are those of pipeline.py, by the same additions in the same order. What
a log states besides, the KV blocks held when a batch starts on a stage, is known only then.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import bin_at, bin_end, spread, ticks_at
from ..accounts.histogram import bin_of
from ..accounts.series import BINS, BUSY, FIRST_SHIFT, KV, RUNNING_SERIES
from ..cost import inner_stage_terms, stage_seconds
from ..exits import Ending, Exit
from ..memory.followers import depends, held
from ..memory.queues import arrive
from ..state import (
    CLOCK,
    COMING,
    EVENTS,
    EVENTS_HEAD,
    FORM_DUE,
    FREE,
    HORIZON,
    IN_FLIGHT,
    IN_USE,
    LEFT,
    NONE,
    NUM_LISTED,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    PRESENT,
    REPLICA,
    SHIFT,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import COMPOSE_FASTSIM, Cost


@inlined
def has_timetable(state: State) -> bool:
    """Whether the pipeline runs by its timetable, and not from event to event."""
    return bool(state.log.start.size == 0)


@inlined
def take_batch(state: State) -> None:
    """Put cursor on a batch that is not in use, or on the last when all wait to run again (faster_transformer)."""
    in_use = state.batches.features[state.cursor[REPLICA]]
    slot = 0
    while slot < in_use.shape[0] - 1 and in_use[slot, IN_USE]:
        slot += 1
    state.cursor[SLOT] = slot


@inlined
def pass_stages(state: State, cost: Cost, r: int, slot: int) -> bool:
    """Send a batch that was just formed through all stages; False when the tables give it no time on one of them."""
    replicas, batches, features = state.replicas, state.batches, state.batches.features[r, slot]
    if not go_through(state, cost, r, slot, batches.layers_ms[r, slot], float(replicas.times[r, CLOCK])):
        state.cursor[SLOT] = slot
        return False
    replicas.queue[r, 0, _place(state, r, replicas.queued[r, 0])] = slot
    replicas.queued[r, 0] += 1
    if features[NUM_PREFILLS] > 0:
        started_at, request = state.requests.started_at, batches.request[r, slot]
        for i in range(features[NUM_LISTED]):
            if math.isnan(started_at[request[i]]):
                started_at[request[i]] = replicas.stage_start[r, 0]
    return True


@inlined
def go_through(state: State, cost: Cost, r: int, slot: int, ms: float, ready: float) -> bool:
    """Find when a batch that is ``ready``, s, is on each stage; False when the tables give it no time there.

    ``ms``: of its layers, as batch_ms has it.
    """
    replicas, batches, features = state.replicas, state.batches, state.batches.features[r, slot]
    busy, stage_end, stage_start, shares = replicas.busy[r], replicas.stage_end[r], replicas.stage_start[r], cost.shares
    tokens, seqs, sampled = features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED]
    # What the stages between the first and the last have in common is looked up once.
    base, more, scale, host = inner_stage_terms(cost, tokens, ms)
    shared, last = cost.compose == COMPOSE_FASTSIM, stage_end.size - 1
    seconds = stage_seconds(cost, tokens, seqs, sampled, ms, 0)
    if not seconds > 0.0:
        return False
    begin = max(ready, stage_end[0])
    time, total = begin + seconds, seconds
    stage_start[0], stage_end[0] = begin, time
    busy[0] += seconds
    for stage in range(1, last):
        if stage == 1 or (shared and shares[stage] != shares[stage - 1]):
            seconds = (base * (shares[stage] if shared else 1.0) + more) * scale + host
            if not seconds > 0.0:
                return False
        begin = max(time, stage_end[stage])
        time = begin + seconds
        stage_end[stage] = time
        total += seconds
        busy[stage] += seconds
        if detailed(state.requests):
            stage_start[stage] = begin
    if last > 0:
        seconds = stage_seconds(cost, tokens, seqs, sampled, ms, last)
        if not seconds > 0.0:
            return False
        begin = max(time, stage_end[last])
        time = begin + seconds
        stage_end[last] = time
        total += seconds
        busy[last] += seconds
        if detailed(state.requests):
            stage_start[last] = begin
    if detailed(state.requests):
        _count_stages(state, r, slot, ready)
    batches.seconds[r, slot], batches.leaves_at[r, slot] = total, time
    return True


@inlined
def _count_stages(state: State, r: int, slot: int, ready: float) -> None:
    """Count the time of a batch that is ``ready``, s, on each stage."""
    stage_start, stage_end = state.replicas.stage_start[r], state.replicas.stage_end[r]
    counts, place, equal, last, ticks, on_stage = state.replicas.counts[r], 0, 0, 0, 0, 0.0
    for stage in range(stage_end.size):
        seconds = stage_end[stage] - stage_start[stage]
        on_stage += seconds
        last = ticks_at(state, stage_end[stage])
        ticks += last - ticks_at(state, stage_start[stage])
        # Stages are nearly always alike: count runs of equal bins.
        if bin_of(seconds) != place:
            state.tally.batch_seconds[place] += equal
            place, equal = bin_of(seconds), 0
        equal += 1
    state.batches.on_stage[r, slot] = on_stage
    state.tally.batch_seconds[place] += equal
    place = bin_at(state, r, ticks_at(state, ready))
    if last <= bin_end(state, r, place):
        state.replicas.series[r, place, BUSY] += ticks
    else:
        for stage in range(stage_end.size):
            first, last = ticks_at(state, stage_start[stage]), ticks_at(state, stage_end[stage])
            spread(state.replicas.series[r], counts, first, last, 1, 0, 0)


@inlined
def pass_empty(state: State, r: int, ready: float) -> tuple[float, float]:
    """Send an empty batch that is ``ready``, s, through all stages; returns when it comes to the first and leaves."""
    stage_end = state.replicas.stage_end[r]
    start = time = max(ready, stage_end[0])
    for stage in range(stage_end.size):
        time = stage_end[stage] = max(time, stage_end[stage])
    return start, time


@inlined
def _place(state: State, r: int, after: int) -> int:
    """Where the batch is in the ring of those in flight that is so many after the oldest."""
    place, size = int(state.replicas.counts[r, EVENTS_HEAD]) + after, state.replicas.queue.shape[2]
    return place if place < size else place - size


@inlined
def count_until(state: State, limits: Limits, r: int, time: float) -> None:
    """Count the running requests and KV blocks of a replica from its clock to ``time``, s, if a batch is in flight."""
    counts = state.replicas.counts[r]
    if detailed(state.requests) and counts[IN_FLIGHT] > 0:
        running, blocks = counts[PRESENT] - counts[WAITING], limits.num_blocks - counts[FREE]
        series = state.replicas.series
        first, last = ticks_at(state, float(state.replicas.times[r, CLOCK])), ticks_at(state, time)
        place = first >> (counts[SHIFT] + FIRST_SHIFT)
        if place < BINS and last <= bin_end(state, r, place):
            series[r, place, RUNNING_SERIES] += running * (last - first)
            series[r, place, KV] += blocks * (last - first)
        else:
            spread(series[r], counts, first, last, 0, running, blocks)


@inlined
def leave_stages(state: State, r: int) -> int:
    """Take the oldest batch in flight out of the pipeline."""
    counts, slot = state.replicas.counts[r], oldest(state, r)
    counts[EVENTS_HEAD] = _place(state, r, 1)
    state.replicas.queued[r, 0] -= 1
    counts[IN_FLIGHT] -= 1
    return slot


@inlined
def oldest(state: State, r: int) -> int:
    """The batch that has been in flight for longest, if there is one."""
    return int(state.replicas.queue[r, 0, state.replicas.counts[r, EVENTS_HEAD]])


@inlined
def next_end(state: State, r: int) -> float:
    """When the oldest batch in flight leaves the last stage, s; infinite when there is none."""
    return float(state.batches.leaves_at[r, oldest(state, r)]) if state.replicas.queued[r, 0] > 0 else math.inf


@inlined
def next_change(state: State, r: int) -> float:
    """The next arrival or end of a batch of a replica, s; infinite when there is none."""
    coming = state.replicas.counts[r, COMING]
    time = next_end(state, r)
    return time if coming == NONE else min(time, float(state.requests.arrived_at[coming]))


@inlined
def next_timed_event(state: State, limits: Limits) -> int:
    """The same as replica.next_event, for a pipeline with a timetable; EVENTS counts the formations that are due."""
    r = state.cursor[REPLICA]
    requests, counts, times = state.requests, state.replicas.counts[r], state.replicas.times[r]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if state.cursor[LEFT] <= 0:
        return Exit.BUDGET
    while True:
        if counts[FORM_DUE]:
            counts[FORM_DUE] = 0
            if counts[IN_FLIGHT] < limits.num_stages:
                take_batch(state)
                return Exit.FORM
        coming, now = counts[COMING], times[CLOCK]
        if counts[EVENTS] == 0 and depends(requests) and coming != NONE and requests.arrived_at[coming] <= now:
            counts[EVENTS] = 1
        if counts[EVENTS] > 0:
            if depends(requests):
                if held(state, now):
                    return Exit.UNTIL
                arrive(state, r, now)
            counts[EVENTS] -= 1
            counts[FORM_DUE] = 1
            continue
        end, time = next_end(state, r), next_change(state, r)
        if time == math.inf:
            return Exit.DONE
        if time >= state.moments[HORIZON]:
            return Exit.UNTIL
        count_until(state, limits, r, time)
        times[CLOCK] = time
        # Where requests follow others, those that arrive now wait for others that may arrive at the same time.
        if not depends(requests) and arrive(state, r, time):
            counts[EVENTS] += 1
        if end == time:
            state.cursor[SLOT] = leave_stages(state, r)
            counts[EVENTS] += 1
            return Exit.ENDED
