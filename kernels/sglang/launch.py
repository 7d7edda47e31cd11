"""The start of a batch of SGLang, after the batch before it."""

import math

from .._jit import inlined
from ..accounts.counts import count_batch
from ..cost import batch_ms, prefill_chunk_ms
from ..engine.launch import count_since_before, run_stages
from ..engine.state import DECODE, PART
from ..exits import Exit
from ..state import (
    CLOCK,
    DECODE_KV,
    IN_FLIGHT,
    ITERATIONS,
    LONGEST_KV,
    NUM_DECODES,
    NUM_LISTED,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    REPLICA,
    SLOT,
    TOKENS,
    Limits,
    State,
)
from ..tables import COMPOSE_FASTSIM, Cost


@inlined
def launch(state: State, cost: Cost, limits: Limits, size: int) -> int:
    """Start the batch at cursor, which lists ``size`` requests; FAULT when it has no time."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts = state.replicas.counts[r]
    state.batches.features[r, slot, NUM_LISTED] = size
    ms = _sum_members(state, cost, size)
    counts[ITERATIONS] += 1
    count_batch(state, r, slot)
    count_since_before(state, r, slot)
    if not run_stages(state, cost, limits, True, ms, 0.0):
        return Exit.FAULT
    counts[IN_FLIGHT] += 1
    return Exit.FORM


@inlined
def _sum_members(state: State, cost: Cost, size: int) -> float:
    """Sum up the members of the batch at cursor, whose tokens have their slots; returns the time of its layers, ms.

    A chunk of one token is timed as a decode.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, engine = state.requests, state.engine
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    features, samples, kv_step = state.batches.features[r, slot], engine.samples[r, slot], cost.vidur.kv_step
    num_tokens = num_decodes = decode_kv = longest_kv = 0
    num_prefills = prefill_tokens = prefill_kv = squares = pairs = num_sampled = 0
    prefill_ms = 0.0
    for i in range(size):
        member, chunk = request[i], int(tokens[i])
        after = int(requests.processed[member])
        before = after - chunk
        num_tokens += chunk
        if samples[i] == DECODE or chunk == 1:
            num_decodes += 1
            decode_kv += after
            longest_kv = max(longest_kv, after)
        else:
            num_prefills += 1
            prefill_tokens += chunk
            prefill_kv += (before + kv_step - 1) // kv_step * kv_step
            squares += chunk * chunk
            pairs += chunk * before
            if cost.compose == COMPOSE_FASTSIM:
                prefill_ms += prefill_chunk_ms(cost.fastsim, before, chunk)
        if samples[i] != PART:
            engine.sampled[member] += 1
            num_sampled += 1
        if math.isnan(requests.scheduled_at[member]):
            requests.scheduled_at[member] = state.replicas.times[r, CLOCK]
    features[NUM_SEQS] = size
    features[NUM_RESIDENTS] = 0
    features[NUM_TOKENS] = num_tokens
    features[NUM_PREFILL_TOKENS] = prefill_tokens
    features[NUM_DECODES] = num_decodes
    features[DECODE_KV] = decode_kv
    features[LONGEST_KV] = longest_kv
    features[NUM_PREFILLS] = num_prefills
    features[PREFILL_KV] = prefill_kv
    features[PREFILL_SQUARES] = squares
    features[PREFILL_PAIRS] = pairs
    features[NUM_SAMPLED] = num_sampled
    state.replicas.counts[r, TOKENS] += num_tokens
    return batch_ms(cost, features, prefill_ms)
