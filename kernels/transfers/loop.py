"""The engine loop of vLLM V1 where KV is transferred: an engine that has nothing to do also wakes up at news."""

import math

from .._jit import inlined
from ..engine.loop import next_event_waking, only_decodes
from ..engine.state import OLDEST
from ..exits import Ending, Exit
from ..iterations.fast_forward import finish_after
from ..memory.followers import just_after
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    IN_FLIGHT,
    NONE,
    OUTCOME,
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
def _wake(state: State, cost: Cost, limits: Limits, r: int) -> int:
    """Let an engine that has nothing to do go on when the next request arrives or news comes."""
    time = max(float(state.replicas.times[r, CLOCK]), _wakes_at(state, r))
    if time == math.inf:
        return Exit.DONE
    if time >= state.moments[HORIZON]:
        return Exit.UNTIL
    state.replicas.times[r, CLOCK] = time
    learn(state, limits, r, time)
    return Exit.FORM


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    return next_event_waking(state, cost, limits, _wake)


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
