"""The blocks that the group of vLLM V1 takes and caches in a step, or in many.

Blocks that no other request can find are only counted. Members with blocks that others may have as well are linked, by
the step modulo the block size in which they need a block, so that these blocks become findable in the engine's order.
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart, inlined
from ..memory.paged import register_full
from ..state import NONE, Limits, State
from .state import FIRST_OF_PHASE, FLYING_BEFORE, LAST_OF_PHASE, LINKED, UNLINKED

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def link(state: State, r: int, phase: int, request: int) -> None:
    """Add a member to the list of its phase, in order of admission, if others may have blocks that it fills."""
    engine, ends = state.engine, state.engine.phases[r, phase]
    if engine.hash_start[request + 1] - engine.hash_start[request] <= engine.cached_blocks[request]:
        engine.left[request] = UNLINKED
        return
    engine.counts[r, LINKED] += 1
    before = int(ends[LAST_OF_PHASE])
    while before != NONE and engine.order[before] > engine.order[request]:
        before = int(engine.left[before])
    after = int(ends[FIRST_OF_PHASE]) if before == NONE else int(engine.right[before])
    engine.left[request], engine.right[request] = before, after
    if before == NONE:
        ends[FIRST_OF_PHASE] = request
    else:
        engine.right[before] = request
    if after == NONE:
        ends[LAST_OF_PHASE] = request
    else:
        engine.left[after] = request


@inlined
def unlink(state: State, limits: Limits, r: int, phase: int, request: int, computed: int) -> None:
    """Take a member with ``computed`` tokens out of the list of its phase, and count its cached blocks."""
    engine, ends = state.engine, state.engine.phases[r, phase]
    full = (computed - int(engine.counts[r, FLYING_BEFORE])) // limits.block_size
    engine.cached_blocks[request] = max(engine.cached_blocks[request], full)
    before, after = engine.left[request], engine.right[request]
    if before == UNLINKED:
        return
    engine.counts[r, LINKED] -= 1
    if before == NONE:
        ends[FIRST_OF_PHASE] = after
    else:
        engine.right[before] = after
    if after == NONE:
        ends[LAST_OF_PHASE] = before
    else:
        engine.left[after] = before


@inlined
def cache_in_order(state: State, limits: Limits, r: int, first: int, last: int, flying: int, listed: int) -> None:
    """Cache what becomes full in the steps from ``first`` up to, but not including, ``last``, in order of admission.

    ``flying``: batches in flight while each step was formed. In the first step, the first ``listed`` running requests
    fill blocks too, with the tokens in scratch.
    """
    engine = state.engine
    engine.counts[r, FLYING_BEFORE] = flying
    if engine.counts[r, LINKED] > 0 or listed > 0:
        _cache_in_order(
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
            engine.findable,
            engine.cached_blocks,
            engine.known,
            state.requests.processed,
            state.replicas.running[r],
            state.scratch[0],
            limits.block_size,
            first,
            last,
            flying,
            listed,
        )


@apart
def _cache_in_order(
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
    findable: Ints,
    cached: Ints,
    known: Ints,
    processed: Ints,
    running: Ints,
    chunks: Longs,
    block_size: int,
    first: int,
    last: int,
    flying: int,
    listed: int,
) -> None:
    """The same in arrays."""
    place = 0
    for step in range(first, last):
        # Members that begin a block, and those whose last block becomes full now if its newest token is known.
        beginner, filler = int(phases[step % block_size, FIRST_OF_PHASE]), NONE
        if flying == 0 and block_size > 1:
            filler = int(phases[(step + 1) % block_size, FIRST_OF_PHASE])
        while beginner != NONE or filler != NONE or place < listed:
            request = beginner
            if request == NONE or (filler != NONE and order[filler] < order[request]):
                request = filler
            if place < listed and (request == NONE or order[running[place]] < order[request]):
                request, chunk = int(running[place]), chunks[place]
                place += 1
                if chunk == 0:
                    continue
                full = min(int(processed[request] + chunk), int(known[request])) // block_size
                cached[request] = max(cached[request], full)
            else:
                full = (int(processed[request]) + step + 1 - flying) // block_size
                if request == beginner:
                    beginner = int(right[beginner])
                else:
                    filler = int(right[filler])
            if full > findable[request]:
                row = table[rows[request]]
                register_full(
                    blocks, block_hash, next_alike, buckets, own, hash_start, hashes, findable, request, row, full
                )
