"""Memory of the vllm_v1 policy: a request takes KV blocks as its tokens are scheduled, and finds those that are cached.

Without prefix caching only the number of free blocks counts. With it, each request with memory has a row of the block
table, and blocks are taken, cached and given back one by one (block_pool.py).
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined
from ..state import (
    ALLOCATED,
    FREE,
    NONE,
    PEAK,
    REFERENCES,
    ROWS_FREE,
    Engine,
    Limits,
    State,
)
from .block_pool import give_back, lookup, pop_free, register, share
from .blocks import blocks_for

Longs = NDArray[np.int64]


@inlined
def identity(engine: Engine, request: int, place: int) -> int:
    """The identity of the tokens of a request up to the end of its block number ``place``, counted from 0."""
    first = engine.hash_start[request]
    if place < engine.hash_start[request + 1] - first:
        return int(engine.hashes[first + place])
    return int(engine.private[request]) - place


@inlined
def find_cached(state: State, limits: Limits, r: int, request: int) -> tuple[int, int]:
    """How many blocks at the front of a waiting request are cached, and how many of these are free.

    At least one token is left to compute, the last one that is known.
    """
    engine = state.engine
    if not limits.engine.prefix_caching:
        return 0, 0
    blocks, index = engine.blocks[r], engine.buckets[r]
    most, hits, free = (engine.known[request] - 1) // limits.block_size, 0, 0
    while hits < most:
        block = lookup(blocks, index, identity(engine, request, hits))
        if block == NONE:
            break
        free += blocks[block, REFERENCES] == 0
        hits += 1
    return hits, free


@inlined
def admit_blocks(state: State, limits: Limits, r: int, request: int, hits: int, tokens: int) -> None:
    """Give a waiting request its cached blocks, the first ``hits``, and new blocks for ``tokens`` tokens in all."""
    counts, engine = state.replicas.counts[r], state.engine
    counts[ALLOCATED] += 1
    state.requests.blocks[request] = 0
    if limits.engine.prefix_caching:
        own = engine.counts[r]
        own[ROWS_FREE] -= 1
        row = engine.rows[r, own[ROWS_FREE]]
        engine.row[request] = row
        blocks, index = engine.blocks[r], engine.buckets[r]
        # Holding a cached block does not change which block is found for the next identity.
        for place in range(hits):
            block = lookup(blocks, index, identity(engine, request, place))
            counts[FREE] -= share(blocks, block)
            engine.table[r, row, place] = block
        state.requests.blocks[request] = hits
        engine.registered[request] = hits
    take_blocks(state, limits, r, request, tokens)


@inlined
def take_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Give a running request the blocks that it still needs to hold ``tokens`` tokens; they must be free."""
    counts, engine = state.replicas.counts[r], state.engine
    held, need = int(state.requests.blocks[request]), blocks_for(tokens, limits.block_size)
    if need > held:
        if limits.engine.prefix_caching:
            row = engine.row[request]
            for place in range(held, need):
                engine.table[r, row, place] = pop_free(engine.blocks[r], engine.buckets[r], engine.counts[r])
        state.requests.blocks[request] = need
        counts[FREE] -= need - held
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])


@inlined
def cache_full_blocks(state: State, limits: Limits, r: int, request: int, tokens: int) -> None:
    """Make the blocks that are full of the first ``tokens`` tokens of a running request findable."""
    engine = state.engine
    if limits.engine.prefix_caching:
        full = tokens // limits.block_size
        for place in range(engine.registered[request], full):
            block = engine.table[r, engine.row[request], place]
            register(engine.blocks[r], engine.buckets[r], block, identity(engine, request, place))
        engine.registered[request] = max(engine.registered[request], full)


@inlined
def give_up_blocks(state: State, limits: Limits, r: int, request: int) -> None:
    """Take all blocks from a request that finishes or is preempted; cached ones can still be found."""
    counts, engine = state.replicas.counts[r], state.engine
    held = int(state.requests.blocks[request])
    if limits.engine.prefix_caching:
        row, own = engine.row[request], engine.counts[r]
        counts[FREE] += give_back(engine.blocks[r], engine.table[r, row], held, limits.engine.unhashed_first)
        engine.rows[r, own[ROWS_FREE]] = row
        own[ROWS_FREE] += 1
        engine.row[request] = NONE
        engine.registered[request] = 0
    else:
        counts[FREE] += held
    counts[ALLOCATED] -= 1
    state.requests.blocks[request] = 0
