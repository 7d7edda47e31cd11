"""What is kept of the KV that goes from replicas that prefill to replicas that decode, and how fast it goes.

A request that is prefilled on one replica and decoded on another is two rows of Requests: the first has its prompt and
a single output token, and the second, which follows the first, has its prompt and all its output tokens.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

# Transfers.phase. WHOLE: a request that is computed where it is. PREFILL: the first of two; its blocks are kept as it
# finishes, until they have been read. WANTED: the second, which waits for blocks. RECEIVING: its KV is on its way.
# READY: its KV is there, and it waits to run; from then on it is WHOLE.
WHOLE, PREFILL, WANTED, RECEIVING, READY = range(5)

# Columns of Transfers.counts.
(
    REMOTE_FIRST,  # first in the queue of those that receive or are ready, NONE without one
    REMOTE_LAST,
    NUM_REMOTE,  # how many these are
    NUM_READY,  # of these, those that are ready
    NEWS_FIRST,  # the first request about which there is news, NONE without one
    NEWS_LAST,
    NUM_FLOWS,  # transfers that the replica takes part in
    NUM_KEPT,  # finished requests whose blocks have not been read
    NUM_TRANSFER_COUNTS,
) = range(9)


class Link(NamedTuple):
    """How KV is transferred."""

    bytes_per_s: float  # of the link of each replica, which its transfers share
    latency_s: float
    block_bytes: float
    layers: int  # more than 1: each layer's KV leaves as it is computed


NO_LINK = Link(0.0, 0.0, 0.0, 0)


class Transfers(NamedTuple):
    """N rows of requests and R replicas; empty where every request is computed where it is."""

    phase: Ints  # [N]
    source: Ints  # [N] the row that prefills for this one, NONE without one
    news_at: Floats  # [N] s, when its replica learns of the end of the transfer
    news_next: Ints  # [N] the next in the list of news of the replica
    started_at: Floats  # [N] s, of a row that decodes: when its blocks were taken and its transfer began
    left: Floats  # [N] bytes that are to be transferred from ``since`` on
    since: Floats  # [N] s
    rate: Floats  # [N] bytes/s
    end: Floats  # [N] s, when the last byte arrives at this rate
    moved: Ints  # [N] blocks that the transfer moves
    active: Ints  # [N] rows whose KV is on its way, in order of their starts
    num_active: Longs  # [1]
    counts: Longs  # [R, NUM_TRANSFER_COUNTS]
