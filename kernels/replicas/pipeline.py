"""A replica of several pipeline stages: Vidur's events, in its order.

Where no log is kept only arrivals and the ends of batches are events, and timetable.py has the rest.
Events are ordered by time, then by creation. Only arrivals and stage ends lie in the future. The events that they cause
are due at once and wait in a ring, first in, first out.
"""

import math

from .._jit import inlined
from ..accounts.counts import count_stage, count_time
from ..accounts.log import full, record
from ..cost import stage_seconds
from ..exits import Ending, Exit
from ..memory.followers import depends, held
from ..memory.queues import arrive
from ..state import (
    CLOCK,
    COMING,
    EVENTS,
    EVENTS_HEAD,
    FORM_DUE,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    NONE,
    NUM_LISTED,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    REPLICA,
    SEQUENCE,
    SLOT,
    Limits,
    State,
)
from ..tables import Cost
from .timetable import has_timetable, next_change, next_timed_event, pass_stages, take_batch

# Kinds of events in the ring; an event is kind + NUM_KINDS * (stage + num_stages * slot).
SCHEDULE_REPLICA, SCHEDULE_STAGE, ENTER_STAGE, END_BATCH, NUM_KINDS = range(5)


@inlined
def _push(state: State, kind: int, stage: int, slot: int) -> None:
    """Add an event to the end of the ring."""
    r = state.cursor[REPLICA]
    counts, ring = state.replicas.counts[r], state.replicas.events[r]
    num_stages = state.replicas.stage_end.shape[1]
    ring[(counts[EVENTS_HEAD] + counts[EVENTS]) % ring.size] = kind + NUM_KINDS * (stage + num_stages * slot)
    counts[EVENTS] += 1


@inlined
def enter(state: State, cost: Cost, slot: int) -> bool:
    """Send a batch that was just formed to the first stage; after it another batch may be formed.

    False when the pipeline has a timetable and the tables give the batch no time.
    """
    state.replicas.counts[state.cursor[REPLICA], FORM_DUE] = 1
    if has_timetable(state):
        return pass_stages(state, cost, state.cursor[REPLICA], slot)
    _push(state, ENTER_STAGE, 0, slot)
    return True


@inlined
def _start_stage(state: State, cost: Cost, limits: Limits, stage: int) -> bool:
    """Start the oldest batch in the queue of a stage if the stage is idle; False when the tables give it no time."""
    r, replicas = state.cursor[REPLICA], state.replicas
    if replicas.stage_batch[r, stage] != NONE or replicas.queued[r, stage] == 0:
        return True
    queue = replicas.queue[r, stage]
    slot = queue[0]
    replicas.queued[r, stage] -= 1
    for i in range(replicas.queued[r, stage]):
        queue[i] = queue[i + 1]
    features = state.batches.features[r, slot]
    seconds = stage_seconds(
        cost,
        features[NUM_TOKENS],
        features[NUM_SEQS],
        features[NUM_SAMPLED],
        state.batches.layers_ms[r, slot],
        stage,
    )
    if not seconds > 0.0:
        state.cursor[SLOT] = slot
        return False
    now = replicas.times[r, CLOCK]
    if stage == 0 and features[NUM_PREFILLS] > 0:
        started_at, request = state.requests.started_at, state.batches.request[r, slot]
        for i in range(features[NUM_LISTED]):
            if math.isnan(started_at[request[i]]):
                started_at[request[i]] = now
    replicas.stage_batch[r, stage] = slot
    replicas.stage_end[r, stage] = now + seconds
    replicas.stage_seconds[r, stage] = seconds
    state.batches.on_stage[r, slot] += (now + seconds) - now
    replicas.stage_sequence[r, stage] = replicas.counts[r, SEQUENCE]
    replicas.counts[r, SEQUENCE] += 1
    replicas.busy[r, stage] += seconds
    count_stage(state, (now + seconds) - now)
    record(state, limits.num_blocks, stage, slot, now, now + seconds)
    return True


@inlined
def _end_stage(state: State, stage: int) -> None:
    """End the batch on a stage, which then enters the next stage or ends altogether."""
    r, replicas = state.cursor[REPLICA], state.replicas
    slot = replicas.stage_batch[r, stage]
    replicas.stage_batch[r, stage] = NONE
    state.batches.seconds[r, slot] += replicas.stage_seconds[r, stage]
    _push(state, SCHEDULE_STAGE, stage, 0)
    if stage == replicas.stage_end.shape[1] - 1:
        _push(state, END_BATCH, 0, slot)
    else:
        _push(state, ENTER_STAGE, stage + 1, slot)


@inlined
def _earliest_stage(state: State) -> int:
    """The stage whose batch ends first, among equals the stage that started first; NONE when all are idle."""
    r, replicas = state.cursor[REPLICA], state.replicas
    best = NONE
    for stage in range(replicas.stage_end.shape[1]):
        if replicas.stage_batch[r, stage] == NONE:
            continue
        if best != NONE:
            ahead = replicas.stage_end[r, best] - replicas.stage_end[r, stage]
            earlier = replicas.stage_sequence[r, stage] < replicas.stage_sequence[r, best]
            if not (ahead > 0.0 or (ahead == 0.0 and earlier)):
                continue
        best = stage
    return best


@inlined
def next_moment(state: State) -> float:
    """The next arrival or stage end, or end of a batch, of the replica at cursor, s; infinite when there is none."""
    r = state.cursor[REPLICA]
    if has_timetable(state):
        return next_change(state, r)
    stage, coming = _earliest_stage(state), state.replicas.counts[r, COMING]
    time = math.inf if stage == NONE else state.replicas.stage_end[r, stage]
    return time if coming == NONE else min(time, state.requests.arrived_at[coming])


@inlined
def _move_clock(state: State, limits: Limits) -> int:
    """Move the clock to the next arrival or stage end and add the events they cause; FORM, else why it cannot."""
    r, replicas = state.cursor[REPLICA], state.replicas
    time = next_moment(state)
    if time == math.inf:
        return Exit.DONE
    if time >= state.moments[HORIZON]:
        return Exit.UNTIL
    busy = 0
    for stage in range(replicas.stage_end.shape[1]):
        busy += replicas.stage_batch[r, stage] != NONE
    count_time(state, limits, r, busy, time)
    replicas.times[r, CLOCK] = time
    stage = _earliest_stage(state)
    while stage != NONE and replicas.stage_end[r, stage] == time:
        _end_stage(state, stage)
        stage = _earliest_stage(state)
    # The arrival was created before the stage ends, but the event it causes comes after those that they cause.
    # Where requests follow others it waits for those that may arrive at the same time.
    if not depends(state.requests) and arrive(state, r, time):
        _push(state, SCHEDULE_REPLICA, 0, 0)
    return Exit.FORM


@inlined
def _has_arrived(state: State, r: int) -> bool:
    """Whether a request has arrived by the clock that is not in the queue yet."""
    coming = state.replicas.counts[r, COMING]
    return bool(coming != NONE and state.requests.arrived_at[coming] <= state.replicas.times[r, CLOCK])


@inlined
def next_pipeline_event(state: State, cost: Cost, limits: Limits) -> int:
    """The same as replica.next_event, for a replica of several stages."""
    if has_timetable(state):
        return next_timed_event(state, limits)
    r = state.cursor[REPLICA]
    counts, replicas = state.replicas.counts[r], state.replicas
    num_stages = replicas.stage_end.shape[1]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if state.cursor[LEFT] <= 0 or full(state):
        return Exit.BUDGET
    while True:
        if counts[FORM_DUE]:
            counts[FORM_DUE] = 0
            if counts[IN_FLIGHT] < num_stages:
                take_batch(state)
                return Exit.FORM
        if full(state):
            return Exit.BUDGET
        if counts[EVENTS] == 0 and depends(state.requests) and _has_arrived(state, r):
            _push(state, SCHEDULE_REPLICA, 0, 0)
        if counts[EVENTS] == 0:
            reason = _move_clock(state, limits)
            if reason != Exit.FORM:
                return reason
            continue
        ring = replicas.events[r]
        event = ring[counts[EVENTS_HEAD]]
        if event % NUM_KINDS == SCHEDULE_REPLICA and depends(state.requests):
            if held(state, replicas.times[r, CLOCK]):
                return Exit.UNTIL
            arrive(state, r, replicas.times[r, CLOCK])
        counts[EVENTS_HEAD] = (counts[EVENTS_HEAD] + 1) % ring.size
        counts[EVENTS] -= 1
        kind, batch = event % NUM_KINDS, event // NUM_KINDS
        stage, slot = batch % num_stages, batch // num_stages
        if kind == SCHEDULE_REPLICA:
            counts[FORM_DUE] = 1
        elif kind == ENTER_STAGE:
            replicas.queue[r, stage, replicas.queued[r, stage]] = slot
            replicas.queued[r, stage] += 1
            _push(state, SCHEDULE_STAGE, stage, 0)
        elif kind == SCHEDULE_STAGE:
            if not _start_stage(state, cost, limits, stage):
                return Exit.FAULT
        else:
            counts[IN_FLIGHT] -= 1
            state.cursor[SLOT] = slot
            _push(state, SCHEDULE_REPLICA, 0, 0)
            return Exit.ENDED
