"""Memory of the vllm_v1 policy: a request takes KV blocks as its tokens are scheduled, and finds those that are cached.

Without prefix caching only the number of free blocks counts. With it, each request with memory has a row of the block
table, and blocks are taken, cached and given back one by one (block_pool.py).
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..engine.state import REFERENCES, ROWS_FREE
from ..state import ALLOCATED, FREE, NONE, PEAK, Limits, State
from .block_pool import give_back, index_private, lookup, pop_free, register, share
from .blocks import blocks_for

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def identity(hash_start: Longs, hashes: Longs, private: Longs, request: int, place: int) -> int:
    """The identity of the tokens of a request up to the end of its block number ``place``, counted from 0."""
    first = hash_start[request]
    if place < hash_start[request + 1] - first:
        return int(hashes[first + place])
    return int(private[request]) - place


@apart
def _find(
    blocks: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    hash_start: Longs,
    hashes: Longs,
    private: Longs,
    request: int,
    most: int,
) -> tuple[int, int]:
    """How many of the first ``most`` blocks of a request are cached one after the other, and how many are free."""
    hits = free = 0
    while hits < most:
        wanted = identity(hash_start, hashes, private, request, hits)
        block = lookup(block_hash, next_alike, buckets, wanted)
        if block == NONE:
            break
        free += blocks[block, REFERENCES] == 0
        hits += 1
    return hits, free


@apart
def _share(
    blocks: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    hash_start: Longs,
    hashes: Longs,
    private: Longs,
    request: int,
    hits: int,
    row: Ints,
) -> int:
    """Fill the row of a request with its cached blocks; returns how many were free.

    To hold a cached block does not change which block is found for the next identity.
    """
    free = 0
    for place in range(hits):
        wanted = identity(hash_start, hashes, private, request, place)
        block = lookup(block_hash, next_alike, buckets, wanted)
        free += share(blocks, block)
        row[place] = block
    return free


@apart
def register_full(
    blocks: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    hash_start: Longs,
    hashes: Longs,
    registered: Ints,
    request: int,
    row: Ints,
    full: int,
) -> None:
    """Make the first ``full`` blocks of a request findable; those that only it can find wait until it is preempted."""
    first = hash_start[request]
    shared = hash_start[request + 1] - first
    for place in range(registered[request], min(full, shared)):
        register(blocks, block_hash, next_alike, buckets, row[place], hashes[first + place])
    registered[request] = full


@inlined
def find_cached(state: State, limits: Limits, r: int, request: int) -> tuple[int, int]:
    """How many blocks at the front of a waiting request are cached, and how many of these are free.

    At least one token is left to compute, the last one that is known.
    """
    engine = state.engine
    if not limits.engine.prefix_caching:
        return 0, 0
    most = (engine.known[request] - 1) // limits.block_size
    blocks, buckets = engine.blocks[r], engine.buckets[r]
    block_hash, next_alike, private = engine.block_hash[r], engine.next_alike[r], engine.private
    hash_start, hashes = engine.hash_start, engine.hashes
    return _find(blocks, block_hash, next_alike, buckets, hash_start, hashes, private, request, most)


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
        engine.registered[request] = hits
        blocks, buckets, table = engine.blocks[r], engine.buckets[r], engine.table[r, row]
        block_hash, next_alike, private = engine.block_hash[r], engine.next_alike[r], engine.private
        hash_start, hashes = engine.hash_start, engine.hashes
        counts[FREE] -= _share(
            blocks, block_hash, next_alike, buckets, hash_start, hashes, private, request, hits, table
        )
    take_blocks(state, limits, r, request, tokens)


@inlined
def take_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Give a running request the blocks that it still needs to hold ``tokens`` tokens; they must be free."""
    counts, engine = state.replicas.counts[r], state.engine
    held, need = int(state.requests.blocks[request]), blocks_for(tokens, limits.block_size)
    if need > held:
        if limits.engine.prefix_caching:
            row = engine.table[r, engine.row[request]]
            blocks, buckets, own = engine.blocks[r], engine.buckets[r], engine.counts[r]
            pop_free(blocks, engine.block_hash[r], engine.next_alike[r], buckets, own, row, held, need)
        state.requests.blocks[request] = need
        counts[FREE] -= need - held
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])


@inlined
def cache_full_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Make the blocks that are full of the first ``tokens`` tokens of a running request findable."""
    engine, full = state.engine, tokens // limits.block_size
    if limits.engine.prefix_caching and full > engine.registered[request]:
        blocks, buckets, row = engine.blocks[r], engine.buckets[r], engine.table[r, engine.row[request]]
        block_hash, next_alike, registered = engine.block_hash[r], engine.next_alike[r], engine.registered
        hash_start, hashes = engine.hash_start, engine.hashes
        register_full(blocks, block_hash, next_alike, buckets, hash_start, hashes, registered, request, row, full)


@inlined
def give_up_blocks(state: State, limits: Limits, r: int, request: int, resumes: bool) -> None:
    """Take all blocks from a request that finishes, or is preempted and ``resumes``; cached ones can still be found."""
    counts, engine = state.replicas.counts[r], state.engine
    held = int(state.requests.blocks[request])
    if limits.engine.prefix_caching:
        row, own = engine.row[request], engine.counts[r]
        blocks, buckets, table = engine.blocks[r], engine.buckets[r], engine.table[r, row]
        shared = int(engine.hash_start[request + 1] - engine.hash_start[request])
        full, private = int(engine.registered[request]), int(engine.private[request])
        if resumes:
            block_hash, next_alike = engine.block_hash[r], engine.next_alike[r]
            index_private(blocks, block_hash, next_alike, buckets, table, shared, full, private)
        counts[FREE] += give_back(blocks, table, held, shared, full, limits.engine.unhashed_first)
        engine.rows[r, own[ROWS_FREE]] = row
        own[ROWS_FREE] += 1
        engine.row[request] = NONE
        engine.registered[request] = 0
    else:
        counts[FREE] += held
    counts[ALLOCATED] -= 1
    state.requests.blocks[request] = 0
