"""The KV blocks of a replica one by one: which are free, in which order, and which tokens the others can find in them.

Free blocks are a list, and a block is taken from its front. A block that is full is cached: it is registered under the
identity of all tokens up to its end, and stays so when it is freed, until it is taken for other tokens. Cached blocks
are found by way of an index of buckets; of blocks with the same tokens, the one that was registered first is found.
This is how vLLM V1's BlockPool works (0.11 to 0.33), where a block's identity is a chain of hashes.
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart
from ..state import AFTER, BEFORE, EVICTED, HASH, NEXT_ALIKE, NO_HASH, NONE, REFERENCES

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@apart
def lookup(blocks: Longs, index: Ints, identity: int) -> int:
    """The cached block of an identity that was registered first, NONE when there is none."""
    block = index[identity & (index.size - 1)]
    while block != NONE and blocks[block, HASH] != identity:
        block = blocks[block, NEXT_ALIKE]
    return int(block)


@apart
def register(blocks: Longs, index: Ints, block: int, identity: int) -> None:
    """Make the tokens of a full block findable."""
    blocks[block, HASH] = identity
    blocks[block, NEXT_ALIKE] = NONE
    bucket = identity & (index.size - 1)
    last = index[bucket]
    if last == NONE:
        index[bucket] = block
        return
    while blocks[last, NEXT_ALIKE] != NONE:
        last = blocks[last, NEXT_ALIKE]
    blocks[last, NEXT_ALIKE] = block


@apart
def _evict(blocks: Longs, index: Ints, block: int) -> None:
    """Take a cached block out of the index."""
    bucket = blocks[block, HASH] & (index.size - 1)
    if index[bucket] == block:
        index[bucket] = blocks[block, NEXT_ALIKE]
    else:
        before = index[bucket]
        while blocks[before, NEXT_ALIKE] != block:
            before = blocks[before, NEXT_ALIKE]
        blocks[before, NEXT_ALIKE] = blocks[block, NEXT_ALIKE]
    blocks[block, HASH] = NO_HASH


@apart
def _unlink(blocks: Longs, block: int) -> None:
    """Take a block out of the list of free blocks."""
    before, after = blocks[block, BEFORE], blocks[block, AFTER]
    blocks[before, AFTER] = after
    blocks[after, BEFORE] = before


@apart
def pop_free(blocks: Longs, index: Ints, counts: Longs) -> int:
    """Take the first free block for new tokens; there must be one. What it held so far can no longer be found."""
    block = int(blocks[blocks.shape[0] - 1, AFTER])
    _unlink(blocks, block)
    if blocks[block, HASH] != NO_HASH:
        _evict(blocks, index, block)
        counts[EVICTED] += 1
    blocks[block, REFERENCES] = 1
    return block


@apart
def share(blocks: Longs, block: int) -> bool:
    """Hold a cached block for one more request; returns whether it was free."""
    was_free = blocks[block, REFERENCES] == 0
    if was_free:
        _unlink(blocks, block)
    blocks[block, REFERENCES] += 1
    return bool(was_free)


@apart
def give_back(blocks: Longs, row: Ints, number: int, unhashed_first: int) -> int:
    """Give up the first ``number`` blocks of a row of the block table, the last one first; returns how many get free.

    They go to the end of the free list. With ``unhashed_first`` those that are not cached go to its front instead.
    """
    end, freed = blocks.shape[0] - 1, 0
    for i in range(number - 1, -1, -1):
        block = row[i]
        blocks[block, REFERENCES] -= 1
        if blocks[block, REFERENCES] > 0:
            continue
        freed += 1
        if unhashed_first and blocks[block, HASH] == NO_HASH:
            before, after = end, blocks[end, AFTER]
        else:
            before, after = blocks[end, BEFORE], end
        blocks[block, BEFORE], blocks[block, AFTER] = before, after
        blocks[before, AFTER] = blocks[after, BEFORE] = block
    return freed
