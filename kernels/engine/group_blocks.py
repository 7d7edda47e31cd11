"""The blocks that the group of vLLM V1 takes in a step, or in many, in the order of the engine."""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..memory.block_pool import pop_free
from ..memory.paged import register_full
from ..state import FREE, NONE, Limits, State
from .state import FIRST_OF_PHASE

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def take_blocks_in_order(state: State, limits: Limits, r: int, first: int, last: int, flying: int, listed: int) -> None:
    """Give members their blocks of the steps from ``first`` up to, but not including, ``last``, in order of admission.

    The number of free blocks has been reduced by them before. In the first step, the first ``listed`` running requests
    get blocks too, for the tokens in scratch. ``flying``: batches in flight while each step was formed.
    """
    engine, requests = state.engine, state.requests
    taken = _take_in_order(
        engine.phases[r],
        engine.order,
        engine.right,
        engine.row,
        engine.table[r],
        engine.blocks[r],
        engine.block_hash[r],
        engine.next_alike[r],
        engine.buckets[r],
        engine.counts[r],
        engine.hash_start,
        engine.hashes,
        engine.registered,
        engine.known,
        requests.processed,
        requests.blocks,
        state.replicas.running[r],
        state.scratch[0],
        limits.block_size,
        first,
        last,
        flying,
        listed,
    )
    state.replicas.counts[r, FREE] -= taken


@apart
def _take_in_order(
    phases: Ints,
    order: Ints,
    right: Ints,
    rows: Ints,
    table: Ints,
    blocks: Ints,
    block_hash: Longs,
    next_alike: Ints,
    buckets: Ints,
    own: Longs,
    hash_start: Longs,
    hashes: Longs,
    registered: Ints,
    known: Ints,
    processed: Ints,
    held: Ints,
    running: Ints,
    chunks: Longs,
    block_size: int,
    first: int,
    last: int,
    flying: int,
    listed: int,
) -> int:
    """The same in arrays; returns how many blocks the running requests have taken."""
    taken, place = 0, 0
    for step in range(first, last):
        taker, filler = int(phases[step % block_size, FIRST_OF_PHASE]), NONE
        if flying == 0 and block_size > 1:
            filler = int(phases[(step + 1) % block_size, FIRST_OF_PHASE])  # the last block becomes full in this step
        while taker != NONE or filler != NONE or place < listed:
            request = taker
            if request == NONE or (filler != NONE and order[filler] < order[request]):
                request = filler
            if place < listed and (request == NONE or order[running[place]] < order[request]):
                request = int(running[place])
                tokens = int(processed[request] + chunks[place])
                place += 1
                need, full = (tokens + block_size - 1) // block_size, min(tokens, int(known[request])) // block_size
                if need > held[request]:
                    row = table[rows[request]]
                    pop_free(blocks, block_hash, next_alike, buckets, own, row, held[request], need)
                    taken += need - held[request]
                    held[request] = need
            else:
                computed = int(processed[request]) + step
                if request == taker:
                    i = computed // block_size
                    pop_free(blocks, block_hash, next_alike, buckets, own, table[rows[request]], i, i + 1)
                    taker = int(right[taker])
                else:
                    filler = int(right[filler])
                full = (computed + 1 - flying) // block_size
            if full > registered[request]:
                row = table[rows[request]]
                register_full(
                    blocks, block_hash, next_alike, buckets, hash_start, hashes, registered, request, row, full
                )
    return taken
