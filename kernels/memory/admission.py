"""Admission: requests leave the head of the waiting queue, get KV blocks, and join the batch that is being formed."""

from collections.abc import Callable
from typing import TypeVar

from .._jit import merged
from ..state import REPLICA, SLOT, WAITING, Limits, State
from .blocks import allocate
from .prefix import cached_tokens
from .queues import head, pop_head

C = TypeVar("C")


@merged
def admit(
    state: State,
    limits: Limits,
    size: int,
    carried: C,
    grant: Callable[[State, Limits, int, int, int, int, C], tuple[int, int, C]],
) -> int:
    """Add waiting requests to the batch at cursor, which lists ``size`` requests, until one is refused.

    ``grant(state, limits, request, cached, held, size, carried)`` is the rule of a policy. It is shown the request at
    the head of the queue, how many of its tokens are cached already, and how many tokens it will hold once its prefill
    is complete. It returns how many tokens of it to compute in this batch, 0 to refuse it, how many KV blocks it takes,
    and what the rule carries to the next request, such as the tokens of the batch so far. Returns the new size.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, preempted = state.requests, state.replicas.counts[r], state.replicas.preempted[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    while counts[WAITING] > 0:
        candidate = head(preempted, counts)
        cached = cached_tokens(state, limits, candidate)
        computed, blocks, carried = grant(state, limits, candidate, cached, requests.prefill[candidate], size, carried)
        if computed <= 0:
            break
        pop_head(requests.next, counts)
        allocate(requests.blocks, counts, limits.num_blocks, candidate, blocks)
        requests.processed[candidate] = cached
        request[size], tokens[size] = candidate, computed
        size += 1
    return size
