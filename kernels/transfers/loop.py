"""The engine loop of vLLM V1 where KV is transferred: an engine that has nothing to do also wakes up at news."""

import math

from .._jit import inlined
from ..accounts.counts import count_held
from ..engine.loop import is_log_full, only_decodes
from ..engine.state import AHEAD, OLDEST, UNANNOUNCED
from ..exits import Ending, Exit
from ..iterations.fast_forward import finish_after
from ..memory.followers import held, just_after
from ..memory.queues import arrive
from ..memory.waiting import rank_arrived
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    NONE,
    OUTCOME,
    PRESENT,
    REPLICA,
    SLOT,
    Limits,
    State,
)
from ..tables import Cost
from .news import learn, next_news
from .state import NEWS_FIRST, NUM_READY


@inlined
def _wakes_at(state: State, r: int) -> float:
    """When an engine that has nothing to do wakes up, s."""
    coming = state.replicas.counts[r, COMING]
    return min(next_news(state, r), math.inf if coming == NONE else float(state.requests.arrived_at[coming]))


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    cursor = state.cursor
    r = cursor[REPLICA]
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return Exit.DONE
    if cursor[LEFT] <= 0 or is_log_full(state, limits):
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
        time = max(float(times[CLOCK]), _wakes_at(state, r))
        if time == math.inf:
            return Exit.DONE
        if time >= state.moments[HORIZON]:
            return Exit.UNTIL
        times[CLOCK] = time
        learn(state, limits, r, time)
        counts[FORM_DUE] = 1


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When a replica may next affect others or take a request in, s, if nothing comes to it; a lower bound."""
    counts, transfers = state.replicas.counts[r], state.transfers.counts[r]
    now = float(state.replicas.times[r, CLOCK])
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if counts[FORM_DUE]:
        return just_after(now)
    if counts[IN_FLIGHT] > 0:
        end = float(max(now, state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
        if transfers[NUM_READY] > 0 or transfers[NEWS_FIRST] != NONE or not only_decodes(state, limits, r):
            return end
        newest = float(state.replicas.stage_end[r, 0])
        return max(end, finish_after(state, cost, limits, r, newest, counts[GROUP_STEP], counts[GROUP_KV], grows))
    return max(now, _wakes_at(state, r))
