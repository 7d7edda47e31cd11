"""The order in which replicas are advanced, requests routed and transfers ended where KV is transferred."""

import math

from .._jit import inlined, merged
from ..exits import Exit
from ..memory.followers import just_after
from ..replicas.arrivals import append, next_arrival, next_unrouted, take_next
from ..replicas.pools import Stages, cost_of, limits_of
from ..replicas.routers import LEAST_OUTSTANDING, LEAST_WAITING
from ..replicas.share import lightest_of, load_of
from ..replicas.tournament import replay, second
from ..state import HORIZON, LAST, NONE, REPLICA, TURN, TURN_OF_PREFILLS, Limits, State
from ..tables import Cost
from .link import finish_next, next_end
from .loop import next_event, quiet_until
from .state import PREFILL


@inlined
def _choose(state: State, limits: tuple[Limits, ...], request: int) -> int:
    """The replica that a request goes to: one that prefills for a PREFILL, else one that decodes."""
    prefills, first, last = state.transfers.phase[request] == PREFILL, NONE, 0
    for pool in range(len(limits)):
        share = limits[pool].share
        if share.prefills == prefills:
            first = share.first if first == NONE else first
            last = share.last
    if limits[0].router in (LEAST_OUTSTANDING, LEAST_WAITING):
        return lightest_of(state.replicas.lightest, state.replicas.load, first, last)
    turn = TURN_OF_PREFILLS if prefills else TURN
    state.cursor[turn] += 1
    return int(first + (state.cursor[turn] - 1) % (last - first))


@inlined
def _weigh(state: State, limits: tuple[Limits, ...], r: int) -> None:
    """Let the router know of the load of a replica."""
    own = limits[state.replicas.pool[r]]
    if own.router in (LEAST_OUTSTANDING, LEAST_WAITING):
        load = load_of(state.replicas.counts[r], own) / own.share.weight
        replay(state.replicas.lightest, state.replicas.load, r, load)


@inlined
def _let_on(state: State, limits: tuple[Limits, ...]) -> bool:
    """End transfers and route what comes before anything else happens, then let the soonest replica on.

    False when nothing is left to happen.
    """
    replicas = state.replicas
    while True:
        r = int(replicas.soonest[1])
        soonest, arrival, ends = float(replicas.quiet_until[r]), next_arrival(state), next_end(state)
        if ends <= arrival and ends < soonest:
            finish_next(state, limits[0])
        elif arrival < soonest:
            request = next_unrouted(state)
            best = _choose(state, limits, request)
            append(state, best, take_next(state))
            _weigh(state, limits, best)
            if arrival < replicas.quiet_until[best]:
                replay(replicas.soonest, replicas.quiet_until, best, arrival)
        else:
            break
    if soonest == math.inf:
        return False
    others = second(replicas.soonest, replicas.quiet_until, r)
    state.cursor[REPLICA] = r
    state.moments[HORIZON] = just_after(min(others, arrival, ends))
    return True


@merged
def next_turn(
    state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages, grows: bool, lasts: bool
) -> int:
    """Put cursor on the replica whose turn it is, and return its next event; DONE when all is done."""
    cursor, replicas = state.cursor, state.replicas
    while True:
        r = cursor[REPLICA]
        if r != NONE and r < cursor[LAST]:
            own = limits_of(state, limits, r, stages)
            event = next_event(state, cost_of(state, costs, r), own)
            if event not in (Exit.UNTIL, Exit.DONE):
                return event
            quiet = quiet_until(state, cost_of(state, costs, r), own, r, grows, lasts)
            replay(replicas.soonest, replicas.quiet_until, r, quiet)
            _weigh(state, limits, r)
        if not _let_on(state, limits):
            return Exit.DONE
