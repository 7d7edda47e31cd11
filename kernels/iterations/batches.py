"""A batch from its formation to its end: the sums over its members, and the tokens that they take when it ends."""

import math

from .._jit import inlined
from ..accounts.breakdown import count_chunk, count_decode, detailed, other_seconds
from ..accounts.histogram import bin_of
from ..accounts.parts import SINCE
from ..cost import batch_ms, host_seconds, prefill_chunk_ms
from ..memory.blocks import release
from ..memory.followers import finish
from ..memory.queues import move
from ..state import (
    CLOCK,
    DECODE_KV,
    IN_USE,
    LONGEST_KV,
    NUM_DECODES,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    REPLICA,
    RUNNING,
    SLOT,
    TBT_COUNT,
    TBT_MAX,
    TBT_SUM,
    TOKENS,
    State,
)
from ..tables import COMPOSE_FASTSIM, Cost


@inlined
def sum_members(state: State, cost: Cost, size: int, group: int, group_kv: int, group_longest: int) -> float:
    """Sum up the ``size`` members that the batch just formed lists; returns the time it takes on every stage, ms.

    ``group`` decodes take part besides. They have processed ``group_kv`` tokens in all, and one of them as many as
    ``group_longest``.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests = state.requests
    processed, prefill, scheduled_at = requests.processed, requests.prefill, requests.scheduled_at
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    features = state.batches.features[r, slot]
    now = state.replicas.times[r, CLOCK]
    kv_step = cost.vidur.kv_step
    num_tokens = num_decodes = group
    decode_kv = longest_kv = 0
    if group > 0:
        decode_kv, longest_kv = group_kv, group_longest
    num_prefills = prefill_tokens = prefill_kv = squares = pairs = num_sampled = 0
    prefill_ms = 0.0
    for i in range(size):
        member = request[i]
        before = processed[member]
        num_tokens += tokens[i]
        if before > prefill[member]:
            num_decodes += 1
            decode_kv += before
            longest_kv = max(longest_kv, before)
            continue
        chunk = tokens[i]
        num_prefills += 1
        prefill_tokens += chunk
        prefill_kv += (before + kv_step - 1) // kv_step * kv_step
        squares += chunk * chunk
        pairs += chunk * before
        num_sampled += before + chunk == prefill[member]
        if cost.compose == COMPOSE_FASTSIM:
            prefill_ms += prefill_chunk_ms(cost.fastsim, before, chunk)
        if math.isnan(scheduled_at[member]):
            scheduled_at[member] = now
            if detailed(requests):
                requests.parts[member, SINCE] = now
    features[NUM_SEQS] = size + group
    features[NUM_TOKENS] = num_tokens
    features[NUM_PREFILL_TOKENS] = prefill_tokens
    features[NUM_DECODES] = num_decodes
    features[DECODE_KV] = decode_kv
    features[LONGEST_KV] = longest_kv
    features[NUM_PREFILLS] = num_prefills
    features[PREFILL_KV] = prefill_kv
    features[PREFILL_SQUARES] = squares
    features[PREFILL_PAIRS] = pairs
    features[NUM_SAMPLED] = num_decodes + num_sampled
    state.replicas.counts[r, TOKENS] += num_tokens
    return batch_ms(cost, features, prefill_ms)


@inlined
def advance_members(state: State, cost: Cost) -> None:
    """End the batch at cursor: its members take their tokens, and those that have not finished move to its front.

    Each iteration raises a request's processed tokens towards its total. Prefill and decode differ only in the output
    token that a completed prefill yields on top. NUM_SEQS becomes the number of members that have not finished; they
    keep their order. The finished ones come after them and still hold their memory.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, times = state.requests, state.replicas.times[r]
    processed, prefill, total = requests.processed, requests.prefill, requests.total
    execution_time, last_token_at = requests.execution_time, requests.last_token_at
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    features = state.batches.features[r, slot]
    now = times[CLOCK]
    size, left = features[NUM_SEQS], 0
    seconds = state.batches.seconds[r, slot]
    detail, on_stage, host, other = detailed(requests), 0.0, 0.0, 0.0
    if detail:
        on_stage, host = state.batches.on_stage[r, slot], host_seconds(cost, size)
        other = other_seconds(cost, features, on_stage)
    # The gap between tokens is nearly always the same for all members: count runs of equal gaps.
    run_start, run_length = now, 0
    for i in range(size):
        member = request[i]
        before = processed[member]
        after = before + tokens[i]
        execution_time[member] += seconds
        yields = before > prefill[member]
        if detail and yields:
            count_decode(requests, member, now, on_stage, host, other)
        elif detail:
            count_chunk(requests, member, now, on_stage, host, after == prefill[member])
        if after == prefill[member]:
            after += 1
            yields = True
            if math.isnan(requests.first_token_at[member]):
                requests.first_token_at[member] = now
        processed[member] = after
        if yields:
            previous = last_token_at[member]
            last_token_at[member] = now
            if previous == run_start:
                run_length += 1
            elif not math.isnan(previous):
                count_gaps(state, now - run_start, run_length)
                run_start, run_length = previous, 1
        if after == total[member]:
            finish(state, r, member, now)
        if after != total[member]:
            request[left], request[i] = member, request[left]
            left += 1
    count_gaps(state, now - run_start, run_length)
    features[NUM_SEQS] = left


@inlined
def count_gaps(state: State, gap: float, number: int) -> None:
    """Count ``number`` equal gaps between output tokens, s."""
    if number > 0:
        counts = state.replicas.counts[state.cursor[REPLICA]]
        times = state.replicas.times[state.cursor[REPLICA]]
        counts[TBT_COUNT] += number
        times[TBT_SUM] += gap * number
        times[TBT_MAX] = max(times[TBT_MAX], gap)
        state.tbt[bin_of(gap)] += number


@inlined
def retire(state: State, cost: Cost) -> None:
    """End the batch at cursor: finished members free their memory, the others join the end of the running requests."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts, features = state.replicas.counts[r], state.batches.features[r, slot]
    request, running = state.batches.request[r, slot], state.replicas.running[r]
    size = features[NUM_SEQS]
    advance_members(state, cost)
    left = features[NUM_SEQS]
    move(request, 0, left, running, counts[RUNNING])
    counts[RUNNING] += left
    for i in range(left, size):
        release(state.requests.blocks, counts, request[i])
    features[IN_USE] = 0
