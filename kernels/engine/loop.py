"""The engine loop of vLLM V1: passes in which requests are taken in, a batch is scheduled, and the oldest one awaited.

A pass takes no time by itself. With a queue of several batches (asynchronous scheduling, pipelines) the engine may
schedule again at once; else it waits for the oldest batch, learns its tokens, and begins the next pass.
"""

import math
from collections.abc import Callable

import numpy as np

from .._jit import inlined
from ..accounts.counts import count_held
from ..exits import Ending, Exit
from ..iterations.fast_forward import finish_after
from ..memory.followers import depends, held
from ..memory.queues import arrive
from ..memory.waiting import rank_arrived
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    GROUPED,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    LOGGED,
    NONE,
    NUM_LISTED,
    OUTCOME,
    PRESENT,
    REPLICA,
    RUNNING,
    SLOT,
    UNSEEN,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .state import AHEAD, IDLE_CALL, LINKED, OLDEST, REFUSED, UNANNOUNCED, WITH_WORK

Until = Callable[[State, Limits, int, float], None]
Wake = Callable[[State, Cost, Limits, int], int]


@inlined
def is_log_full(state: State, limits: Limits) -> bool:
    """Whether the log has no room for a batch, and, with one stage, for another that is formed right after it."""
    rows, size = limits.num_stages, state.log.start.size
    if limits.num_stages == 1 and size > 1:
        rows = 2
    return bool(size > 0 and state.cursor[LOGGED] + rows > size)


@inlined
def next_event(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    return next_event_waking(state, cost, limits, wake_for_arrival)


@inlined
def next_event_waking(state: State, cost: Cost, limits: Limits, wake: Wake) -> int:
    """``next_event`` of a replica that may wake up for other things than arrivals; ``wake``: as for go_on."""
    r = state.cursor[REPLICA]
    if state.replicas.counts[r, OUTCOME] != Ending.GOING:
        return Exit.DONE
    if state.cursor[LEFT] <= 0 or is_log_full(state, limits):
        return Exit.BUDGET
    return go_on(state, cost, limits, r, _take_in, count_held, wake)


@inlined
def go_on(state: State, cost: Cost, limits: Limits, r: int, take_in: Until, count: Until, wake: Wake) -> int:
    """Go on with the passes of an engine until a batch is to be formed or has ended, or there is nothing to do.

    ``take_in``: takes in the requests that have come by a time, s. ``count``: counts what the engine holds from its
    clock to a time, s. ``wake``: sets the clock of an engine that has nothing to do, and returns FORM, or why it stops.
    """
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    while True:
        if counts[FORM_DUE]:
            if own[AHEAD]:
                return Exit.FORM
            if times[CLOCK] >= state.moments[HORIZON] or held(state, times[CLOCK]):
                return Exit.UNTIL
            take_in(state, limits, r, times[CLOCK])
            counts[FORM_DUE] = 0
            if counts[PRESENT] > 0 or own[UNANNOUNCED]:
                state.cursor[SLOT] = (own[OLDEST] + counts[IN_FLIGHT]) % limits.engine.depth
                return Exit.FORM
        if counts[IN_FLIGHT] > 0:
            end = max(times[CLOCK], state.engine.batch_end[r, own[OLDEST]])
            if end >= state.moments[HORIZON]:
                return Exit.UNTIL
            count(state, limits, r, end)
            take_oldest(state, limits, r, end)
            return Exit.ENDED
        code = wake(state, cost, limits, r)
        if code != Exit.FORM:
            return code
        counts[FORM_DUE] = 1


@inlined
def take_oldest(state: State, limits: Limits, r: int, end: float) -> None:
    """Put cursor on the oldest batch in flight of a replica, which has ended at ``end``, s."""
    counts, own = state.replicas.counts[r], state.engine.counts[r]
    state.replicas.times[r, CLOCK] = end
    state.cursor[SLOT] = own[OLDEST]
    own[OLDEST] = (own[OLDEST] + 1) % limits.engine.depth
    counts[IN_FLIGHT] -= 1


@inlined
def _take_in(state: State, limits: Limits, r: int, time: float) -> None:
    """Take in the requests that have arrived at a replica."""
    arrive(state, r, time)
    rank_arrived(state, limits, r)


@inlined
def wake_for_arrival(state: State, cost: Cost, limits: Limits, r: int) -> int:
    """Let a replica that has nothing to do go on when the next request arrives."""
    coming, times = state.replicas.counts[r, COMING], state.replicas.times[r]
    if coming == NONE:
        return Exit.DONE
    if state.requests.arrived_at[coming] >= state.moments[HORIZON]:
        return Exit.UNTIL
    times[CLOCK] = max(times[CLOCK], state.requests.arrived_at[coming])
    return Exit.FORM


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound.

    While the group runs alone, no request finishes before one of its members does, and none is preempted while memory
    suffices.
    """
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if counts[FORM_DUE]:
        # A batch that is held is formed after everything that happens at the same time elsewhere.
        now = state.replicas.times[r, CLOCK]
        return float(np.nextafter(now, math.inf) if depends(state.requests) else now)
    if counts[IN_FLIGHT] > 0:
        end = float(max(state.replicas.times[r, CLOCK], state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
        if not only_decodes(state, limits, r):
            return end
        newest = float(state.replicas.stage_end[r, 0])
        return max(end, finish_after(state, cost, limits, r, newest, counts[GROUP_STEP], counts[GROUP_KV], grows))
    return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])


@inlined
def only_decodes(state: State, limits: Limits, r: int) -> bool:
    """Whether the batches in flight consist of the group alone, as those after them will until a member finishes."""
    counts, own = state.replicas.counts[r], state.engine.counts[r]
    if not counts[GROUPED] or counts[GROUP] == 0 or counts[RUNNING] > 0 or counts[UNSEEN] > 0:
        return False
    # What a linked member fills may be found by the first waiting request, which then fits.
    if counts[WAITING] > 0 and (not own[REFUSED] or own[LINKED] > 0):
        return False
    for i in range(counts[IN_FLIGHT]):
        slot = (own[OLDEST] + i) % limits.engine.depth
        if state.batches.features[r, slot, NUM_LISTED] > 0:
            return False
    return True


@inlined
def rest(state: State, limits: Limits, r: int) -> None:
    """Let the engine sleep at the end of a pass that scheduled no tokens while requests are unfinished."""
    rules, own = limits.engine, state.engine.counts[r]
    announces = rules.launches_while == WITH_WORK and own[UNANNOUNCED]
    if own[IDLE_CALL] and rules.sleep_s > 0.0 and (state.replicas.counts[r, PRESENT] > 0 or announces):
        state.replicas.times[r, CLOCK] += rules.sleep_s
