"""Batches of the vllm_v1 policy, from their formation to the moment when the scheduler learns their tokens.

How long a batch is on each stage is known when it is formed, since stages serve batches in their order.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import (
    RESTARTED_IN,
    count_chunk,
    count_decode,
    count_late_token,
    count_launch,
    detailed,
    other_seconds,
    share_after,
)
from ..accounts.counts import count_batch, count_stage, spread, ticks_at
from ..accounts.log import record
from ..cost import COMPOSE_FASTSIM, Cost, batch_ms, host_seconds, prefill_chunk_ms, stage_seconds
from ..exits import Ending, Exit
from ..memory.followers import finish
from ..memory.paged import cache_full_blocks, give_up_blocks
from ..memory.waiting import drop_waiting
from ..state import (
    CALLS,
    CLOCK,
    DECODE_KV,
    FORM_DUE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HIT,
    HIT_AGAIN,
    HITS_BEFORE,
    HOST,
    IDLE,
    IDLE_CALL,
    IN_FLIGHT,
    ITERATIONS,
    LAST_END,
    LEFT,
    LONGEST,
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
    OLDEST,
    OTHER,
    OUTCOME,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    PRESENT,
    REFUSED,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    RUNNING_BATCH,
    SLOT,
    TOKENS,
    UNANNOUNCED,
    WAITING,
    WITH_WORK,
    Limits,
    State,
)
from .batches import count_gaps
from .engine_group import MEMBER, NEW, OUTSIDE, add_sums
from .group import add_work

# Engine.samples: what a member's tokens are, and whether they yield an output token.
PART, LAST_PART, DECODE = range(3)


@inlined
def launch(state: State, cost: Cost, limits: Limits, size: int, preempted: bool) -> int:
    """Start the batch at cursor, which lists ``size`` requests and may be empty; FAULT when it has no time.

    Afterwards the engine either schedules again or waits for the oldest batch. ``preempted``: whether requests were
    preempted while the batch was formed.
    """
    r, slot, cursor = state.cursor[REPLICA], state.cursor[SLOT], state.cursor
    counts, own = state.replicas.counts[r], state.engine.counts[r]
    cursor[LEFT] -= 1
    state.batches.features[r, slot, NUM_LISTED] = size
    ms = _sum_members(state, cost, limits, size)
    has_tokens = state.batches.features[r, slot, NUM_TOKENS] > 0
    if has_tokens:
        counts[ITERATIONS] += 1
        count_batch(state, r, slot)
        _count_since_before(state, r, slot)
    elif counts[IN_FLIGHT] == 0 and counts[RUNNING] + counts[GROUP] == 0 and counts[WAITING] > 0 and not preempted:
        counts[OUTCOME] = Ending.STUCK
        return Exit.FORM
    if not _run_stages(state, cost, limits, has_tokens, ms):
        return Exit.FAULT
    # So that no batch of the group alone in this slot is taken for this one.
    state.batches.features[r, slot, NUM_PREEMPTED] = state.batches.features[r, slot, NUM_CACHED] = 0
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += counts[GROUP]
    counts[IN_FLIGHT] += 1
    own[IDLE_CALL] = not has_tokens
    if _schedules_on(state, limits, r, has_tokens):
        counts[FORM_DUE] = 1
        _rest(state, limits, r)
    return Exit.FORM


@inlined
def _count_since_before(state: State, r: int, slot: int) -> None:
    """Count for a batch with tokens what has been preempted, and found in the cache, since the one before it."""
    features, counts, own = state.batches.features[r, slot], state.replicas.counts[r], state.engine.counts[r]
    features[NUM_PREEMPTED] = counts[RESTARTS] - counts[RESTARTS_BEFORE]
    features[NUM_CACHED] = own[HIT] + own[HIT_AGAIN] - own[HITS_BEFORE]
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    own[HITS_BEFORE] = own[HIT] + own[HIT_AGAIN]


@inlined
def _schedules_on(state: State, limits: Limits, r: int, has_tokens: bool) -> bool:
    """Whether the engine schedules again before it waits for the oldest batch."""
    counts, own, rules = state.replicas.counts[r], state.engine.counts[r], limits.engine
    if counts[IN_FLIGHT] >= rules.depth:
        return False
    if rules.launches_while == RUNNING_BATCH:
        return bool(has_tokens and state.engine.batch_end[r, own[OLDEST]] > state.replicas.times[r, CLOCK])
    return bool(has_tokens or (rules.launches_while == WITH_WORK and counts[PRESENT] > 0))


@inlined
def _rest(state: State, limits: Limits, r: int) -> None:
    """Let the engine sleep at the end of a pass that scheduled no tokens while requests are unfinished."""
    rules, own = limits.engine, state.engine.counts[r]
    announces = rules.launches_while == WITH_WORK and own[UNANNOUNCED]
    if own[IDLE_CALL] and rules.sleep_s > 0.0 and (state.replicas.counts[r, PRESENT] > 0 or announces):
        state.replicas.times[r, CLOCK] += rules.sleep_s


@inlined
def _sum_members(state: State, cost: Cost, limits: Limits, size: int) -> float:
    """Sum up the members of the batch at cursor, whose tokens count as computed from now on; returns ms on a stage.

    A member with one token is timed as a decode, as attention kernels are chosen by the number of tokens.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, engine = state.requests, state.engine
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    features, samples, call = state.batches.features[r, slot], engine.samples[r, slot], engine.counts[r, CALLS]
    kv_step = cost.vidur.kv_step
    counts = state.replicas.counts[r]
    num_tokens = num_decodes = group = int(counts[GROUP])
    decode_kv, longest_kv = (int(counts[GROUP_KV]), int(counts[LONGEST] + counts[GROUP_STEP])) if group > 0 else (0, 0)
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
    return batch_ms(cost, features, prefill_ms)


@inlined
def _run_stages(state: State, cost: Cost, limits: Limits, has_tokens: bool, ms: float) -> bool:
    """Put the batch at cursor on one stage after the other; False when the tables give it no time."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    replicas, batches, features = state.replicas, state.batches, state.batches.features[r, slot]
    time = replicas.times[r, CLOCK]
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
    started_at, request = state.requests.started_at, state.batches.request[r, slot]
    for i in range(features[NUM_LISTED]):
        if math.isnan(started_at[request[i]]):
            started_at[request[i]] = state.engine.batch_start[r, slot]
            if detailed(state.requests):
                count_launch(state.requests, request[i], started_at[request[i]])
    return True


@inlined
def end_batch(state: State, cost: Cost, limits: Limits, grows: bool, static: bool) -> None:
    """End the batch at cursor, the oldest in flight: the scheduler learns its tokens, and requests finish."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    request, samples, features = (
        state.batches.request[r, slot],
        engine.samples[r, slot],
        state.batches.features[r, slot],
    )
    now, seconds, on_stage = state.replicas.times[r, CLOCK], state.batches.seconds[r, slot], 0.0
    call = engine.counts[r, CALLS] - counts[IN_FLIGHT]  # that formed the batch, as every call forms one
    detail, host, other, finished = detailed(requests), 0.0, 0.0, False
    if detail:
        on_stage, host = state.batches.on_stage[r, slot], host_seconds(cost, features[NUM_SEQS])
        other = other_seconds(cost, features, on_stage)
    run_start, run_length = now, 0
    for i in range(features[NUM_LISTED]):
        member = request[i]
        engine.in_batches[member] -= 1
        if requests.finished_at[member] >= 0.0:
            continue
        requests.execution_time[member] += seconds
        runs = requests.blocks[member] > 0
        if detail and runs and (requests.restarts[member] == 0 or call > requests.parts[member, RESTARTED_IN]):
            share = share_after(requests, member, samples[i] == DECODE, now, on_stage)
            if samples[i] == DECODE:
                count_decode(requests, member, now, on_stage * share, host * share, other * share)
            else:
                count_chunk(requests, member, now, on_stage * share, host * share, samples[i] == LAST_PART)
        if samples[i] == PART:
            continue
        engine.sampled[member] -= limits.engine.asynchronous
        engine.known[member] += 1
        if math.isnan(requests.first_token_at[member]):
            if detail:
                count_late_token(requests, member, now)
            requests.first_token_at[member] = now
        previous = requests.last_token_at[member]
        requests.last_token_at[member] = now
        if previous == run_start:
            run_length += 1
        elif not math.isnan(previous):
            count_gaps(state, now - run_start, run_length)
            run_start, run_length = previous, 1
        if runs and limits.engine.asynchronous and engine.member[member] == OUTSIDE:
            cache_full_blocks(state, limits, r, member, int(requests.processed[member] - engine.sampled[member]))
        if engine.known[member] == requests.total[member]:
            finished = finished or runs
            _finish(state, limits, r, member, runs, now)
    count_gaps(state, now - run_start, run_length)
    end_group(state, cost, r, slot)
    if finished:
        _close_ranks(state, r)
    counts[FORM_DUE] = 1
    _rest(state, limits, r)


@inlined
def end_group(state: State, cost: Cost, r: int, slot: int) -> None:
    """Count a batch that has ended for the group, and let the sums of the group count for those that joined since."""
    times, features, member = state.replicas.times[r], state.batches.features[r, slot], state.engine.member
    now = times[CLOCK]
    if features[NUM_RESIDENTS] > 0:
        count_gaps(state, now - times[LAST_END], features[NUM_RESIDENTS])
        add_work(state, r, state.batches.seconds[r, slot])
        if detailed(state.requests):
            on_stage = state.batches.on_stage[r, slot]
            times[HOST] += host_seconds(cost, features[NUM_SEQS])
            times[OTHER] += other_seconds(cost, features, on_stage)
            times[IDLE] += (now - times[LAST_END]) - on_stage
    times[LAST_END] = now
    for i in range(features[NUM_LISTED]):
        request = state.batches.request[r, slot, i]
        if member[request] == NEW:
            member[request] = MEMBER
            add_sums(state, r, request, -1.0)


@inlined
def _finish(state: State, limits: Limits, r: int, request: int, runs: bool, now: float) -> None:
    """Finish a request, which may have been preempted while its last token was on its way."""
    if runs:
        give_up_blocks(state, limits, r, request, False)
    else:
        drop_waiting(state, limits, r, request)
    state.engine.counts[r, UNANNOUNCED] = 1
    state.engine.counts[r, REFUSED] = 0
    finish(state, r, request, now)


@inlined
def _close_ranks(state: State, r: int) -> None:
    """Remove the finished requests from the running ones."""
    counts, running, finished_at = state.replicas.counts[r], state.replicas.running[r], state.requests.finished_at
    left = 0
    for i in range(counts[RUNNING]):
        if not finished_at[running[i]] >= 0.0:
            running[left] = running[i]
            left += 1
    counts[RUNNING] = left
