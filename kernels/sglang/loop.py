"""The loop of SGLang: passes in which requests are taken in, at most one batch is launched, and one is awaited.

A pass takes no time by itself. With overlap it waits for the batch of the pass before, else for its own.
"""

import math

from .._jit import inlined, merged
from ..accounts.counts import count_held
from ..engine.loop import take_oldest
from ..engine.state import OLDEST
from ..exits import Ending, Exit
from ..memory.followers import depends, held, just_after
from ..memory.queues import arrive
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
    RUNNING,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .state import AHEAD, CHUNKED, IDLE_IN_A_ROW, IDLE_PASSES


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    cursor = state.cursor
    r = cursor[REPLICA]
    counts, times, engine = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if cursor[LEFT] <= 0 or (state.log.start.size > 0 and cursor[LOGGED] >= state.log.start.size):
        return Exit.BUDGET
    if counts[FORM_DUE] == 0 and counts[IN_FLIGHT] == 0:
        coming = counts[COMING]
        if coming == NONE:
            if counts[PRESENT] > 0 and state.moments[HORIZON] == math.inf:
                counts[OUTCOME] = Ending.STUCK
            return Exit.DONE
        if state.requests.arrived_at[coming] >= state.moments[HORIZON]:
            return Exit.UNTIL
        times[CLOCK] = max(times[CLOCK], state.requests.arrived_at[coming])
        counts[FORM_DUE] = 1
    if counts[FORM_DUE] and state.sglang.counts[r, AHEAD]:
        counts[FORM_DUE] = cursor[SLOT] = 0
        return Exit.FORM
    if counts[FORM_DUE]:
        if times[CLOCK] >= state.moments[HORIZON] or held(state, times[CLOCK]):
            return Exit.UNTIL
        arrive(state, r, times[CLOCK])
        counts[FORM_DUE] = 0
        cursor[SLOT] = (engine[OLDEST] + counts[IN_FLIGHT]) % limits.engine.depth
        return Exit.FORM
    end = max(times[CLOCK], state.engine.batch_end[r, engine[OLDEST]])
    if end >= state.moments[HORIZON]:
        return Exit.UNTIL
    count_held(state, limits, r, end)
    take_oldest(state, limits, r, end)
    return Exit.ENDED


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound."""
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    now = float(state.replicas.times[r, CLOCK])
    if counts[FORM_DUE]:
        # A batch that is held is formed after everything that happens at the same time elsewhere.
        return just_after(now) if depends(state.requests) else now
    if counts[IN_FLIGHT] > 0:
        return max(now, float(state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
    return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])


@merged
def end_pass(state: State, limits: Limits, launched: bool) -> None:
    """End a pass that has scheduled: it goes on with the next pass at once, or waits for a batch or an arrival."""
    r = state.cursor[REPLICA]
    counts, own, rules = state.replicas.counts[r], state.sglang.counts[r], limits.sglang
    if launched or counts[IN_FLIGHT] > 0:
        own[IDLE_IN_A_ROW] = 0
        counts[FORM_DUE] = int(launched and counts[IN_FLIGHT] < limits.engine.depth)
        return
    has_work = counts[WAITING] > 0 or counts[RUNNING] > 0 or own[CHUNKED] != NONE
    own[IDLE_PASSES] += 1
    own[IDLE_IN_A_ROW] += 1
    if rules.idle_pass_resets_ratio or not has_work:
        state.sglang.ratio[r] = rules.start_ratio
    # An idle pass may change what the next one does, so requests get two.
    waits = own[IDLE_IN_A_ROW] == 2 or not has_work
    counts[FORM_DUE] = int(not waits)
    if waits:
        own[IDLE_IN_A_ROW] = 0
