"""Admission in vLLM V1: waiting requests find their cached blocks, and join the batch that is being formed."""

from .._jit import inlined
from ..memory.blocks import blocks_for
from ..memory.paged import admit_blocks, cache_full_blocks, find_cached
from ..memory.waiting import first_waiting, put_back, take_waiting
from ..state import FREE, GROUP, NONE, REPLICA, RUNNING, SLOT, WAITING, Limits, State
from .chunks import cut, threshold_of
from .state import ADMISSIONS, CHUNK, HIT, HIT_AGAIN, QUERIED, QUERIED_AGAIN, REFUSED, WHOLE


@inlined
def admit(state: State, limits: Limits, size: int, budget: int) -> int:
    """Admit waiting requests to the batch at cursor, until one does not fit; returns the new size."""
    r, rules = state.cursor[REPLICA], limits.engine
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    threshold = threshold_of(state, limits, r)
    passed_over, last_passed, number, refused = NONE, NONE, 0, 0
    if engine.counts[r, REFUSED] == WHOLE:
        return size
    while counts[WAITING] > 0 and budget > 0 and counts[RUNNING] + counts[GROUP] < limits.max_num_seqs:
        request = first_waiting(state, limits, r)
        known, computed = int(engine.known[request]), int(requests.processed[request])
        hits = free = 0
        passes = rules.drains and engine.in_batches[request] > 0
        if not passes:
            if computed == 0:
                hits, free = find_cached(state, limits, r, request)
                computed = hits * limits.block_size
            due = cut(known - computed, threshold)
            if not rules.chunked_prefill and due > budget:
                if not rules.skips_prompts:
                    break
                passes = True
        if passes:
            take_waiting(state, limits, r)
            # Prompts that do not fit come back in reverse order.
            if number == 0:
                passed_over = last_passed = request
            elif rules.skips_prompts:
                requests.next[request] = passed_over
                passed_over = request
            else:
                requests.next[last_passed] = request
                last_passed = request
            number += 1
            continue
        chunk = min(due, budget)
        why = refusal(state, limits, r, known, computed + chunk, hits, free)
        if why > 0:
            refused = why if number == 0 else 0
            break
        size = start(state, limits, r, size, request, known, computed, hits, chunk)
        budget -= chunk
    end_admission(state, limits, r, passed_over, last_passed, number, refused)
    return size


@inlined
def spare_blocks(state: State, limits: Limits, r: int) -> int:
    """Free blocks that may be taken by a request that is admitted."""
    counts = state.replicas.counts[r]
    return int(counts[FREE] - (limits.watermark_blocks if counts[RUNNING] + counts[GROUP] > 0 else 0))


@inlined
def refusal(state: State, limits: Limits, r: int, known: int, until: int, hits: int, free: int) -> int:
    """Why a request that is to compute its tokens up to ``until`` is refused: WHOLE or CHUNK, 0 when it fits.

    ``known``: its tokens. ``hits``: its cached blocks, of which so many are ``free``.
    """
    spare, whole = spare_blocks(state, limits, r), min(known, limits.engine.max_model_len)
    if limits.engine.whole_prompt and blocks_for(whole, limits.block_size) - hits + free > spare:
        return WHOLE
    return CHUNK if blocks_for(until, limits.block_size) - hits + free > spare else 0


@inlined
def start(
    state: State,
    limits: Limits,
    r: int,
    size: int,
    request: int,
    known: int,
    computed: int,
    hits: int,
    chunk: int,
) -> int:
    """Let the first waiting request run with a chunk of its tokens in the batch at cursor; returns the new size."""
    requests, engine, own = state.requests, state.engine, state.engine.counts[r]
    take_waiting(state, limits, r)
    if requests.processed[request] == 0:
        again = requests.restarts[request] > 0
        own[QUERIED_AGAIN if again else QUERIED] += known
        own[HIT_AGAIN if again else HIT] += computed
    if requests.restarts[request] == 0:
        engine.cached[request] = computed
    requests.prefill[request], requests.processed[request] = known, computed
    admit_blocks(state, limits, r, request, hits, computed + chunk)
    cache_full_blocks(state, limits, r, request, min(computed + chunk, known))
    return int(list_running(state, r, size, request, chunk))


@inlined
def list_running(state: State, r: int, size: int, request: int, tokens: int) -> int:
    """Add a request to those that run, and to the batch at cursor, which lists ``size``; returns the new size."""
    counts, own, slot = state.replicas.counts[r], state.engine.counts[r], state.cursor[SLOT]
    state.engine.order[request] = own[ADMISSIONS]
    own[ADMISSIONS] += 1
    state.replicas.running[r, counts[RUNNING]] = request
    counts[RUNNING] += 1
    state.batches.request[r, slot, size], state.batches.tokens[r, slot, size] = request, tokens
    return size + 1


@inlined
def end_admission(
    state: State, limits: Limits, r: int, passed_over: int, last_passed: int, number: int, refused: int
) -> None:
    """Put the ``number`` requests that were passed over back, and note why the first waiting one was refused."""
    counts = state.replicas.counts[r]
    put_back(state, limits, r, passed_over, last_passed, number)
    full = counts[RUNNING] + counts[GROUP] == limits.max_num_seqs
    is_full = refused == 0 and counts[WAITING] > 0 and full and number == 0
    state.engine.counts[r, REFUSED] = CHUNK if is_full else refused
