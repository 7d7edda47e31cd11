"""The waiting queue of the vllm_v1 policy: in order of arrival with preempted requests at its front, or by priority.

In order of arrival the queue is the part of the replica's list of requests that has arrived. By priority it is a heap.
"""

from .._jit import inlined
from ..engine.state import REFUSED, ROOT
from ..state import COMING, HEAD, LAST_ARRIVED, NONE, TAIL, WAITING, Limits, State
from .priority import merge, put


@inlined
def rank_arrived(state: State, limits: Limits, r: int) -> None:
    """Order those that have just arrived by priority, where the policy does."""
    if limits.engine.by_priority:
        counts, following = state.replicas.counts[r], state.requests.next
        request = counts[HEAD]
        if request != counts[COMING]:
            state.engine.counts[r, REFUSED] = 0
        while request != counts[COMING]:
            counts[HEAD] = following[request]
            _rank(state, r, request)
            request = counts[HEAD]


@inlined
def _rank(state: State, r: int, request: int) -> None:
    """Add a request to the heap."""
    engine, own = state.engine, state.engine.counts[r]
    arrived_at = state.requests.arrived_at
    own[ROOT] = put(engine.left, engine.right, engine.rank, engine.priority, arrived_at, own[ROOT], request)


@inlined
def first_waiting(state: State, limits: Limits, r: int) -> int:
    """The request at the head of a queue that is not empty."""
    if not limits.engine.by_priority:
        return int(state.replicas.counts[r, HEAD])
    own = state.engine.counts[r]
    while state.requests.finished_at[own[ROOT]] >= 0.0:  # its last token came while it waited again
        _pop_root(state, r)
    return int(own[ROOT])


@inlined
def _pop_root(state: State, r: int) -> None:
    """Take the first request out of the heap."""
    engine, own = state.engine, state.engine.counts[r]
    root, arrived_at = own[ROOT], state.requests.arrived_at
    left, right = engine.left, engine.right
    own[ROOT] = merge(left, right, engine.rank, engine.priority, arrived_at, left[root], right[root])


@inlined
def take_waiting(state: State, limits: Limits, r: int) -> None:
    """Take the request at the head, which first_waiting has named, out of the queue."""
    counts = state.replicas.counts[r]
    counts[WAITING] -= 1
    if limits.engine.by_priority:
        _pop_root(state, r)
    else:
        counts[HEAD] = state.requests.next[counts[HEAD]]


@inlined
def wait_again(state: State, limits: Limits, r: int, request: int) -> None:
    """Put a preempted request at the head of the queue, or where its priority has it."""
    put_back(state, limits, r, request, request, 1)


@inlined
def put_back(state: State, limits: Limits, r: int, first: int, last: int, number: int) -> None:
    """Put a list of ``number`` requests at the head of the queue, or where their priorities have them."""
    counts, following = state.replicas.counts[r], state.requests.next
    counts[WAITING] += number
    if limits.engine.by_priority:
        request = first
        for _ in range(number):
            after = following[request]
            _rank(state, r, request)
            request = after
    elif number > 0:
        if counts[HEAD] == NONE:
            counts[TAIL] = last
        if counts[HEAD] == counts[COMING]:
            counts[LAST_ARRIVED] = last
        following[last] = counts[HEAD]
        counts[HEAD] = first


@inlined
def drop_waiting(state: State, limits: Limits, r: int, request: int) -> None:
    """Take a preempted request out of the queue, as its last token has come."""
    counts, following = state.replicas.counts[r], state.requests.next
    counts[WAITING] -= 1
    if limits.engine.by_priority:
        return  # first_waiting passes it over
    if counts[HEAD] == request:
        counts[HEAD] = following[request]
        return
    before = counts[HEAD]
    while following[before] != request:
        before = following[before]
    following[before] = following[request]
    if counts[LAST_ARRIVED] == request:
        counts[LAST_ARRIVED] = before
    if counts[TAIL] == request:
        counts[TAIL] = before
