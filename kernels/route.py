"""Routers that look at the replicas when a request arrives, and the turns of replicas in time.

A request is routed at its arrival: after everything strictly earlier has happened on every replica, and
before anything else at that time.
"""

import math

from ._jit import inlined
from .cost import Cost
from .replica import next_event
from .state import (
    COMING,
    DONE,
    FIRST,
    GOING,
    HEAD,
    LAST,
    NEXT_REQUEST,
    NONE,
    OUTCOME,
    PRESENT,
    REPLICA,
    TAIL,
    UNTIL,
    WAITING,
    Limits,
    State,
)

# Limits.router: requests that the shell has assigned already, or the column of counts to keep low.
ROUTED, LEAST_OUTSTANDING, LEAST_WAITING = range(3)


@inlined
def append(state: State, replica: int, request: int) -> None:
    """Add a request to the end of a replica's stream of arrivals."""
    counts, following = state.replicas.counts[replica], state.requests.next
    state.requests.replica[request] = replica
    following[request] = NONE
    if counts[COMING] == NONE:
        counts[COMING] = request
    if counts[HEAD] == NONE:
        counts[HEAD] = request
    else:
        following[counts[TAIL]] = request
    counts[TAIL] = request


@inlined
def _route_next(state: State, limits: Limits) -> bool:
    """Route every request that arrives at the horizon and set the next one; False after the last."""
    cursor, arrived_at = state.cursor, state.requests.arrived_at
    request, number = cursor[NEXT_REQUEST], arrived_at.size
    if request >= number:
        return False
    column = PRESENT if limits.router == LEAST_OUTSTANDING else WAITING
    counts = state.replicas.counts
    now = arrived_at[request]
    first = request
    if state.until[0] == now:
        while request < number and arrived_at[request] == now:
            best = cursor[FIRST]
            for r in range(best + 1, cursor[LAST]):
                if counts[r, column] < counts[best, column]:
                    best = r
            append(state, best, request)
            counts[best, column] += 1
            request += 1
        # They count for good when the replica sees them arrive, which one that has stopped never does.
        for routed in range(first, request):
            r = state.requests.replica[routed]
            if counts[r, OUTCOME] == GOING:
                counts[r, column] -= 1
        cursor[NEXT_REQUEST] = request
    state.until[0] = arrived_at[request] if request < number else math.inf
    return True


@inlined
def next_turn(state: State, cost: Cost, limits: Limits) -> int:
    """The next event of any replica; DONE when all have come to their end."""
    cursor = state.cursor
    while True:
        event = next_event(state, cost, limits)
        if event not in (UNTIL, DONE):
            return event
        cursor[REPLICA] += 1
        if cursor[REPLICA] < cursor[LAST]:
            continue
        cursor[REPLICA] = cursor[FIRST]
        if limits.router == ROUTED or not _route_next(state, limits):
            return DONE
