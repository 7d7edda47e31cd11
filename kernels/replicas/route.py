"""Routers that look at the replicas when a request arrives, and the order in which replicas are advanced.

A request is routed when it arrives: after everything strictly earlier has happened on every replica, and before
anything else happens at that time.
"""

import math
from collections.abc import Callable

import numpy as np

from .._jit import inlined
from ..cost import Cost
from ..exits import Ending, Exit
from ..iterations.fast_forward import next_finish
from ..memory.followers import depends
from ..state import (
    CLOCK,
    COMING,
    DIRECT,
    EVENTS,
    FIRST,
    FORM_DUE,
    GROUPED,
    HORIZON,
    IN_FLIGHT,
    LAST,
    NONE,
    NUM_PREFILLS,
    OUTCOME,
    PRESENT,
    REPLICA,
    TURN,
    UNSEEN,
    WAITING,
    Limits,
    Longs,
    State,
)
from .arrivals import append, next_arrival, take_next
from .pipeline import next_moment
from .pools import Stages, cost_of, limits_of
from .tournament import replay

# Limits.router. ROUTED: the shell has put every request into the stream of its replica. LEAST_OUTSTANDING and
# LEAST_WAITING: the next request goes to the replica with the fewest requests present or waiting. CUSTOM: a function of
# the user's routes each request once every replica has been advanced to the horizon. ROUND_ROBIN and ASSIGNED, where
# requests follow others: the next request goes to the next replica in turn, or to the one that the shell has assigned.
ROUTED, LEAST_OUTSTANDING, LEAST_WAITING, CUSTOM, ROUND_ROBIN, ASSIGNED = range(6)


NextEvent = Callable[[State, Cost, Limits], int]
QuietUntil = Callable[[State, Cost, Limits, int, bool, bool], float]


@inlined
def _load(counts: Longs, limits: Limits) -> int:
    """The requests by which the router chooses. A request counts from when it is routed to the replica."""
    present = counts[PRESENT] if limits.router == LEAST_OUTSTANDING else counts[WAITING]
    return int(present + counts[UNSEEN])


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound.

    Until then the replica need not be advanced: it catches up when a request is routed to it.
    """
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if depends(state.requests) and (counts[FORM_DUE] or counts[EVENTS] > 0):
        # A batch that is held: it is formed after everything that happens at the same time elsewhere.
        return float(np.nextafter(state.replicas.times[r, CLOCK], math.inf))
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
    elif limits.router == LEAST_WAITING and not depends(state.requests):
        return math.inf
    return next_finish(state, cost, limits, r, grows)


@inlined
def _choose(state: State, limits: Limits, request: int) -> int:
    """The replica that a request goes to."""
    if limits.router == ASSIGNED:
        return int(state.requests.replica[request])
    if limits.router == ROUND_ROBIN:
        state.cursor[TURN] += 1
        return int((state.cursor[TURN] - 1) % state.replicas.load.size)
    return int(state.replicas.lightest[1])


@inlined
def _route_next(state: State, limits: Limits) -> None:
    """Route the request that arrives at the horizon, if there is one, and move the horizon to the next arrival."""
    cursor, replicas, moments = state.cursor, state.replicas, state.moments
    if moments[HORIZON] == next_arrival(state):
        request = take_next(state)
        best = _choose(state, limits, request)
        append(state, best, request)
        replay(replicas.lightest, replicas.load, best, replicas.load[best] + 1.0)
        replay(replicas.soonest, replicas.quiet_until, best, moments[HORIZON])
    moments[HORIZON] = next_arrival(state)
    if moments[HORIZON] == math.inf and not depends(state.requests):
        cursor[REPLICA] = cursor[FIRST]


@inlined
def _let_on(state: State, limits: Limits) -> bool:
    """Let the replica on that may finish a request first, but not beyond that time; else route the next arrival.

    This is for requests that follow others: what finishes on any replica may be the next arrival on all. False when
    nothing is left to happen.
    """
    soonest = state.replicas.soonest[1]
    quiet, arrival = state.replicas.quiet_until[soonest], next_arrival(state)
    if quiet < math.inf and quiet <= arrival:
        state.moments[HORIZON] = np.nextafter(quiet, math.inf)
        state.cursor[REPLICA] = soonest
    elif arrival < math.inf:
        state.moments[HORIZON] = arrival
        _route_next(state, limits)
    return bool(quiet < math.inf or arrival < math.inf)


@inlined
def next_turn(
    state: State,
    costs: tuple[Cost, ...],
    limits: tuple[Limits, ...],
    stages: Stages,
    next_event: NextEvent,
    quiet_until: QuietUntil,
    grows: bool,
    refusal_lasts: bool,
) -> int:
    """Put cursor on the replica whose turn it is, and return its next event; DONE when all replicas are at their end.

    ``next_event`` says how a replica goes on, and ``quiet_until`` how long it need not be advanced. ``grows``: decodes
    take blocks. ``refusal_lasts``: a request that was refused for a batch is refused again until another one finishes.
    """
    cursor, replicas = state.cursor, state.replicas
    while True:
        r = cursor[REPLICA]
        if r != NONE and r < cursor[LAST]:
            event = next_event(state, cost_of(state, costs, r), limits_of(state, limits, r, stages))
            if event not in (Exit.UNTIL, Exit.DONE):
                return event
        alone = state.moments[HORIZON] == math.inf and (cursor[DIRECT] or not depends(state.requests))
        if alone or limits[0].router == CUSTOM:
            if depends(state.requests) and not alone:
                own = limits_of(state, limits, r, stages)
                quiet = quiet_until(state, cost_of(state, costs, r), own, r, grows, refusal_lasts)
                replicas.quiet_until[r] = quiet
            if r >= cursor[LAST] - 1:
                return Exit.DONE
            cursor[REPLICA] = r + 1
            continue
        if r != NONE:
            own = limits_of(state, limits, r, stages)
            replay(replicas.lightest, replicas.load, r, float(_load(replicas.counts[r], own)))
            quiet = quiet_until(state, cost_of(state, costs, r), own, r, grows, refusal_lasts)
            replay(replicas.soonest, replicas.quiet_until, r, quiet)
            cursor[REPLICA] = NONE
        soonest = replicas.soonest[1]
        if depends(state.requests):
            if not _let_on(state, limits[0]):
                return Exit.DONE
        elif replicas.quiet_until[soonest] < state.moments[HORIZON]:
            cursor[REPLICA] = soonest
        else:
            _route_next(state, limits[0])
