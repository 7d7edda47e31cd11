"""One replica: what happens next on it, and the start of the batch that was formed."""

import math

from .._jit import inlined
from ..accounts.counts import count_batch, count_stage, count_time
from ..accounts.log import full, record
from ..cost import stage_seconds
from ..exits import Ending, Exit
from ..iterations.batches import sum_members
from ..memory.followers import depends, held
from ..memory.queues import arrive
from ..state import (
    CLOCK,
    COMING,
    DECODE_KV,
    FORM_DUE,
    HORIZON,
    IN_FLIGHT,
    IN_USE,
    ITERATIONS,
    LEFT,
    LONGEST_KV,
    NONE,
    NUM_LISTED,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .pipeline import enter


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor, of one stage, to its next event before the horizon: FORM or ENDED, else why not.

    A batch is formed at an arrival while no batch runs, and whenever a batch ends. Requests that arrive
    at the very time when a batch ends can be in the next one.
    """
    cursor = state.cursor
    r = cursor[REPLICA]
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if cursor[LEFT] <= 0 or full(state):
        return Exit.BUDGET
    if counts[FORM_DUE]:
        if held(state, times[CLOCK]):
            return Exit.UNTIL
        if depends(state.requests):
            arrive(state, r, times[CLOCK])
        counts[FORM_DUE] = 0
        return Exit.FORM
    busy = counts[IN_FLIGHT] > 0
    if busy:
        time = state.replicas.stage_end[r, 0]
    elif counts[COMING] != NONE:
        time = state.requests.arrived_at[counts[COMING]]
    else:
        return Exit.DONE
    if time >= state.moments[HORIZON]:
        return Exit.UNTIL
    times[CLOCK] = time
    cursor[SLOT] = 0
    if not (busy and depends(state.requests)):  # those that follow a request of this batch may come before these
        arrive(state, r, time)
    if not busy and held(state, time):
        counts[FORM_DUE] = 1
        return Exit.UNTIL
    if not busy:
        return Exit.FORM
    counts[IN_FLIGHT] = 0
    counts[FORM_DUE] = 1
    return Exit.ENDED


@inlined
def launch(state: State, cost: Cost, limits: Limits, size: int) -> int:
    """Start the batch that a policy formed at cursor, which lists ``size`` members; FAULT when it has no time.

    A batch that is empty while nothing is in flight is formed again if its formation preempted a request and so freed
    memory. Otherwise it shows that the replica is stuck.
    """
    cursor = state.cursor
    r, slot = cursor[REPLICA], cursor[SLOT]
    counts = state.replicas.counts[r]
    restarted = counts[RESTARTS] > counts[RESTARTS_BEFORE]
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    features = state.batches.features[r, slot]
    residents = features[NUM_RESIDENTS]
    if size + residents == 0:
        if counts[IN_FLIGHT] == 0 and counts[OUTCOME] == Ending.GOING:
            if restarted:
                counts[FORM_DUE] = 1
            elif counts[WAITING] + counts[RUNNING] > 0:
                counts[OUTCOME] = Ending.STUCK
        return Exit.FORM
    counts[ITERATIONS] += 1
    counts[IN_FLIGHT] += 1
    cursor[LEFT] -= 1
    features[IN_USE] = 1
    features[NUM_LISTED] = size
    ms = sum_members(state, cost, size, residents, features[DECODE_KV], features[LONGEST_KV])
    state.batches.layers_ms[r, slot] = ms
    state.batches.on_stage[r, slot] = 0.0
    state.batches.seconds[r, slot] = 0.0
    if math.isnan(ms):
        return Exit.FAULT
    count_batch(state, r, slot)
    if limits.num_stages > 1:
        return Exit.FORM if enter(state, cost, slot) else Exit.FAULT
    now = state.replicas.times[r, CLOCK]
    seconds = stage_seconds(cost, features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED], ms, 0)
    if not seconds > 0.0:
        return Exit.FAULT
    started_at, request = state.requests.started_at, state.batches.request[r, slot]
    if features[NUM_PREFILLS] > 0:
        for i in range(size):
            if math.isnan(started_at[request[i]]):
                started_at[request[i]] = now
    state.batches.on_stage[r, slot] = (now + seconds) - now
    state.replicas.stage_end[r, 0] = now + seconds
    state.replicas.busy[r, 0] += seconds
    state.batches.seconds[r, slot] = seconds
    count_stage(state, (now + seconds) - now)
    count_time(state, limits, r, 1, now + seconds)
    record(state, limits.num_blocks, 0, slot, now, now + seconds)
    return Exit.FORM
