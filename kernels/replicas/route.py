"""Routers that look at the replicas when a request arrives, and the turns of replicas in time.

A request is routed at its arrival: after everything strictly earlier has happened on every replica, and
before anything else at that time.
"""

import math

from .._jit import inlined
from ..cost import Cost
from ..exits import Ending, Exit
from ..iterations.fast_forward import next_leave
from ..state import (
    COMING,
    FIRST,
    GROUPED,
    HORIZON,
    IN_FLIGHT,
    LAST,
    NONE,
    NUM_PREFILLS,
    OUTCOME,
    PRESENT,
    REPLICA,
    UNSEEN,
    WAITING,
    Limits,
    Longs,
    State,
)
from .arrivals import append, next_arrival, take_next
from .pipeline import next_moment
from .pools import Stages, cost_of, limits_of
from .replica import next_event
from .tournament import replay

# Limits.router: requests that the shell has assigned already, the column of counts to keep low, or a function of
# the user's, for which every replica comes to the horizon.
ROUTED, LEAST_OUTSTANDING, LEAST_WAITING, ASKED = range(4)


@inlined
def _load(counts: Longs, limits: Limits) -> int:
    """What a router keeps low, requests. One that was routed counts at once, seen or not."""
    present = counts[PRESENT] if limits.router == LEAST_OUTSTANDING else counts[WAITING]
    return int(present + counts[UNSEEN])


@inlined
def _quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, patient: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; early rather than late.

    Until then it need not be advanced: it can catch up when a request is routed to it.
    """
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if limits.num_stages > 1:
        return next_moment(state)
    if counts[IN_FLIGHT] == 0:
        return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])
    end = float(state.replicas.stage_end[r, 0])
    if not counts[GROUPED] or counts[UNSEEN] > 0 or state.batches.features[r, 0, NUM_PREFILLS] > 0:
        return end
    if counts[WAITING] > 0:
        if not patient:
            return end
    elif limits.router == LEAST_WAITING:
        return math.inf
    return next_leave(state, cost, limits, r, grows)


@inlined
def _route_next(state: State) -> None:
    """Route the request that arrives at the horizon, if there is one, and move the horizon to the next."""
    cursor, replicas, moments = state.cursor, state.replicas, state.moments
    if moments[HORIZON] == next_arrival(state):
        best = replicas.lightest[1]
        append(state, best, take_next(state))
        replay(replicas.lightest, replicas.load, best, replicas.load[best] + 1.0)
        replay(replicas.soonest, replicas.quiet_until, best, moments[HORIZON])
    moments[HORIZON] = next_arrival(state)
    if moments[HORIZON] == math.inf:
        cursor[REPLICA] = cursor[FIRST]


@inlined
def next_turn(
    state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages, grows: bool, patient: bool
) -> int:
    """The next event of any replica; DONE when all have come to their end.

    ``grows``: decodes take blocks. ``patient``: who was refused for a batch is asked again only when somebody
    leaves.
    """
    cursor, replicas = state.cursor, state.replicas
    while True:
        r = cursor[REPLICA]
        if r != NONE and r < cursor[LAST]:
            event = next_event(state, cost_of(state, costs, r), limits_of(state, limits, r, stages))
            if event not in (Exit.UNTIL, Exit.DONE):
                return event
        if state.moments[HORIZON] == math.inf or limits[0].router == ASKED:
            if r >= cursor[LAST] - 1:
                return Exit.DONE
            cursor[REPLICA] = r + 1
            continue
        if r != NONE:
            own = limits_of(state, limits, r, stages)
            replay(replicas.lightest, replicas.load, r, float(_load(replicas.counts[r], own)))
            quiet = _quiet_until(state, cost_of(state, costs, r), own, r, grows, patient)
            replay(replicas.soonest, replicas.quiet_until, r, quiet)
            cursor[REPLICA] = NONE
        soonest = replicas.soonest[1]
        if replicas.quiet_until[soonest] < state.moments[HORIZON]:
            cursor[REPLICA] = soonest
        else:
            _route_next(state)
