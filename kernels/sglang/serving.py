"""What the sglang policy reads and writes of one replica, apart from the rest of the state.

Numba compiles a function in a time that grows with its arguments, so the parts of the policy are given this instead of
the whole state.
"""

from typing import NamedTuple

from .._jit import inlined
from ..engine.state import OLDEST
from ..memory.radix_tree import Identities, Radix
from ..state import IN_FLIGHT, NUM_LISTED, REPLICA, Floats, Ints, Limits, Longs, State
from .state import SglangLimits


class Serving(NamedTuple):
    """One replica and the batch at cursor: rows of arrays of the state, under their names there unless noted."""

    rules: SglangLimits
    page: int  # tokens
    max_running_requests: int
    max_prefill_tokens: int
    tree: Radix
    sequences: Identities
    counts: Longs  # Replicas.counts
    own: Longs  # Sglang.counts
    engine: Longs  # Engine.counts
    running: Ints  # Replicas.running
    ratio: Floats  # [1] new_token_ratio
    budget: Floats
    queue: Longs
    keys: Longs
    lives: Longs
    members: Ints  # Batches.request
    tokens: Ints  # Batches.tokens
    samples: Ints
    members_in_flight: Ints  # of the batch in flight while this one is formed, as are the next two
    samples_in_flight: Ints
    size_in_flight: int
    retracted: Longs  # scratch: requests that are retracted while the batch is formed
    next: Ints
    prefill: Ints
    processed: Ints
    restarts: Ints
    finished_at: Floats
    known: Ints
    limit: Ints
    sampled: Ints
    cached: Ints
    prompt: Ints
    filled: Ints
    in_tree: Ints
    node: Ints
    beginning: Longs


@inlined
def serving(state: State, limits: Limits, slot: int) -> Serving:
    """The replica at cursor and its batch in a slot."""
    r = state.cursor[REPLICA]
    own, engine, requests, batches, replicas = (
        state.sglang,
        state.engine,
        state.requests,
        state.batches,
        state.replicas,
    )
    flying, number = engine.counts[r, OLDEST], 0
    if replicas.counts[r, IN_FLIGHT] > 0:
        number = int(batches.features[r, flying, NUM_LISTED])
    return Serving(
        limits.sglang,
        limits.block_size,
        limits.max_num_seqs,
        limits.max_num_batched_tokens,
        Radix(own.nodes[r], own.identity[r], own.stamp[r], own.buckets[r], own.heap[r], own.tree_counts[r]),
        Identities(engine.hash_start, engine.hashes, int(own.span[0]), engine.private),
        replicas.counts[r],
        own.counts[r],
        engine.counts[r],
        replicas.running[r],
        own.ratio[r : r + 1],
        own.budget[r],
        own.queue[r],
        own.keys[r],
        own.lives[r],
        batches.request[r, slot],
        batches.tokens[r, slot],
        engine.samples[r, slot],
        batches.request[r, flying],
        engine.samples[r, flying],
        number,
        state.scratch[0],
        requests.next,
        requests.prefill,
        requests.processed,
        requests.restarts,
        requests.finished_at,
        engine.known,
        engine.limit,
        engine.sampled,
        engine.cached,
        own.prompt,
        own.filled,
        own.in_tree,
        own.node,
        own.beginning,
    )
