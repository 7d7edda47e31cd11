"""The end of a batch of SGLang: the scheduler learns its tokens, and requests finish."""

import math

from .._jit import inlined
from ..accounts.breakdown import count_chunk, count_decode, count_late_token, detailed, other_seconds, share_after
from ..cost import host_seconds
from ..engine.state import DECODE, LAST_PART, PART
from ..iterations.batches import count_gaps
from ..memory.followers import finish
from ..state import CLOCK, FORM_DUE, NUM_LISTED, NUM_SEQS, REPLICA, SLOT, Limits, State
from ..tables import Cost
from .serving import Serving, serving
from .slots import count_free, give_back, store
from .state import DROPPED, RESULTS, UNCHANGED
from .steady import end_unchanged


@inlined
def end_batch(state: State, cost: Cost, limits: Limits) -> None:
    """End the batch at cursor, the oldest in flight."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, features = state.requests, state.batches.features[r, slot]
    request, samples = state.batches.request[r, slot], state.engine.samples[r, slot]
    now, seconds, on_stage = state.replicas.times[r, CLOCK], state.batches.seconds[r, slot], 0.0
    state.sglang.counts[r, RESULTS] += 1
    state.replicas.counts[r, FORM_DUE] = 1
    if state.sglang.counts[r, UNCHANGED]:
        end_unchanged(state, cost, r, slot, now)
        return
    at, detail, host, other = serving(state, limits, slot), detailed(requests), 0.0, 0.0
    if detail:
        on_stage, host = state.batches.on_stage[r, slot], host_seconds(cost, features[NUM_SEQS])
        other = other_seconds(cost, features, on_stage)
    run_start, run_length = now, 0
    for i in range(features[NUM_LISTED]):
        member = request[i]
        if requests.finished_at[member] >= 0.0:
            continue
        requests.execution_time[member] += seconds
        if samples[i] == DROPPED:
            continue
        if detail:
            share = share_after(requests, member, samples[i] == DECODE, now, on_stage)
            if samples[i] == DECODE:
                count_decode(requests, member, now, on_stage * share, host * share, other * share)
            else:
                count_chunk(requests, member, now, on_stage * share, host * share, samples[i] == LAST_PART)
        if samples[i] == PART:
            continue
        previous = requests.last_token_at[member]
        _take_token(state, at, member, samples[i] == DECODE, now)
        if previous == run_start:
            run_length += 1
        elif not math.isnan(previous):
            count_gaps(state, now - run_start, run_length)
            run_start, run_length = previous, 1
    count_gaps(state, now - run_start, run_length)
    count_free(at, limits.num_blocks)


@inlined
def _take_token(state: State, at: Serving, request: int, decodes: bool, now: float) -> None:
    """Give a request its next output token, which may be its last one."""
    requests, engine = state.requests, state.engine
    engine.sampled[request] -= 1
    engine.known[request] += 1
    if math.isnan(requests.first_token_at[request]):
        if detailed(requests):
            count_late_token(requests, request, now)
        requests.first_token_at[request] = now
    requests.last_token_at[request] = now
    if engine.known[request] == requests.total[request]:
        give_back(at, request, True)
        finish(state, state.cursor[REPLICA], request, now)
    elif not decodes:
        store(at, request)
