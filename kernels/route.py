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
    HEAD,
    LAST,
    NEXT_REQUEST,
    NONE,
    PRESENT,
    REPLICA,
    TAIL,
    UNSEEN,
    UNTIL,
    WAITING,
    Limits,
    Longs,
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
    counts[UNSEEN] += 1


@inlined
def _load(counts: Longs, limits: Limits) -> int:
    """What a router keeps low, requests. One that was routed counts at once, seen or not."""
    present = counts[PRESENT] if limits.router == LEAST_OUTSTANDING else counts[WAITING]
    return int(present + counts[UNSEEN])


@inlined
def _route_next(state: State, limits: Limits) -> bool:
    """Route every request that arrives at the horizon and set the next one; False after the last."""
    cursor, arrived_at = state.cursor, state.requests.arrived_at
    request, number = cursor[NEXT_REQUEST], arrived_at.size
    if request >= number:
        return False
    counts, now = state.replicas.counts, arrived_at[request]
    while state.until[0] == now and request < number and arrived_at[request] == now:
        best, least = cursor[FIRST], _load(counts[cursor[FIRST]], limits)
        for r in range(cursor[FIRST] + 1, cursor[LAST]):
            load = _load(counts[r], limits)
            if load < least:
                best, least = r, load
        append(state, best, request)
        request += 1
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
