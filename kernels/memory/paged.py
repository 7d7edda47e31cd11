"""Memory of the vllm_v1 policy: a request takes KV blocks as its tokens are scheduled, and finds those that are cached.

Without prefix caching only the number of free blocks counts. With it, each request with memory has a row of the block
table, which lists those of its blocks, at its front, that can be found by their tokens (block_pool.py).
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..engine.state import END, MISSING, NUMBER, ROWS_FREE
from ..state import ALLOCATED, FREE, NONE, PEAK, Limits, State
from .block_pool import give_back, lookup, pop_free, register, share
from .blocks import blocks_for

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@apart
def _find(
    entries: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    own: Longs,
    hashes: Longs,
    private: int,
    row: Ints,
    most: int,
) -> tuple[int, int]:
    """How many of the first ``most`` blocks of a request are cached one after the other, and how many of them are free.

    They are written to ``row``. ``hashes``: of its first blocks; ``private``: see Engine, NONE where it was never
    preempted, so that nothing else of it can be cached.
    """
    hits = free = 0
    own[MISSING] = NONE
    if private == NONE:
        most = min(most, hashes.size)
    while hits < most:
        wanted = hashes[hits] if hits < hashes.size else private - hits
        block = lookup(block_hash, next_alike, buckets, wanted)
        if block == END:
            own[MISSING] = wanted
            break
        row[hits] = block
        free += entries[block, NUMBER] == 0
        hits += 1
    return hits, free


@apart
def _count(block_hash: Longs, next_alike: Ints, buckets: Ints, hashes: Longs, most: int) -> int:
    """How many of the first ``most`` blocks with these hashes are cached one after the other."""
    hits = 0
    while hits < min(most, hashes.size) and lookup(block_hash, next_alike, buckets, hashes[hits]) != END:
        hits += 1
    return hits


@apart
def _share(entries: Ints, row: Ints, hits: int) -> int:
    """Hold the cached blocks that _find has written to ``row``; returns how many were free."""
    free = 0
    for place in range(hits):
        free += share(entries, row[place])
    return free


@apart
def register_full(
    entries: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    own: Longs,
    hash_start: Longs,
    hashes: Longs,
    findable: Ints,
    request: int,
    row: Ints,
    full: int,
) -> None:
    """Make those of the first ``full`` blocks of a request findable that others may have as well."""
    first = hash_start[request]
    last = min(full, hash_start[request + 1] - first)
    if last <= findable[request]:
        return
    for place in range(findable[request], last):
        row[place] = register(entries, block_hash, next_alike, buckets, own, hashes[first + place])
    findable[request] = last


@apart
def _register_private(
    entries: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    own: Longs,
    private: int,
    row: Ints,
    findable: int,
    full: int,
) -> None:
    """Make the other cached blocks of a request that is preempted findable, for itself."""
    for place in range(findable, full):
        row[place] = register(entries, block_hash, next_alike, buckets, own, private - place)


@inlined
def find_cached(state: State, limits: Limits, r: int, request: int) -> tuple[int, int]:
    """How many blocks at the front of a waiting request are cached, and how many of these are free.

    At least one token is left to compute, the last one that is known. admit_blocks is to follow for the same request,
    or none at all, as the blocks are written to the row of the table that is given next.
    """
    engine = state.engine
    if not limits.engine.prefix_caching:
        return 0, 0
    most = (engine.known[request] - 1) // limits.block_size
    row = engine.table[r, engine.rows[r, engine.counts[r, ROWS_FREE] - 1]]
    private = engine.private[request] if state.requests.restarts[request] > 0 else NONE
    own_hashes = engine.hashes[engine.hash_start[request] : engine.hash_start[request + 1]]
    return _find(
        engine.blocks[r],
        engine.block_hash[r],
        engine.next_alike[r],
        engine.buckets[r],
        engine.counts[r],
        own_hashes,
        private,
        row,
        most,
    )


@inlined
def count_cached(state: State, limits: Limits, r: int, request: int) -> int:
    """How many tokens of a request that has not been routed are cached on a replica. Nothing changes by that."""
    engine = state.engine
    if not limits.engine.prefix_caching:
        return 0
    hashes = engine.hashes[engine.hash_start[request] : engine.hash_start[request + 1]]
    most = (engine.known[request] - 1) // limits.block_size
    hits = _count(engine.block_hash[r], engine.next_alike[r], engine.buckets[r], hashes, most)
    return int(hits * limits.block_size)


@inlined
def admit_blocks(state: State, limits: Limits, r: int, request: int, hits: int, tokens: int) -> None:
    """Give a waiting request its cached blocks, the first ``hits``, and new blocks for ``tokens`` tokens in all."""
    counts, engine = state.replicas.counts[r], state.engine
    counts[ALLOCATED] += 1
    state.requests.blocks[request] = hits
    if limits.engine.prefix_caching:
        own = engine.counts[r]
        own[ROWS_FREE] -= 1
        row = engine.rows[r, own[ROWS_FREE]]
        engine.row[request] = row
        engine.cached_blocks[request] = engine.findable[request] = hits
        counts[FREE] -= _share(engine.blocks[r], engine.table[r, row], hits)
    take_blocks(state, limits, r, request, tokens)


@inlined
def take_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Give a running request the blocks that it still needs to hold ``tokens`` tokens; they must be free."""
    counts = state.replicas.counts[r]
    held, need = int(state.requests.blocks[request]), blocks_for(tokens, limits.block_size)
    if need > held:
        take_free(state, limits, r, need - held)
        state.requests.blocks[request] = need
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])


@inlined
def take_free(state: State, limits: Limits, r: int, number: int) -> None:
    """Take the first free blocks."""
    state.replicas.counts[r, FREE] -= number
    if limits.engine.prefix_caching:
        engine = state.engine
        pop_free(
            engine.blocks[r], engine.block_hash[r], engine.next_alike[r], engine.buckets[r], engine.counts[r], number
        )


@inlined
def cache_full_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Cache the blocks that are full of the first ``tokens`` tokens of a running request."""
    engine, full = state.engine, tokens // limits.block_size
    if limits.engine.prefix_caching and full > engine.cached_blocks[request]:
        engine.cached_blocks[request] = full
        register_full(
            engine.blocks[r],
            engine.block_hash[r],
            engine.next_alike[r],
            engine.buckets[r],
            engine.counts[r],
            engine.hash_start,
            engine.hashes,
            engine.findable,
            request,
            engine.table[r, engine.row[request]],
            full,
        )


@inlined
def give_up_blocks(state: State, limits: Limits, r: int, request: int, resumes: bool) -> None:
    """Take all blocks from a request that finishes, or is preempted and ``resumes``; cached ones can still be found."""
    counts, engine = state.replicas.counts[r], state.engine
    held = int(state.requests.blocks[request])
    if limits.engine.prefix_caching:
        row, own, blocks = engine.row[request], engine.counts[r], engine.blocks[r]
        table, findable, full = engine.table[r, row], engine.findable[request], engine.cached_blocks[request]
        if resumes and full > findable:
            _register_private(
                blocks,
                engine.block_hash[r],
                engine.next_alike[r],
                engine.buckets[r],
                own,
                engine.private[request],
                table,
                findable,
                full,
            )
            findable = full
        counts[FREE] += give_back(blocks, own, table, findable, full, held, limits.engine.unhashed_first)
        engine.rows[r, own[ROWS_FREE]] = row
        own[ROWS_FREE] += 1
        engine.row[request] = NONE
        engine.cached_blocks[request] = engine.findable[request] = 0
    else:
        counts[FREE] += held
    counts[ALLOCATED] -= 1
    state.requests.blocks[request] = 0
