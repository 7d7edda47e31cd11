"""The streams of requests to come: lists in order of arrival, linked by ``Requests.next``.

Each replica has a list of the requests that are assigned to it, and one more list holds the requests that no router has
seen; those that follow others join it from a heap (memory/followers.py). The order of a list is the order of arrival;
the id of a request says nothing about when it arrives.
"""

import math

from .._jit import inlined
from ..memory.followers import comes_before, pop_soonest
from ..state import COMING, HEAD, LATER, NEXT_REQUEST, NONE, TAIL, UNSEEN, State


@inlined
def next_arrival(state: State) -> float:
    """When the next request arrives that no router has seen, s; infinite when there is none, as far as is known."""
    request = next_unrouted(state)
    return math.inf if request == NONE else float(state.requests.arrived_at[request])


@inlined
def next_unrouted(state: State) -> int:
    """The next request to arrive that no router has seen, NONE when there is none."""
    request = int(state.cursor[NEXT_REQUEST])
    if state.cursor[LATER] > 0 and (
        request == NONE or comes_before(state.requests.arrived_at, state.later[0], request)
    ):
        request = int(state.later[0])
    return request


@inlined
def take_next(state: State) -> int:
    """Take the next request out of the list of those that no router has seen, or out of the heap."""
    request = next_unrouted(state)
    if request == state.cursor[NEXT_REQUEST]:
        state.cursor[NEXT_REQUEST] = state.requests.next[request]
    else:
        pop_soonest(state.later, state.cursor, state.requests.arrived_at)
    return request


@inlined
def append(state: State, replica: int, request: int) -> None:
    """Add a request to the end of a replica's list."""
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
