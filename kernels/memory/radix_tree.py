"""The arrays of a radix tree of prefixes, and whose prefixes they are: see radix.py."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

ROOT = 0
ID_BITS = 32  # a key of the heap is a stamp, then a node
ID_MASK = (1 << ID_BITS) - 1

# Columns of Radix.nodes.
(
    PARENT,  # NONE for the root and for nodes that are not in use
    OWNER,  # a request whose sequence has the node's tokens
    FIRST,  # the node's first page in that sequence
    LENGTH,  # pages
    LOCKS,  # requests that use the node, or one below it
    CHILDREN,
    QUEUED,  # 1 when the node is in the heap
    NEXT_ALIKE,  # the next node in the same bucket; the next one that is not in use
    NUM_NODE_COLUMNS,
) = range(9)

# Columns of Radix.counts.
(
    UNUSED,  # the first node that is in use no more, NONE when there is none
    USED,  # nodes that have ever been in use
    EVICTABLE,  # pages of nodes without a lock
    USES,  # lookups and insertions so far
    IN_HEAP,  # keys
    NUM_RADIX_COUNTS,
) = range(6)


class Identities(NamedTuple):
    """What the sequences of all requests are, as far as they are shared; static."""

    hash_start: Longs  # [N + 1] first hash of each request
    hashes: Longs  # [H] from 0 on; equal where all tokens up to the end of a block are equal
    span: int  # pages of a block
    private: Longs  # [N] identity of page 0 were it private; those of later pages are one less each, and all negative


class Radix(NamedTuple):
    """The tree of one replica, with room for K nodes, one more than there are pages. Node 0 is the root."""

    nodes: Ints  # [K, NUM_NODE_COLUMNS]
    identity: Longs  # [K] of the first page
    stamp: Longs  # [K] of the last use
    buckets: Ints  # [a power of 2] first node of a bucket of identities, ROOT when it is empty
    heap: Longs  # [K]
    counts: Longs  # [NUM_RADIX_COUNTS]
