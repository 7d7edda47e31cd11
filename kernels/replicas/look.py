"""Routers that look at the KV blocks of every replica when a request arrives: how many are free, and what they hold.

Every replica is advanced to the arrival, so that its blocks are those of that moment: everything strictly earlier has
happened. Equal replicas are told apart by their outstanding requests, and at last by their numbers.
"""

import math

import numpy as np

from .._jit import inlined
from ..memory.followers import depends
from ..memory.paged import count_cached
from ..memory.radix import count_matching
from ..memory.radix_tree import Identities, Radix
from ..state import FIRST, FREE, HORIZON, NONE, PRESENT, REPLICA, UNSEEN, WAITING, Limits, State
from .arrivals import append, next_arrival, next_unrouted, take_next
from .routers import LEAST_KV, PREFIX_AWARE, WEIGHTED
from .share import candidates


@inlined
def looks(limits: Limits) -> bool:
    """Whether the router looks at the KV blocks of the replicas."""
    return limits.router in (LEAST_KV, PREFIX_AWARE, WEIGHTED)


@inlined
def arrival_due(state: State) -> bool:
    """Whether a request arrives at the horizon that no router has seen."""
    return bool(next_unrouted(state) != NONE and next_arrival(state) == state.moments[HORIZON])


@inlined
def send(state: State, replica: int) -> None:
    """Send the request that is due to a replica, which need not be quiet from now on."""
    append(state, replica, take_next(state))
    state.replicas.quiet_until[replica] = min(state.replicas.quiet_until[replica], state.moments[HORIZON])


@inlined
def next_horizon(state: State) -> None:
    """Let every replica go on until the next request arrives, or the next may finish that another follows."""
    state.moments[HORIZON] = next_arrival(state)
    if depends(state.requests):
        soonest = math.inf
        for r in range(state.replicas.quiet_until.size):
            soonest = min(soonest, state.replicas.quiet_until[r])
        if soonest < math.inf and soonest <= state.moments[HORIZON]:
            state.moments[HORIZON] = np.nextafter(soonest, math.inf)
    state.cursor[REPLICA] = state.cursor[FIRST]


@inlined
def route_due(state: State, limits: tuple[Limits, ...], caches: bool) -> None:
    """Route the requests that arrive at the horizon, and set the next one. All replicas have been advanced to it."""
    while arrival_due(state):
        send(state, _best(state, limits, next_unrouted(state), caches))
    next_horizon(state)


@inlined
def cached_on(state: State, limits: Limits, r: int, request: int) -> int:
    """How many tokens of a request that has not been routed are cached on a replica. Nothing changes by that."""
    if not limits.sglang.radix_cache:
        return count_cached(state, limits, r, request)
    own, engine, page = state.sglang, state.engine, limits.block_size
    tree = Radix(own.nodes[r], own.identity[r], own.stamp[r], own.buckets[r], own.heap[r], own.tree_counts[r])
    known = Identities(engine.hash_start, engine.hashes, int(own.span[0]), engine.private)
    return int(count_matching(tree, known, request, (engine.known[request] - 1) // page) * page)


@inlined
def _best(state: State, limits: tuple[Limits, ...], request: int, caches: bool) -> int:
    """The replica that a request goes to."""
    counts, router, rules = state.replicas.counts, limits[0].router, limits[0].routing
    first, last = candidates(state, limits, request)
    prompt, lightest = int(state.requests.prefill[request]), first
    fewest, most, shortest, longest = math.inf, 0.0, math.inf, 0.0
    for r in range(first, last):
        outstanding, queue = (
            float(counts[r, PRESENT] + counts[r, UNSEEN]),
            float(counts[r, WAITING] + counts[r, UNSEEN]),
        )
        if outstanding < fewest:
            lightest, fewest = r, outstanding
        most, shortest, longest = max(most, outstanding), min(shortest, queue), max(longest, queue)
    if router == PREFIX_AWARE:
        uneven = most - fewest > rules.balance_abs_threshold and most > rules.balance_rel_threshold * fewest
        if uneven:
            return lightest
    best, highest, load, hit = lightest, -math.inf, math.inf, 0
    for r in range(first, last):
        own = limits[0] if len(limits) == 1 else limits[state.replicas.pool[r]]
        cached, score = 0, counts[r, FREE] / own.num_blocks
        if caches and router != LEAST_KV:
            cached = cached_on(state, own, r, request)
        if router == PREFIX_AWARE:
            score = float(cached)
        elif router == WEIGHTED:
            queue = float(counts[r, WAITING] + counts[r, UNSEEN])
            room = (longest - queue) / (longest - shortest) if longest > shortest else 1.0
            score = rules.prefix_weight * (cached / prompt) + rules.kv_weight * score + rules.queue_weight * room
        outstanding = float(counts[r, PRESENT] + counts[r, UNSEEN])
        if score > highest or (score == highest and outstanding < load):
            best, highest, load, hit = r, score, outstanding, cached
    if router == PREFIX_AWARE and (not hit / prompt > rules.cache_threshold or prompt - hit > rules.kv_aware_threshold):
        return lightest
    return best
