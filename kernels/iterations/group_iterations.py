"""Iterations of a group: with prompts in the same batch, and alone for as long as nothing has to be decided."""

import math

from .._jit import inlined
from ..accounts.breakdown import count_chunk, detailed, other_seconds
from ..accounts.counts import count_batch, count_stage, count_time
from ..accounts.log import full, record
from ..cost import host_seconds, stage_seconds
from ..exits import Ending, Exit
from ..memory.blocks import release
from ..memory.followers import depends, finish, may_arrive_at
from ..memory.queues import arrive
from ..state import (
    CHUNKED,
    CLOCK,
    FORM_DUE,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HOST,
    IDLE,
    IN_FLIGHT,
    IN_USE,
    ITERATIONS,
    LAST_END,
    LEFT,
    LONGEST,
    NUM_DECODES,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
    OTHER,
    OUTCOME,
    PEAK,
    REPLICA,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .batches import count_gaps, sum_members
from .fast_forward import count_first_gaps, fast_forward
from .group import add_work, append_running, finish_due, free_static_batch, growth_due, join

NO_LIMIT = 1 << 62


@inlined
def launch_group(
    state: State, cost: Cost, limits: Limits, size: int, mixed: bool, most: int, grows: bool, static: bool
) -> int:
    """Start the ``size`` prompts that the batch lists, together with the group where batches are ``mixed``.

    Without prompts the group runs alone, for at most ``most`` iterations. FAULT when the tables give the batch no time.
    """
    r = state.cursor[REPLICA]
    counts = state.replicas.counts[r]
    if size == 0 and counts[GROUP] == 0:
        if counts[WAITING] + counts[CHUNKED] > 0 and counts[OUTCOME] == Ending.GOING:
            counts[OUTCOME] = Ending.STUCK
        return Exit.FORM
    if size == 0:
        return _run_alone(state, cost, limits, most, grows, static)
    return launch_prompts(state, cost, limits, size, counts[GROUP] if mixed else 0)


@inlined
def launch_prompts(state: State, cost: Cost, limits: Limits, size: int, number: int) -> int:
    """Start the ``size`` prompts that the batch lists, together with the ``number`` members of the group, or with none.

    FAULT when the tables give the batch no time.
    """
    r, cursor = state.cursor[REPLICA], state.cursor
    counts = state.replicas.counts[r]
    counts[ITERATIONS] += 1
    counts[IN_FLIGHT] = 1
    cursor[LEFT] -= 1
    ms = sum_members(state, cost, size, number, counts[GROUP_KV], counts[LONGEST] + counts[GROUP_STEP])
    features = state.batches.features[r, 0]
    seconds = stage_seconds(cost, features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED], ms, 0)
    if not seconds > 0.0:
        return Exit.FAULT
    count_batch(state, r, 0)
    now = state.replicas.times[r, CLOCK]
    started_at, request = state.requests.started_at, state.batches.request[r, 0]
    for i in range(size):
        if math.isnan(started_at[request[i]]):
            started_at[request[i]] = now
    if features[NUM_DECODES] > 0:
        state.replicas.times[r, IDLE] += now - state.replicas.times[r, LAST_END]
    _stay_in_flight(state, limits, r, now, seconds)
    count_stage(state, (now + seconds) - now)
    count_time(state, limits, r, 1, now + seconds)
    record(state, limits.num_blocks, 0, 0, now, now + seconds)
    return Exit.FORM


@inlined
def _stay_in_flight(state: State, limits: Limits, r: int, now: float, seconds: float) -> None:
    """Leave the batch in flight until ``seconds`` after ``now``, s."""
    state.batches.on_stage[r, 0] = (now + seconds) - now
    state.replicas.stage_end[r, 0] = now + seconds
    state.replicas.stage_seconds[r, 0] = seconds
    state.replicas.busy[r, 0] += seconds
    counts = state.replicas.counts[r]
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])


@inlined
def _run_alone(state: State, cost: Cost, limits: Limits, most: int, grows: bool, static: bool) -> int:
    """Run the group alone until something has to be decided, or an iteration reaches beyond the horizon.

    The request at the head of the queue, if there is one, has just been refused, and will be as long as no member
    finishes. So an arrival matters only where the queue is empty.
    """
    r, requests = state.cursor[REPLICA], state.requests
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    arrival = _next_to_matter(state, r)
    last = counts[ITERATIONS] + most
    while True:
        number = counts[GROUP]
        code = fast_forward(state, cost, limits, r, arrival, last - counts[ITERATIONS], grows)
        if code != Exit.ENDED:
            return code
        finish_due(state, cost, limits, r, grows, static)
        if static and counts[GROUP] == 0:
            free_static_batch(state, r)
        if depends(requests) and counts[GROUP] < number:
            arrival = _next_to_matter(state, r)
        if (
            times[CLOCK] >= arrival
            or (counts[GROUP] < number and (counts[GROUP] == 0 or counts[WAITING] + counts[CHUNKED] > 0))
            or (grows and counts[FREE] <= growth_due(state, limits, r))
            or counts[ITERATIONS] == last
            or state.cursor[LEFT] <= 0
            or full(state)
        ):
            break
    arrive(state, r, times[CLOCK])
    counts[FORM_DUE] = 1
    return Exit.FORM


@inlined
def _next_to_matter(state: State, r: int) -> float:
    """When the next request arrives, s, which may join the group at once; infinite while another waits before it."""
    return math.inf if state.replicas.counts[r, WAITING] > 0 else may_arrive_at(state, r)


@inlined
def end_group(state: State, cost: Cost, limits: Limits, r: int, seconds: float, grows: bool, static: bool) -> None:
    """End an iteration of the group at the clock: each member takes a token, and those whose last it was finish."""
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    now, number = times[CLOCK], counts[GROUP]
    add_work(state, r, seconds)
    if detailed(state.requests):
        features = state.batches.features[r, 0]
        times[HOST] += host_seconds(cost, features[NUM_SEQS])
        times[OTHER] += other_seconds(cost, features, seconds)
    count_first_gaps(state, r, now)
    times[LAST_END] = now
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += number
    finish_due(state, cost, limits, r, grows, static)
    if static and counts[GROUP] == 0:
        free_static_batch(state, r)


@inlined
def retire_group(state: State, cost: Cost, limits: Limits, grows: bool, static: bool) -> None:
    """End the batch in flight: the group, if it took part, then the prompts, which join the group when complete."""
    r = state.cursor[REPLICA]
    requests, counts = state.requests, state.replicas.counts[r]
    request, tokens = state.batches.request[r, 0], state.batches.tokens[r, 0]
    features = state.batches.features[r, 0]
    now, seconds = state.replicas.times[r, CLOCK], state.replicas.stage_seconds[r, 0]
    features[IN_USE] = 0
    detail, on_stage, host = detailed(requests), state.batches.on_stage[r, 0], 0.0
    if detail:
        host = host_seconds(cost, features[NUM_SEQS])
    if features[NUM_DECODES] > 0:
        end_group(state, cost, limits, r, seconds, grows, static)
    for i in range(features[NUM_PREFILLS]):
        member = request[i]
        processed = requests.processed[member] + tokens[i]
        requests.execution_time[member] += seconds
        if detail:
            count_chunk(requests, member, now, on_stage, host, processed == requests.prefill[member])
        if processed < requests.prefill[member]:
            requests.processed[member] = processed
            state.replicas.chunked[r, counts[CHUNKED]] = member
            counts[CHUNKED] += 1
            continue
        requests.processed[member] = processed + 1
        if math.isnan(requests.first_token_at[member]):
            requests.first_token_at[member] = now
        else:
            count_gaps(state, now - requests.last_token_at[member], 1)
        requests.last_token_at[member] = now
        if requests.processed[member] < requests.total[member]:
            join(state, limits, r, member)
            continue
        finish(state, r, member, now)
        if static:
            append_running(state, r, member)
        else:
            release(requests.blocks, counts, member)
    if static and counts[GROUP] == 0:
        free_static_batch(state, r)
