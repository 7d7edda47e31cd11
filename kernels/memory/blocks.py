"""Accounts of KV blocks: how many each request holds, and which requests give theirs back."""

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined
from ..accounts.breakdown import count_restart, detailed
from ..state import ALLOCATED, FREE, PEAK, RESTARTS, Requests
from .queues import push_front

Ints = NDArray[np.int32]
Longs = NDArray[np.int64]


@inlined
def blocks_for(tokens: int, block_size: int) -> int:
    """The KV blocks that hold ``tokens``, the last one perhaps in part."""
    return (tokens + block_size - 1) // block_size


@inlined
def allocate(blocks: Ints, counts: Longs, num_blocks: int, request: int, num: int) -> None:
    """Give ``num`` KV blocks to a request that holds none."""
    blocks[request] = num
    counts[FREE] -= num
    counts[ALLOCATED] += 1
    counts[PEAK] = max(counts[PEAK], num_blocks - counts[FREE])


@inlined
def release(blocks: Ints, counts: Longs, request: int) -> None:
    """Return all KV blocks of a request to the free ones."""
    counts[FREE] += blocks[request]
    counts[ALLOCATED] -= 1
    blocks[request] = 0


@inlined
def preempt(requests: Requests, counts: Longs, preempted: Ints, request: int, now: float) -> None:
    """Restart a request at ``now``, s: it loses its blocks, all its tokens are to be computed, and it waits first."""
    if detailed(requests):
        count_restart(requests, request, requests.processed[request] > requests.prefill[request], now)
    requests.prefill[request] = requests.processed[request]
    requests.processed[request] = 0
    requests.restarts[request] += 1
    counts[RESTARTS] += 1
    release(requests.blocks, counts, request)
    push_front(preempted, counts, request)


@inlined
def make_room(
    requests: Requests, counts: Longs, preempted: Ints, running: Ints, request: int, low: int, high: int, now: float
) -> tuple[bool, int]:
    """Make sure that a block is free for a decode: preempt the last of running[low:high], in the end the decode.

    Returns whether the decode can run, and the new end of ``running``. A decode needs a free block even when its last
    block has room, as in Vidur.
    """
    while counts[FREE] < 1:
        if low == high:
            preempt(requests, counts, preempted, request, now)
            return False, high
        high -= 1
        preempt(requests, counts, preempted, running[high], now)
    return True, high


@inlined
def grow(processed: Ints, blocks: Ints, counts: Longs, num_blocks: int, block_size: int, request: int) -> None:
    """Give a decode its next KV block when its tokens have filled the blocks it holds."""
    if processed[request] > blocks[request] * block_size:
        blocks[request] += 1
        counts[FREE] -= 1
        counts[PEAK] = max(counts[PEAK], num_blocks - counts[FREE])
