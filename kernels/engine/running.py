"""Tokens for the running requests of vLLM V1: request by request, or beside the group."""

from .._jit import inlined
from ..memory.blocks import blocks_for
from ..memory.paged import cache_full_blocks, take_blocks, take_free
from ..state import FREE, PEAK, REPLICA, RUNNING, SLOT, Limits, State
from .chunks import cut, threshold_of, tokens_due
from .group_blocks import cache_in_order
from .preemption import make_room


@inlined
def form_running(state: State, limits: Limits) -> tuple[int, int]:
    """Give tokens to the running requests; returns the size of the batch and what is left of the budget."""
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    counts, running, computed = state.replicas.counts[r], state.replicas.running[r], state.requests.processed
    members, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size, place, budget, threshold = 0, 0, limits.max_num_batched_tokens, threshold_of(state, limits, r)
    while place < counts[RUNNING] and budget > 0:
        request = int(running[place])
        chunk = min(cut(tokens_due(state, limits, r, request), threshold), budget)
        if chunk <= 0:
            place += 1
            continue
        held = int(computed[request]) + chunk
        runs, place, size, budget = make_room(state, limits, request, held, place, size, budget)
        if not runs:
            if rules.by_priority and rules.requester_goes_on:
                continue
            break
        take_blocks(state, limits, r, request, held)
        cache_full_blocks(state, limits, r, request, min(held, int(state.engine.known[request])))
        members[size], tokens[size] = request, chunk
        size += 1
        budget -= chunk
        place += 1
    return size, budget


@inlined
def form_beside(
    state: State, limits: Limits, number: int, need: int, newest: int, step: int, flying: int
) -> tuple[int, int]:
    """Give tokens to ``number`` decodes that need ``need`` blocks, and to the running requests that are listed.

    Returns the number of listed members and what is left of the budget, and -1 instead of a number where the order
    decides who gets blocks or tokens, which are short. ``newest``: the latest admission of the decodes. ``step``, and
    ``flying``: as for cache_in_order.
    """
    r, slot, counts = state.cursor[REPLICA], state.cursor[SLOT], state.replicas.counts[state.cursor[REPLICA]]
    engine, running, computed = state.engine, state.replicas.running[r], state.requests.processed
    members, tokens, chunks = state.batches.request[r, slot], state.batches.tokens[r, slot], state.scratch[0]
    size, budget, threshold = 0, limits.max_num_batched_tokens - number, threshold_of(state, limits, r)
    for place in range(counts[RUNNING]):
        request = int(running[place])
        due = cut(tokens_due(state, limits, r, request), threshold)
        chunk = max(0, min(due, budget))
        if engine.order[request] < newest and chunk < due:
            return -1, 0
        chunks[place] = chunk
        budget -= chunk
        if chunk > 0:
            need += blocks_for(int(computed[request]) + chunk, limits.block_size) - int(state.requests.blocks[request])
            members[size], tokens[size] = request, chunk
            size += 1
    if budget < 0 or need > counts[FREE]:
        return -1, 0
    take_free(state, limits, r, need)
    for i in range(size):
        held = int(computed[members[i]]) + int(tokens[i])
        state.requests.blocks[members[i]] = max(state.requests.blocks[members[i]], blocks_for(held, limits.block_size))
    if limits.engine.prefix_caching:
        cache_in_order(state, limits, r, step, step + 1, flying, counts[RUNNING])
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    return size, budget
