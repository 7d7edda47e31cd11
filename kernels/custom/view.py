"""The view of a replica that a user's scheduling function gets, and the functions that it may call."""

from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numba.extending import register_jitable
from numpy.typing import NDArray

from .._jit import _OPTIONS, _PART_OPTIONS, inlined
from ..state import Floats, Ints, Longs

F = TypeVar("F")

# SchedulerState.status: where a request is. A request that was restarted stays out of the batch that is being formed.
ELSEWHERE, WAITS, RUNS, TAKEN, RESTARTED = range(5)

# SchedulerState.trouble[0]: why the kernel came back, or what was wrong with a choice.
FINE, NO_ROOM, BAD_SIZE, NOT_HERE, TWICE, BAD_TOKENS, QUEUE_LOST, BAD_REPLICA = range(8)

NOTES = 64  # numbers that a policy may keep per replica


class SchedulerState(NamedTuple):
    """The arrays of a user's scheduler besides State; N requests, R replicas. Those it may read alone are read-only."""

    queue: Ints  # [R, C] the waiting requests, from ends[r, 0] up to ends[r, 1]
    ends: Longs  # [R, 2] indices into queue
    queue_length: Longs  # [R] requests left in the queue by the last call of the policy
    status: NDArray[np.int8]  # [N] ELSEWHERE, WAITS, RUNS, TAKEN or RESTARTED
    memo: Floats  # [N]
    notes: Floats  # [R, NOTES]
    trouble: Longs  # [4] why the kernel came back, and up to three numbers about it
    arrived_at: Floats
    num_prompt_tokens: Ints
    num_output_tokens: Ints
    prefill: Ints
    processed: Ints
    blocks: Ints


class ReplicaView(NamedTuple):
    """The view of its replica that a scheduling function gets. Arrays of requests are indexed by request."""

    now: float  # s
    waiting: Ints  # requests without memory: restarted ones, then by arrival, unless sort_by has reordered them
    running: Ints  # requests that hold memory and wait for their next iteration, by arrival
    num_joined: int  # of those waiting, how many have come since the last call
    arrived_at: Floats  # s
    num_prompt_tokens: Ints
    num_output_tokens: Ints  # which no real scheduler knows beforehand
    prefill: Ints  # tokens before the next output token: the prompt, or all tokens so far after a restart
    processed: Ints  # tokens processed, above prefill once the request decodes
    blocks: Ints  # KV blocks held
    free_blocks: int
    num_blocks: int
    block_size: int  # tokens
    watermark_blocks: int  # that admission leaves free
    num_allocated: int  # requests that hold memory, those in other pipeline stages included
    max_num_seqs: int  # most requests that may hold memory
    max_batch: int  # most requests in a batch
    max_num_batched_tokens: int  # most tokens in a batch
    chunk_size: int
    memo: Floats  # yours, a number per request: 0 at first
    notes: Floats  # [NOTES] yours, kept between calls: 0 at first


@inlined
def refuse(policy: SchedulerState, why: int, first: int, second: int, third: int) -> int:
    """Record what is wrong with a choice, and numbers about it; returns 0, the size of a batch that is not formed."""
    policy.trouble[0], policy.trouble[1], policy.trouble[2], policy.trouble[3] = why, first, second, third
    return 0


def users(function: F) -> F:
    """Compile a user's function as a part of a kernel, but with indices checked and with division as in Python."""
    options: dict[str, Any] = {**_PART_OPTIONS, "error_model": "python", "boundscheck": True}
    compiled: F = numba.njit(**options)(function)
    return compiled


def _either(function: F) -> F:
    """Make a function available to users' functions, which run interpreted once and compiled from then on."""
    plain: F = register_jitable(**_OPTIONS)(function)
    return plain


@_either
def comes_first(keys: NDArray[Any], one: int, other: int) -> bool:
    """Whether one request sorts before another: by key, then by request."""
    return bool(keys[one] < keys[other] or (keys[one] == keys[other] and one < other))


@_either
def place_in(requests: Ints, keys: NDArray[Any], first: int, last: int, request: int) -> int:
    """The index in requests[first:last], which is in order, before which a request belongs."""
    while first < last:
        middle = (first + last) // 2
        if comes_first(keys, requests[middle], request):
            first = middle + 1
        else:
            last = middle
    return first


@_either
def shift_right(requests: Ints, first: int, last: int) -> None:
    """Move requests[first:last] by one place towards the end. Unsigned indices spare a test for negative ones."""
    number, moved = last - first, requests[first : last + 1]
    for i in range(number):
        moved[np.uint64(number - i)] = moved[np.uint64(number - i - 1)]


@_either
def _sift(requests: Ints, keys: NDArray[Any], position: int, number: int) -> None:
    """Move a request down the heap requests[:number] to where its key belongs."""
    request = requests[position]
    while 2 * position + 1 < number:
        child = 2 * position + 1
        if child + 1 < number and comes_first(keys, requests[child], requests[child + 1]):
            child += 1
        if not comes_first(keys, request, requests[child]):
            break
        requests[position] = requests[child]
        position = child
    requests[position] = request


@_either
def sort_by(requests: Ints, keys: NDArray[Any]) -> None:
    """Sort requests in place by their keys, ascending; requests with equal keys are sorted by their ids.

    Scheduling functions call it, compiled or not. Requests that are nearly in order take one pass. The queue
    ``replica.waiting`` keeps the order that it is given.

    Parameters
    ----------
    requests : int32[n]
        Ids of requests, such as ``replica.waiting``.
    keys : array[num_requests]
        A key for each request of the workload, such as ``replica.num_prompt_tokens``. It is indexed by the id.

    Examples
    --------
    >>> import numpy as np
    >>> waiting = np.array([0, 1, 2, 3], dtype=np.int32)
    >>> num_prompt_tokens = np.array([512, 64, 128, 64])
    >>> fastsim.sort_by(waiting, num_prompt_tokens)
    >>> waiting.tolist()
    [1, 3, 2, 0]
    """
    number = requests.size
    moves_left = 8 * number
    for i in range(1, number):
        request = requests[i]
        if not comes_first(keys, request, requests[i - 1]):
            continue
        place = place_in(requests, keys, 0, i - 1, request)
        shift_right(requests, place, i)
        requests[place] = request
        moves_left -= i - place
        if moves_left < 0:
            break
    if moves_left >= 0:
        return
    for i in range(number // 2 - 1, -1, -1):
        _sift(requests, keys, i, number)
    for last in range(number - 1, 0, -1):
        requests[0], requests[last] = requests[last], requests[0]
        _sift(requests, keys, 0, last)
