"""What a scheduler learns of transfers: requests whose KV is there can run, and blocks that were read are free."""

import math

from .._jit import inlined
from ..engine.state import REFUSED
from ..memory.paged import cache_full_blocks, give_up_blocks
from ..state import NONE, REMOTE, Limits, State
from .state import (
    NEWS_FIRST,
    NUM_KEPT,
    NUM_READY,
    NUM_REMOTE,
    PREFILL,
    READY,
    RECEIVING,
    REMOTE_FIRST,
    REMOTE_LAST,
)


@inlined
def next_news(state: State, r: int) -> float:
    """When the next news of a replica comes, s; infinite without one."""
    first = state.transfers.counts[r, NEWS_FIRST]
    return math.inf if first == NONE else float(state.transfers.news_at[first])


@inlined
def learn(state: State, limits: Limits, r: int, now: float) -> None:
    """Take the news of a replica up to ``now``, s."""
    transfers, counts = state.transfers, state.transfers.counts[r]
    while next_news(state, r) <= now:
        request = int(counts[NEWS_FIRST])
        counts[NEWS_FIRST] = transfers.news_next[request]
        state.engine.counts[r, REFUSED] = 0
        if transfers.phase[request] == PREFILL:
            counts[NUM_KEPT] -= 1
            give_up_blocks(state, limits, r, request, False)
        else:
            transfers.phase[request] = READY
            counts[NUM_READY] += 1
            state.requests.processed[request] = state.engine.known[request] - 1
            cache_full_blocks(state, limits, r, request, int(state.engine.known[request] - 1))


@inlined
def queue_remote(state: State, r: int, request: int) -> None:
    """Add a request to the end of those whose KV is on its way."""
    transfers, counts, following = state.transfers, state.transfers.counts[r], state.requests.next
    transfers.phase[request] = RECEIVING
    following[request] = NONE
    if counts[REMOTE_FIRST] == NONE:
        counts[REMOTE_FIRST] = request
    else:
        following[counts[REMOTE_LAST]] = request
    counts[REMOTE_LAST] = request
    counts[NUM_REMOTE] += 1
    state.replicas.counts[r, REMOTE] += 1


@inlined
def take_remote(state: State, r: int, before: int, request: int) -> None:
    """Take a request out of that queue; ``before``: the one that stands before it, NONE where it is the first."""
    counts, following = state.transfers.counts[r], state.requests.next
    if before == NONE:
        counts[REMOTE_FIRST] = following[request]
    else:
        following[before] = following[request]
    if counts[REMOTE_LAST] == request:
        counts[REMOTE_LAST] = before
    counts[NUM_REMOTE] -= 1
    state.replicas.counts[r, REMOTE] -= 1
