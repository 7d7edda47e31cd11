"""The end of a batch of vLLM V1: the scheduler learns its tokens, and requests finish."""

import math
from collections.abc import Callable

from .._jit import inlined
from ..accounts.breakdown import count_chunk, count_decode, count_late_token, detailed, other_seconds, share_after
from ..accounts.parts import RESTARTED_IN
from ..cost import host_seconds
from ..iterations.batches import count_gaps
from ..iterations.group import add_work
from ..memory.followers import finish
from ..memory.paged import cache_full_blocks, give_up_blocks
from ..memory.waiting import drop_waiting
from ..state import (
    CLOCK,
    FORM_DUE,
    HOST,
    IDLE,
    IN_FLIGHT,
    LAST_END,
    NUM_LISTED,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    OTHER,
    REPLICA,
    RESTARTS,
    RUNNING,
    SLOT,
    Limits,
    State,
)
from ..tables import Cost
from ..transfers.state import NUM_KEPT, PREFILL, WHOLE
from .group import add_sums
from .loop import rest
from .state import CALLS, DECODE, LAST_PART, MEMBER, NEW, OUTSIDE, PART, REFUSED, RESTARTS_BEFORE_TOKEN, UNANNOUNCED

EndResidents = Callable[[State, Cost, int, int], None]
Parts = Callable[[State, Cost, int, int], tuple[float, float]]


@inlined
def parts_alone(state: State, cost: Cost, r: int, slot: int) -> tuple[float, float]:
    """Host time of a batch, and how much longer it takes than with its decodes alone, s."""
    features = state.batches.features[r, slot]
    return host_seconds(cost, features[NUM_SEQS]), other_seconds(cost, features, state.batches.on_stage[r, slot])


@inlined
def end_batch(state: State, cost: Cost, limits: Limits, parts_of: Parts, end_residents: EndResidents) -> None:
    """End the batch at cursor, the oldest in flight: the scheduler learns its tokens, and requests finish.

    ``parts_of``: parts_alone, or what the replica's step says. ``end_residents`` ends it for the members that are not
    listed: end_group or end_cohort.
    """
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
        on_stage = state.batches.on_stage[r, slot]
        host, other = parts_of(state, cost, r, slot)
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
    end_residents(state, cost, r, slot)
    if finished:
        _close_ranks(state, r)
    counts[FORM_DUE] = 1
    rest(state, limits, r)


@inlined
def end_group(state: State, cost: Cost, r: int, slot: int) -> None:
    """Count a batch that has ended for the group, and let the sums of the group count for those that joined since."""
    times, features = state.replicas.times[r], state.batches.features[r, slot]
    now = times[CLOCK]
    if features[NUM_RESIDENTS] > 0:
        count_gaps(state, now - times[LAST_END], features[NUM_RESIDENTS])
        add_work(state, r, state.batches.seconds[r, slot])
        if detailed(state.requests):
            on_stage = state.batches.on_stage[r, slot]
            times[HOST] += host_seconds(cost, features[NUM_SEQS])
            times[OTHER] += other_seconds(cost, features, on_stage)
            times[IDLE] += (now - times[LAST_END]) - on_stage
    settle(state, r, slot)


@inlined
def settle(state: State, r: int, slot: int) -> None:
    """Note that a batch has ended, and let the sums of the group count for those that joined it meanwhile."""
    features, member = state.batches.features[r, slot], state.engine.member
    if features[NUM_RESIDENTS] > 0 or features[NUM_SAMPLED] > 0:
        state.engine.counts[r, RESTARTS_BEFORE_TOKEN] = state.replicas.counts[r, RESTARTS]
    state.replicas.times[r, LAST_END] = state.replicas.times[r, CLOCK]
    for i in range(features[NUM_LISTED]):
        request = state.batches.request[r, slot, i]
        if member[request] == NEW:
            member[request] = MEMBER
            add_sums(state, r, request, -1.0)


@inlined
def _finish(state: State, limits: Limits, r: int, request: int, runs: bool, now: float) -> None:
    """Finish a request, which may have been preempted while its last token was on its way."""
    prefills = state.transfers.phase.size > 0 and state.transfers.phase[request] == PREFILL
    if runs and prefills:
        state.transfers.counts[r, NUM_KEPT] += 1  # until its blocks have been read
    elif runs:
        give_up_blocks(state, limits, r, request, False)
    else:
        drop_waiting(state, limits, r, request)
        if prefills:  # the other replica is to compute the prompt again
            state.transfers.phase[state.requests.follower[request]] = WHOLE
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
