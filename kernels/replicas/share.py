"""The pool that a request goes to where there are several, and the replica of it with the least load.

A router of one pool compares all replicas; what is asked here is known then when the kernel is compiled.
"""

from .._jit import inlined, merged
from ..state import NONE, PRESENT, REMOTE, UNSEEN, WAITING, Floats, Ints, Limits, Longs, State
from .routers import BY_COST, BY_PROMPT, LEAST_OUTSTANDING


@inlined
def load_of(counts: Longs, limits: Limits) -> int:
    """The requests by which the router chooses. A request counts from when it is routed to the replica."""
    present = counts[PRESENT] if limits.router == LEAST_OUTSTANDING else counts[WAITING] + counts[REMOTE]
    return int(present + counts[UNSEEN])


@inlined
def lightest_of(winners: Ints, keys: Floats, first: int, last: int) -> int:
    """Which of the players [first, last) of a tournament has the least key, the lowest id among equals."""
    left, right, best = winners.size // 2 + first, winners.size // 2 + last, NONE
    while left < right:
        for side in range(2):
            node = left if side == 0 else right - 1
            if node & 1 != side:
                other = int(winners[node])
                if best == NONE or keys[other] < keys[best] or (keys[other] == keys[best] and other < best):
                    best = other
        left, right = (left + 1) >> 1, right >> 1
    return best


@inlined
def pool_with_room(state: State, limits: tuple[Limits, ...]) -> int:
    """The first pool, in order of cost, of which a replica has room for another request; NONE where none has."""
    for place in range(len(limits)):
        pool = limits[place].share.asked
        own = limits[pool]
        best = lightest_of(state.replicas.lightest, state.replicas.load, own.share.first, own.share.last)
        if load_of(state.replicas.counts[best], own) < own.share.most:
            return int(pool)
    return NONE


@merged
def candidates(state: State, limits: tuple[Limits, ...], request: int) -> tuple[int, int]:
    """The first of the replicas that a request may go to, and the one after the last."""
    return (0, state.replicas.load.size) if len(limits) == 1 else _of_pool(state, limits, request)


@inlined
def _of_pool(state: State, limits: tuple[Limits, ...], request: int) -> tuple[int, int]:
    """The replicas of the pool that a request goes to."""
    pool, rule = NONE, limits[0].routing.pools
    if rule == BY_PROMPT:
        pool, prompt = 0, state.requests.prefill[request]
        while pool < len(limits) - 1 and prompt > limits[pool].share.longest:
            pool += 1
    elif rule == BY_COST:
        pool = pool_with_room(state, limits)
    if pool == NONE:
        return 0, state.replicas.load.size
    return limits[pool].share.first, limits[pool].share.last
