"""The KV blocks of a replica one by one: which are free, in which order, and which tokens the others can find in them.

Free blocks are a list, and blocks are taken from its front. A block that is full is cached: it can be found by the
identity of all tokens up to its end, and stays so when it is freed, until it is taken for other tokens. Cached blocks
are found by way of an index of buckets; of blocks with the same tokens, the one that was cached first is found. This is
how vLLM V1's BlockPool works (0.11 to 0.33), where a block's identity is a chain of hashes.
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart
from ..engine.state import AFTER, BEFORE, CACHED, EVICTED, INDEXED, PRIVATE, REFERENCES, UNCACHED
from ..state import NONE

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@apart
def lookup(block_hash: Longs, next_alike: Ints, buckets: Ints, identity: int) -> int:
    """The cached block of an identity that was registered first, NONE when there is none."""
    block = buckets[identity & (buckets.size - 1)]
    while block != NONE and block_hash[block] != identity:
        block = next_alike[block]
    return int(block)


@apart
def register(blocks: Ints, block_hash: Longs, next_alike: Ints, buckets: Ints, block: int, identity: int) -> None:
    """Make the tokens of a full block findable."""
    blocks[block, CACHED] = INDEXED
    block_hash[block] = identity
    next_alike[block] = NONE
    bucket = identity & (buckets.size - 1)
    last = buckets[bucket]
    if last == NONE:
        buckets[bucket] = block
        return
    while next_alike[last] != NONE:
        last = next_alike[last]
    next_alike[last] = block


@apart
def _evict(block_hash: Longs, next_alike: Ints, buckets: Ints, block: int) -> None:
    """Take a cached block out of the index."""
    bucket = block_hash[block] & (buckets.size - 1)
    if buckets[bucket] == block:
        buckets[bucket] = next_alike[block]
        return
    before = buckets[bucket]
    while next_alike[before] != block:
        before = next_alike[before]
    next_alike[before] = next_alike[block]


@apart
def pop_free(
    blocks: Ints, block_hash: Longs, next_alike: Ints, buckets: Ints, counts: Longs, row: Ints, first: int, last: int
) -> None:
    """Fill places [first, last) of a row of the block table with the first free blocks; there must be so many.

    What they held so far can no longer be found.
    """
    end = blocks.shape[0] - 1
    block = blocks[end, AFTER]
    for place in range(first, last):
        if blocks[block, CACHED] != UNCACHED:
            if blocks[block, CACHED] == INDEXED:
                _evict(block_hash, next_alike, buckets, block)
            blocks[block, CACHED] = UNCACHED
            counts[EVICTED] += 1
        blocks[block, REFERENCES] = 1
        row[place] = block
        block = blocks[block, AFTER]
    blocks[end, AFTER] = block
    blocks[block, BEFORE] = end


@apart
def share(blocks: Ints, block: int) -> bool:
    """Hold a cached block for one more request; returns whether it was free."""
    was_free = blocks[block, REFERENCES] == 0
    if was_free:
        before, after = blocks[block, BEFORE], blocks[block, AFTER]
        blocks[before, AFTER] = after
        blocks[after, BEFORE] = before
    blocks[block, REFERENCES] += 1
    return bool(was_free)


@apart
def give_back(blocks: Ints, row: Ints, number: int, shared: int, full: int, unhashed_first: int) -> int:
    """Give up the first ``number`` blocks of a row of the block table, the last one first; returns how many get free.

    Those at places [shared, full) are cached, though not in the index unless they are already. Freed blocks go to the
    end of the free list. With ``unhashed_first`` those that are not cached go to its front instead.
    """
    end, freed = blocks.shape[0] - 1, 0
    last = blocks[end, BEFORE]
    for i in range(number - 1, -1, -1):
        block = row[i]
        blocks[block, REFERENCES] -= 1
        if blocks[block, REFERENCES] > 0:
            continue
        freed += 1
        if shared <= i < full and blocks[block, CACHED] == UNCACHED:
            blocks[block, CACHED] = PRIVATE
        if unhashed_first and blocks[block, CACHED] == UNCACHED:
            after = block if last == end else blocks[end, AFTER]
            if last == end:
                last = block
            else:
                blocks[block, AFTER] = after
                blocks[after, BEFORE] = block
            blocks[block, BEFORE] = end
            blocks[end, AFTER] = block
        else:
            blocks[last, AFTER] = block
            blocks[block, BEFORE] = last
            last = block
    blocks[last, AFTER] = end
    blocks[end, BEFORE] = last
    return freed


@apart
def index_private(
    blocks: Ints, block_hash: Longs, next_alike: Ints, buckets: Ints, row: Ints, first: int, full: int, private: int
) -> None:
    """Put the private blocks of a request that is preempted, at places [first, full) of its row, in the index."""
    for place in range(first, full):
        if blocks[row[place], CACHED] == UNCACHED:
            register(blocks, block_hash, next_alike, buckets, row[place], private - place)
