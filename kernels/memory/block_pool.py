"""The KV blocks of a replica with prefix caching: which are free, in which order, and what can be found in them.

Free blocks are a list, and blocks are taken from its front. A block that is full is cached: it can be found by the
identity of all tokens up to its end, and stays so when it is freed, until it is taken for other tokens. Cached blocks
are found by way of an index of buckets; of blocks with the same tokens, the one that was cached first is found. This is
how vLLM V1's BlockPool works (0.11 to 0.33), where a block's identity is a chain of hashes.

Blocks that no other request can find are all alike, so that only their number counts: a request holds so many of them,
and in the list of free blocks those that stand one after the other are one entry, a run. A block that can be found is
an entry of its own, held or free.
"""

import numpy as np
from numpy.typing import NDArray

from .._jit import apart
from ..engine.state import (
    AFTER,
    BEFORE,
    CACHED,
    END,
    ENTRIES_USED,
    EVICTED,
    INDEXED,
    KIND,
    MISSING,
    NUMBER,
    REFUSED,
    SPARE,
    UNCACHED,
)
from ..state import NONE

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@apart
def lookup(block_hash: Longs, next_alike: Ints, buckets: Ints, identity: int) -> int:
    """The cached block of an identity that was registered first, END when there is none."""
    block = buckets[identity & (buckets.size - 1)]
    while block != END and block_hash[block] != identity:
        block = next_alike[block]
    return int(block)


@apart
def _new_entry(entries: Ints, own: Longs) -> int:
    """An entry that is not in use."""
    entry = own[SPARE]
    if entry == NONE:
        entry = own[ENTRIES_USED]
        own[ENTRIES_USED] += 1
    else:
        own[SPARE] = entries[entry, AFTER]
    return int(entry)


@apart
def register(entries: Ints, block_hash: Longs, next_alike: Ints, buckets: Ints, own: Longs, identity: int) -> int:
    """Make the tokens of a full block that a request holds findable; returns the block's entry."""
    block = _new_entry(entries, own)
    entries[block, KIND], entries[block, NUMBER] = INDEXED, 1
    block_hash[block] = identity
    next_alike[block] = END
    if identity == own[MISSING]:
        own[REFUSED] = 0
    bucket = identity & (buckets.size - 1)
    last = buckets[bucket]
    if last == END:
        buckets[bucket] = block
        return block
    while next_alike[last] != END:
        last = next_alike[last]
    next_alike[last] = block
    return block


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
def pop_free(entries: Ints, block_hash: Longs, next_alike: Ints, buckets: Ints, own: Longs, number: int) -> None:
    """Take the first ``number`` free blocks; there must be so many. What they held can no longer be found."""
    entry = entries[END, AFTER]
    while number > 0:
        if entries[entry, KIND] == INDEXED:
            _evict(block_hash, next_alike, buckets, entry)
            taken = 1
        else:
            taken = min(number, entries[entry, NUMBER])
        if entries[entry, KIND] != UNCACHED:
            own[EVICTED] += taken
        number -= taken
        if entries[entry, KIND] != INDEXED and taken < entries[entry, NUMBER]:
            entries[entry, NUMBER] -= taken
            break
        after = entries[entry, AFTER]
        entries[entry, AFTER] = own[SPARE]
        own[SPARE] = entry
        entry = after
    entries[END, AFTER] = entry
    entries[entry, BEFORE] = END


@apart
def share(entries: Ints, block: int) -> bool:
    """Hold a cached block for one more request; returns whether it was free."""
    was_free = entries[block, NUMBER] == 0
    if was_free:
        before, after = entries[block, BEFORE], entries[block, AFTER]
        entries[before, AFTER] = after
        entries[after, BEFORE] = before
    entries[block, NUMBER] += 1
    return bool(was_free)


@apart
def _insert(entries: Ints, before: int, entry: int) -> None:
    """Put an entry in the list of free blocks, behind another."""
    after = entries[before, AFTER]
    entries[entry, BEFORE], entries[entry, AFTER] = before, after
    entries[before, AFTER] = entries[after, BEFORE] = entry


@apart
def _free_run(entries: Ints, own: Longs, kind: int, number: int, first: int) -> None:
    """Put blocks that cannot be found at the end of the list of free ones, or at its front with ``first``."""
    if number == 0:
        return
    neighbour = entries[END, AFTER] if first else entries[END, BEFORE]
    if neighbour != END and entries[neighbour, KIND] == kind:
        entries[neighbour, NUMBER] += number
        return
    run = _new_entry(entries, own)
    entries[run, KIND], entries[run, NUMBER] = kind, number
    _insert(entries, END if first else entries[END, BEFORE], run)


@apart
def give_back(entries: Ints, own: Longs, row: Ints, findable: int, full: int, held: int, unhashed_first: int) -> int:
    """Give up the ``held`` blocks of a request, the last one first; returns how many get free.

    The first ``findable``, which ``row`` lists, can be found; more are cached, ``full`` in all. Freed blocks go to the
    end of the free list. With ``unhashed_first`` those that are not cached go to its front instead.
    """
    cached = max(full, findable)
    _free_run(entries, own, UNCACHED, held - cached, unhashed_first)
    _free_run(entries, own, CACHED, cached - findable, 0)
    freed = held - findable
    for place in range(findable - 1, -1, -1):
        block = row[place]
        entries[block, NUMBER] -= 1
        if entries[block, NUMBER] == 0:
            _insert(entries, entries[END, BEFORE], block)
            freed += 1
    return freed
