"""The engine loop of vLLM V1: passes in which requests are taken in, a batch is scheduled, and the oldest one awaited.

A pass takes no time by itself. With a queue of several batches (asynchronous scheduling, pipelines) the engine may
schedule again at once; else it waits for the oldest batch, learns its tokens, and begins the next pass.
"""

import math

import numpy as np

from .._jit import inlined
from ..accounts.counts import count_held
from ..cost import Cost
from ..exits import Ending, Exit
from ..memory.followers import depends, held
from ..memory.queues import arrive
from ..memory.waiting import rank_arrived
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    LOGGED,
    NONE,
    OUTCOME,
    PRESENT,
    REPLICA,
    SLOT,
    Limits,
    State,
)
from .state import AHEAD, IDLE_CALL, OLDEST, UNANNOUNCED, WITH_WORK


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    cursor = state.cursor
    r = cursor[REPLICA]
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if cursor[LEFT] <= 0 or (state.log.start.size > 0 and cursor[LOGGED] + limits.num_stages > state.log.start.size):
        return Exit.BUDGET
    while True:
        if counts[FORM_DUE]:
            if own[AHEAD]:
                return Exit.FORM
            if times[CLOCK] >= state.moments[HORIZON] or held(state, times[CLOCK]):
                return Exit.UNTIL
            arrive(state, r, times[CLOCK])
            rank_arrived(state, limits, r)
            counts[FORM_DUE] = 0
            if counts[PRESENT] > 0 or own[UNANNOUNCED]:
                cursor[SLOT] = (own[OLDEST] + counts[IN_FLIGHT]) % limits.engine.depth
                return Exit.FORM
        if counts[IN_FLIGHT] > 0:
            end = max(times[CLOCK], state.engine.batch_end[r, own[OLDEST]])
            if end >= state.moments[HORIZON]:
                return Exit.UNTIL
            count_held(state, limits, r, end)
            times[CLOCK] = end
            cursor[SLOT] = own[OLDEST]
            own[OLDEST] = (own[OLDEST] + 1) % limits.engine.depth
            counts[IN_FLIGHT] -= 1
            return Exit.ENDED
        coming = counts[COMING]
        if coming == NONE:
            return Exit.DONE
        if state.requests.arrived_at[coming] >= state.moments[HORIZON]:
            return Exit.UNTIL
        times[CLOCK] = max(times[CLOCK], state.requests.arrived_at[coming])
        counts[FORM_DUE] = 1


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound."""
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if counts[FORM_DUE]:
        # A batch that is held is formed after everything that happens at the same time elsewhere.
        now = state.replicas.times[r, CLOCK]
        return float(np.nextafter(now, math.inf) if depends(state.requests) else now)
    if counts[IN_FLIGHT] > 0:
        return float(max(state.replicas.times[r, CLOCK], state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
    return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])


@inlined
def rest(state: State, limits: Limits, r: int) -> None:
    """Let the engine sleep at the end of a pass that scheduled no tokens while requests are unfinished."""
    rules, own = limits.engine, state.engine.counts[r]
    announces = rules.launches_while == WITH_WORK and own[UNANNOUNCED]
    if own[IDLE_CALL] and rules.sleep_s > 0.0 and (state.replicas.counts[r, PRESENT] > 0 or announces):
        state.replicas.times[r, CLOCK] += rules.sleep_s
