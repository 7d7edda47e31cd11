"""Routers that look at the replicas when a request arrives, and the order in which replicas are advanced.

A request is routed when it arrives: after everything strictly earlier has happened on every replica, and before
anything else happens at that time.
"""

import math
from collections.abc import Callable

from .._jit import inlined
from ..exits import Ending, Exit
from ..iterations.fast_forward import next_finish
from ..memory.followers import depends, just_after
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
    REPLICA,
    TURN,
    UNSEEN,
    WAITING,
    Limits,
    Longs,
    State,
)
from ..tables import Cost
from .arrivals import append, next_arrival, next_unrouted, take_next
from .look import looks, route_due
from .pipeline import next_moment, next_pipeline_event
from .pools import Stages, cost_of, limits_of
from .replica import next_event
from .routers import ASSIGNED, CUSTOM, LEAST_OUTSTANDING, LEAST_WAITING, ROUND_ROBIN
from .share import candidates, lightest_of, load_of
from .tournament import replay, second

NextEvent = Callable[[State, Cost, Limits], int]
QuietUntil = Callable[[State, Cost, Limits, int, bool, bool], float]


@inlined
def _load(counts: Longs, limits: Limits) -> float:
    """The load of a replica of several pools: its requests over its weight."""
    return load_of(counts, limits) / limits.share.weight


@inlined
def _compares(limits: Limits) -> bool:
    """Whether the router compares the loads of replicas."""
    return limits.router in (LEAST_OUTSTANDING, LEAST_WAITING)


@inlined
def quiet_until(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica of one stage may change next, s, if no request is routed to it; a lower bound.

    Until then the replica need not be advanced: it catches up when a request is routed to it.
    """
    counts = state.replicas.counts[r]
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if counts[FORM_DUE] and depends(state.requests):
        # A batch that is held: it is formed after everything that happens at the same time elsewhere.
        return just_after(float(state.replicas.times[r, CLOCK]))
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
def quiet_until_of_any(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """The same for a replica of any number of stages."""
    counts = state.replicas.counts[r]
    if limits.num_stages == 1:
        return quiet_until(state, cost, limits, r, grows, refusal_lasts)
    if counts[OUTCOME] != Ending.GOING:
        return math.inf
    if depends(state.requests) and (counts[FORM_DUE] or counts[EVENTS] > 0):
        return just_after(float(state.replicas.times[r, CLOCK]))
    return next_moment(state)


@inlined
def next_event_of_any(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor, of any number of stages, to its next event before the horizon."""
    if limits.num_stages > 1:
        return next_pipeline_event(state, cost, limits)
    return next_event(state, cost, limits)


@inlined
def _choose(state: State, limits: tuple[Limits, ...], request: int) -> int:
    """The replica that a request goes to."""
    router = limits[0].router
    if router == ASSIGNED:
        return int(state.requests.replica[request])
    if router == ROUND_ROBIN:
        state.cursor[TURN] += 1
        first = state.cursor[FIRST]
        return int(first + (state.cursor[TURN] - 1) % (state.cursor[LAST] - first))
    if len(limits) == 1:
        return int(state.replicas.lightest[1])
    first, last = candidates(state, limits, request)
    return lightest_of(state.replicas.lightest, state.replicas.load, first, last)


@inlined
def _route_next(state: State, limits: tuple[Limits, ...]) -> int:
    """Route the next request to arrive; returns the replica that it goes to, which is not quiet from then on."""
    replicas, request = state.replicas, next_unrouted(state)
    best = _choose(state, limits, request)
    append(state, best, take_next(state))
    if _compares(limits[0]):
        if len(limits) == 1:
            load = replicas.load[best] + 1.0
        else:
            load = _load(replicas.counts[best], limits[replicas.pool[best]])
        replay(replicas.lightest, replicas.load, best, load)
    return best


@inlined
def _let_on(state: State, limits: tuple[Limits, ...], r: int, quiet: float) -> bool:
    """Route what arrives next, then let the replica on that may finish a request first, no further than others may.

    This is for requests that follow others: what finishes on any replica may be the next arrival on all. ``r`` was
    advanced last, and is quiet until ``quiet``, s: the tournament learns of that only if another replica is let on.
    False when nothing is left to happen.
    """
    replicas = state.replicas
    others, arrival = second(replicas.soonest, replicas.quiet_until, r), next_arrival(state)
    while arrival < min(quiet, others):
        best = _route_next(state, limits)
        replay(replicas.soonest, replicas.quiet_until, best, arrival)
        if best == r:
            quiet = replicas.quiet_until[r]
        else:
            others = min(others, replicas.quiet_until[best])
        arrival = next_arrival(state)
    if others < quiet:
        replay(replicas.soonest, replicas.quiet_until, r, quiet)
        r, quiet = replicas.soonest[1], others
        others = second(replicas.soonest, replicas.quiet_until, r)
    state.cursor[REPLICA] = r
    state.moments[HORIZON] = just_after(min(others, arrival))
    return quiet < math.inf


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
    caches: bool,
) -> int:
    """Put cursor on the replica whose turn it is, and return its next event; DONE when all replicas are at their end.

    ``next_event`` says how a replica goes on, and ``quiet_until`` how long it need not be advanced. ``grows``: decodes
    take blocks. ``refusal_lasts``: a request that was refused for a batch is refused again until another one finishes.
    ``caches``: replicas may have prefixes cached.
    """
    cursor, replicas, moments = state.cursor, state.replicas, state.moments
    router, following = limits[0].router, depends(state.requests)
    while True:
        r = cursor[REPLICA]
        if r != NONE and r < cursor[LAST]:
            event = next_event(state, cost_of(state, costs, r), limits_of(state, limits, r, stages))
            if event not in (Exit.UNTIL, Exit.DONE):
                return event
        alone = moments[HORIZON] == math.inf and (cursor[DIRECT] or not following)
        quiet = math.inf
        if r != NONE and not alone and (following or not (router == CUSTOM or looks(limits[0]))):
            own = limits_of(state, limits, r, stages)
            quiet = quiet_until(state, cost_of(state, costs, r), own, r, grows, refusal_lasts)
            if _compares(own):
                load = float(load_of(replicas.counts[r], own)) if len(limits) == 1 else _load(replicas.counts[r], own)
                replay(replicas.lightest, replicas.load, r, load)
        if alone or router == CUSTOM or looks(limits[0]):
            replicas.quiet_until[r] = quiet
            if r < cursor[LAST] - 1:
                cursor[REPLICA] = r + 1
            elif moments[HORIZON] == math.inf or not looks(limits[0]):
                return Exit.DONE
            else:
                route_due(state, limits, caches)
        elif following:
            if not _let_on(state, limits, r, quiet):
                return Exit.DONE
        else:
            if r != NONE:
                replay(replicas.soonest, replicas.quiet_until, r, quiet)
                cursor[REPLICA] = NONE
            if replicas.quiet_until[replicas.soonest[1]] < moments[HORIZON]:
                cursor[REPLICA] = replicas.soonest[1]
                continue
            arrival, best = moments[HORIZON], NONE
            if arrival == next_arrival(state):
                best = _route_next(state, limits)
            moments[HORIZON] = next_arrival(state)
            if moments[HORIZON] == math.inf:
                cursor[REPLICA] = cursor[FIRST]
            elif moments[HORIZON] > arrival:
                cursor[REPLICA] = best  # no other replica has anything to do before
            elif best != NONE:
                replay(replicas.soonest, replicas.quiet_until, best, arrival)
