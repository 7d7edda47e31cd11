"""The start of a batch of vLLM V1. How long it is on each stage is known then, as stages serve batches in order."""

import math

from .._jit import inlined
from ..accounts.breakdown import count_launch, detailed
from ..accounts.counts import count_batch, count_stage, spread, ticks_at
from ..accounts.log import record
from ..cost import batch_ms, prefill_chunk_ms, stage_seconds
from ..exits import Ending, Exit
from ..replicas.timetable import go_through, has_timetable
from ..state import (
    CLOCK,
    DECODE_KV,
    FORM_DUE,
    GROUP,
    IN_FLIGHT,
    ITERATIONS,
    LEFT,
    LONGEST_KV,
    NUM_CACHED,
    NUM_DECODES,
    NUM_LISTED,
    NUM_PREEMPTED,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OUTCOME,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    PRESENT,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SLOT,
    TOKENS,
    WAITING,
    Limits,
    State,
)
from ..tables import COMPOSE_FASTSIM, Cost
from .loop import rest
from .state import (
    CALLS,
    DECODE,
    HIT,
    HIT_AGAIN,
    HITS_BEFORE,
    IDLE_CALL,
    LAST_PART,
    OLDEST,
    PART,
    RESTARTS_BEFORE_TOKEN,
    RUNNING_BATCH,
    WITH_WORK,
)

# Preemptions by priority without a token that are taken to go on for ever, for each KV block and request present. In
# order of arrival there is always an end, as the first running request is preempted by no other.
ENDLESS = 10


@inlined
def launch(
    state: State, cost: Cost, limits: Limits, size: int, decodes: tuple[int, int, int], ready: float, preempted: bool
) -> int:
    """Start the batch at cursor, which lists ``size`` requests and may be empty; FAULT when it has no time.

    Afterwards the engine either schedules again or waits for the oldest batch. ``decodes``: that are not listed, their
    tokens, and the most tokens of one of them. ``ready``: when their tokens have been sampled, s. ``preempted``:
    whether requests were preempted while the batch was formed.
    """
    r, slot, cursor = state.cursor[REPLICA], state.cursor[SLOT], state.cursor
    counts, own = state.replicas.counts[r], state.engine.counts[r]
    cursor[LEFT] -= 1
    state.batches.features[r, slot, NUM_LISTED] = size
    ready = _tokens_sampled(state, limits, size, ready)
    prefill_ms = sum_members(state, cost, limits, size, decodes)
    ms = batch_ms(cost, state.batches.features[r, slot], prefill_ms)
    has_tokens = state.batches.features[r, slot, NUM_TOKENS] > 0
    if has_tokens:
        counts[ITERATIONS] += 1
        count_batch(state, r, slot)
        count_since_before(state, r, slot)
    elif counts[IN_FLIGHT] == 0 and counts[RUNNING] + counts[GROUP] == 0 and counts[WAITING] > 0 and not preempted:
        counts[OUTCOME] = Ending.STUCK
        return Exit.FORM
    vain = counts[RESTARTS] - own[RESTARTS_BEFORE_TOKEN]
    if limits.engine.by_priority and vain > ENDLESS * (limits.num_blocks + counts[PRESENT]):
        counts[OUTCOME] = Ending.ENDLESS
        return Exit.FORM
    if not run_stages(state, cost, limits, has_tokens, ms, ready):
        return Exit.FAULT
    # So that no batch of the group alone in this slot is taken for this one.
    state.batches.features[r, slot, NUM_PREEMPTED] = state.batches.features[r, slot, NUM_CACHED] = 0
    counts[IN_FLIGHT] += 1
    own[IDLE_CALL] = not has_tokens
    if schedules_on(state, limits, r, has_tokens):
        counts[FORM_DUE] = 1
        rest(state, limits, r)
    return Exit.FORM


@inlined
def count_since_before(state: State, r: int, slot: int) -> None:
    """Count for a batch with tokens what has been preempted, and found in the cache, since the one before it."""
    features, counts, own = state.batches.features[r, slot], state.replicas.counts[r], state.engine.counts[r]
    features[NUM_PREEMPTED] = counts[RESTARTS] - counts[RESTARTS_BEFORE]
    features[NUM_CACHED] = own[HIT] + own[HIT_AGAIN] - own[HITS_BEFORE]
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    own[HITS_BEFORE] = own[HIT] + own[HIT_AGAIN]


@inlined
def schedules_on(state: State, limits: Limits, r: int, has_tokens: bool) -> bool:
    """Whether the engine schedules again before it waits for the oldest batch."""
    counts, own, rules = state.replicas.counts[r], state.engine.counts[r], limits.engine
    if counts[IN_FLIGHT] >= rules.depth:
        return False
    if rules.launches_while == RUNNING_BATCH:
        return bool(has_tokens and state.engine.batch_end[r, own[OLDEST]] > state.replicas.times[r, CLOCK])
    return bool(has_tokens or (rules.launches_while == WITH_WORK and counts[PRESENT] > 0))


@inlined
def _tokens_sampled(state: State, limits: Limits, size: int, sampled_at: float) -> float:
    """When the last stage has sampled all tokens that the batch at cursor computes, s; 0 where none is in flight.

    A request with a token in flight is in the batch of its last_call, which has not ended. ``sampled_at``: of the
    decodes that are not listed.
    """
    if not limits.engine.awaits_tokens or limits.num_stages == 1:
        return 0.0
    r, slot, engine = state.cursor[REPLICA], state.cursor[SLOT], state.engine
    own, request, tokens = engine.counts[r], state.batches.request[r, slot], state.batches.tokens[r, slot]
    oldest_call = own[CALLS] - state.replicas.counts[r, IN_FLIGHT]
    for i in range(size):
        member = request[i]
        if state.requests.processed[member] + tokens[i] > engine.known[member]:
            place = (own[OLDEST] + engine.last_call[member] - oldest_call) % limits.engine.depth
            sampled_at = max(sampled_at, float(engine.batch_end[r, place]))
    return sampled_at


@inlined
def sum_members(state: State, cost: Cost, limits: Limits, size: int, decodes: tuple[int, int, int]) -> float:
    """Sum up the members of the batch at cursor, whose tokens count as computed from now on.

    Returns the attention of its chunks, ms (fastsim). A member with one token is timed as a decode, as attention
    kernels are chosen by the number of tokens. ``decodes``: as for launch.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, engine = state.requests, state.engine
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    features, samples, call = state.batches.features[r, slot], engine.samples[r, slot], engine.counts[r, CALLS]
    kv_step = cost.vidur.kv_step
    counts = state.replicas.counts[r]
    num_tokens = num_decodes = group = decodes[0]
    decode_kv, longest_kv = (decodes[1], decodes[2]) if group > 0 else (0, 0)
    num_prefills = prefill_tokens = prefill_kv = squares = pairs = num_sampled = 0
    prefill_ms = 0.0
    for i in range(size):
        member, chunk = request[i], int(tokens[i])
        before = int(requests.processed[member])
        num_tokens += chunk
        if chunk == 1:
            num_decodes += 1
            decode_kv += before + 1
            longest_kv = max(longest_kv, before + 1)
        else:
            num_prefills += 1
            prefill_tokens += chunk
            prefill_kv += (before + kv_step - 1) // kv_step * kv_step
            squares += chunk * chunk
            pairs += chunk * before
            if cost.compose == COMPOSE_FASTSIM:
                prefill_ms += prefill_chunk_ms(cost.fastsim, before, chunk)
        samples[i] = PART
        if before + chunk >= engine.known[member] + engine.sampled[member]:
            samples[i] = DECODE if before >= requests.prefill[member] else LAST_PART
            engine.sampled[member] += limits.engine.asynchronous
            engine.last_call[member] = call
            num_sampled += 1
        requests.processed[member] = before + chunk
        engine.in_batches[member] += 1
        if math.isnan(requests.scheduled_at[member]):
            requests.scheduled_at[member] = state.replicas.times[r, CLOCK]
    features[NUM_SEQS] = size + group
    features[NUM_RESIDENTS] = group
    features[NUM_TOKENS] = num_tokens
    features[NUM_PREFILL_TOKENS] = prefill_tokens
    features[NUM_DECODES] = num_decodes
    features[DECODE_KV] = decode_kv
    features[LONGEST_KV] = longest_kv
    features[NUM_PREFILLS] = num_prefills
    features[PREFILL_KV] = prefill_kv
    features[PREFILL_SQUARES] = squares
    features[PREFILL_PAIRS] = pairs
    features[NUM_SAMPLED] = num_sampled + group
    counts[TOKENS] += num_tokens
    return prefill_ms


@inlined
def run_stages(state: State, cost: Cost, limits: Limits, has_tokens: bool, ms: float, ready: float) -> bool:
    """Put the batch at cursor on one stage after the other; False when the tables give it no time.

    ``ready``: when it may start, s.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    time = max(float(state.replicas.times[r, CLOCK]), ready)
    if limits.num_stages > 1 and has_tokens and has_timetable(state):
        if not go_through(state, cost, r, slot, ms, time):
            return False
        state.engine.batch_start[r, slot] = state.replicas.stage_start[r, 0]
        state.engine.batch_end[r, slot] = state.batches.leaves_at[r, slot]
    elif not _run_one_by_one(state, cost, limits, has_tokens, ms, time):
        return False
    note_starts(state, r, slot)
    return True


@inlined
def note_starts(state: State, r: int, slot: int) -> None:
    """Note when the requests started that a batch lists for the first time."""
    started_at, request = state.requests.started_at, state.batches.request[r, slot]
    for i in range(state.batches.features[r, slot, NUM_LISTED]):
        if math.isnan(started_at[request[i]]):
            started_at[request[i]] = state.engine.batch_start[r, slot]
            if detailed(state.requests):
                count_launch(state.requests, request[i], started_at[request[i]])


@inlined
def _run_one_by_one(state: State, cost: Cost, limits: Limits, has_tokens: bool, ms: float, time: float) -> bool:
    """The same from ``time``, s, stage by stage, where a log is kept, or the batch is empty."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    replicas, batches, features = state.replicas, state.batches, state.batches.features[r, slot]
    batches.on_stage[r, slot] = batches.seconds[r, slot] = 0.0
    for stage in range(replicas.stage_end.shape[1]):
        begin, seconds = max(time, replicas.stage_end[r, stage]), 0.0
        if has_tokens:
            tokens, seqs, sampled = features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED]
            seconds = stage_seconds(cost, tokens, seqs, sampled, ms, stage)
            if not seconds > 0.0:
                return False
        time = begin + seconds
        replicas.stage_end[r, stage] = time
        if stage == 0:
            state.engine.batch_start[r, slot] = begin
        if has_tokens:
            batches.on_stage[r, slot] += time - begin
            batches.seconds[r, slot] += seconds
            replicas.busy[r, stage] += seconds
            count_stage(state, time - begin)
            record(state, limits.num_blocks, stage, slot, begin, time)
            if detailed(state.requests):
                counts = state.replicas.counts[r]
                spread(replicas.series[r], counts, ticks_at(state, begin), ticks_at(state, time), 1, 0, 0)
    state.engine.batch_end[r, slot] = time
    return True
