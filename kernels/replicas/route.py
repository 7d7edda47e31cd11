"""Routers that look at the replicas when a request arrives, and the order in which replicas are advanced.

A request is routed when it arrives: after everything strictly earlier has happened on every replica, and before
anything else happens at that time.
"""

import math

from .._jit import inlined
from ..cost import Cost
from ..exits import Ending, Exit
from ..iterations.fast_forward import next_finish
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

# Limits.router. ROUTED: the shell has assigned every request beforehand. LEAST_OUTSTANDING and LEAST_WAITING: the next
# request goes to the replica with the fewest requests present or waiting. CUSTOM: a function of the user's routes each
# request once every replica has been advanced to the horizon.
ROUTED, LEAST_OUTSTANDING, LEAST_WAITING, CUSTOM = range(4)


@inlined
def _load(counts: Longs, limits: Limits) -> int:
    """The requests by which the router chooses. A request counts from when it is routed to the replica."""
    present = counts[PRESENT] if limits.router == LEAST_OUTSTANDING else counts[WAITING]
    return int(present + counts[UNSEEN])


@inlined
def _quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound.

    Until then the replica need not be advanced: it catches up when a request is routed to it.
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
        if not refusal_lasts:
            return end
    elif limits.router == LEAST_WAITING:
        return math.inf
    return next_finish(state, cost, limits, r, grows)


@inlined
def _route_next(state: State) -> None:
    """Route the request that arrives at the horizon, if there is one, and move the horizon to the next arrival."""
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
    state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages, grows: bool, refusal_lasts: bool
) -> int:
    """Put cursor on the replica whose turn it is, and return its next event; DONE when all replicas are at their end.

    ``grows``: decodes take blocks. ``refusal_lasts``: a request that was refused for a batch is refused again until
    another request finishes.
    """
    cursor, replicas = state.cursor, state.replicas
    while True:
        r = cursor[REPLICA]
        if r != NONE and r < cursor[LAST]:
            event = next_event(state, cost_of(state, costs, r), limits_of(state, limits, r, stages))
            if event not in (Exit.UNTIL, Exit.DONE):
                return event
        if state.moments[HORIZON] == math.inf or limits[0].router == CUSTOM:
            if r >= cursor[LAST] - 1:
                return Exit.DONE
            cursor[REPLICA] = r + 1
            continue
        if r != NONE:
            own = limits_of(state, limits, r, stages)
            replay(replicas.lightest, replicas.load, r, float(_load(replicas.counts[r], own)))
            quiet = _quiet_until(state, cost_of(state, costs, r), own, r, grows, refusal_lasts)
            replay(replicas.soonest, replicas.quiet_until, r, quiet)
            cursor[REPLICA] = NONE
        soonest = replicas.soonest[1]
        if replicas.quiet_until[soonest] < state.moments[HORIZON]:
            cursor[REPLICA] = soonest
        else:
            _route_next(state)
