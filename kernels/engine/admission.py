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
    r, slot, rules = state.cursor[REPLICA], state.cursor[SLOT], limits.engine
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    members, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    threshold, own = threshold_of(state, limits, r), state.engine.counts[r]
    passed_over, last_passed, number, refused = NONE, NONE, 0, 0
    if own[REFUSED] == WHOLE:
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
        spare = counts[FREE] - (limits.watermark_blocks if counts[RUNNING] + counts[GROUP] > 0 else 0)
        whole = min(known, rules.max_model_len)
        if rules.whole_prompt and blocks_for(whole, limits.block_size) - hits + free > spare:
            refused = WHOLE if number == 0 else 0
            break
        if blocks_for(computed + chunk, limits.block_size) - hits + free > spare:
            refused = CHUNK if number == 0 else 0
            break
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
        engine.order[request] = own[ADMISSIONS]
        own[ADMISSIONS] += 1
        state.replicas.running[r, counts[RUNNING]] = request
        counts[RUNNING] += 1
        members[size], tokens[size] = request, chunk
        size += 1
        budget -= chunk
    put_back(state, limits, r, passed_over, last_passed, number)
    full = counts[RUNNING] + counts[GROUP] == limits.max_num_seqs
    own[REFUSED] = CHUNK if refused == 0 and counts[WAITING] > 0 and full and number == 0 else refused
    return size
