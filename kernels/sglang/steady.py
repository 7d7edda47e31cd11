"""Decode batches of SGLang that follow each other unchanged: many at once, up to the next decision.

While no request may join, none gets its last token and memory suffices, each batch gives a token to each running
request, and only the clock changes. With overlap a batch is scheduled while the one before it runs, so the first of
them waits until that one has ended (AHEAD). The last one stays in flight, and goes on as any other batch does. What
such batches take of time is summed up once for all, so that times do not depend on where a run of them is cut.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.parts import DECODE_HOST
from ..cost import host_seconds
from ..engine.state import DECODE, OLDEST
from ..exits import Exit
from ..iterations.batches import count_gaps
from ..iterations.fast_forward import fast_forward
from ..iterations.group import ID_BITS, add_work
from ..memory.followers import may_arrive_at
from ..state import (
    CLOCK,
    FORM_DUE,
    FREE,
    FRESH,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    HOST,
    IN_FLIGHT,
    LAST_END,
    LEFT,
    LOGGED,
    LONGEST,
    NONE,
    NUM_CACHED,
    NUM_LISTED,
    NUM_PREEMPTED,
    NUM_SEQS,
    RUNNING,
    WAITING,
    WORK,
    WORK_LOW,
    Floats,
    Ints,
    Limits,
    State,
)
from ..tables import Cost
from .decode import count_new_pages, filter_running
from .serving import Serving
from .slots import make_room
from .state import AHEAD, CHUNKED, DECODES, FREE_PAGES, IDLE_IN_A_ROW, IS_FULL, LAST_MODE, LAST_SLOT, RESULTS, UNCHANGED


@inlined
def runs_unchanged(state: State, limits: Limits, at: Serving, r: int) -> bool:
    """Whether the batch that is due begins a run of unchanged ones; with a log of one row, none does."""
    own = state.sglang.counts[r]
    if own[AHEAD]:
        return True
    if state.log.start.size == 1 or state.replicas.counts[r, IN_FLIGHT] != limits.engine.depth - 1:
        return False
    last_size = state.batches.features[r, own[LAST_SLOT], NUM_LISTED]
    return bool(_stays_unchanged(at, state.requests.total, last_size))


@inlined
def _stays_unchanged(at: Serving, total: Ints, last_size: int) -> bool:
    """Whether the next batch gives a token to each request of the last one that goes on, and none of them ends before.

    ``total``: Requests.total. ``last_size``: requests in the last batch.
    """
    counts, own = at.counts, at.own
    if own[LAST_MODE] != DECODES or own[CHUNKED] != NONE:
        return False
    if counts[WAITING] == 0:
        filter_running(at.running, counts, at.finished_at, own)
    elif not own[IS_FULL] or counts[RUNNING] != last_size:
        return False
    number = counts[RUNNING]
    if number == 0:
        return False
    return bool(
        _tokens_left(at, total) > 1 and counts[FREE] > count_new_pages(at.running, number, at.processed, at.page)
    )


@inlined
def _tokens_left(at: Serving, total: Ints) -> int:
    """The tokens that the running request which finishes first has yet to get."""
    request = at.running[0]
    left = int(total[request] - at.known[request])
    for i in range(1, at.counts[RUNNING]):
        request = at.running[i]
        left = min(left, int(total[request] - at.known[request]))
    return left


@inlined
def _gather(at: Serving, growth: Ints) -> tuple[int, int]:
    """Tokens of all running requests after the next batch, and of the longest; sets ``growth``, new pages by step."""
    tokens = longest = 0
    for phase in range(at.page):
        growth[phase] = 0
    for i in range(at.counts[RUNNING]):
        slots = int(at.processed[at.running[i]])
        tokens += slots + 1
        longest = max(longest, slots + 1)
        if at.page > 1:
            growth[-slots % at.page] += 1
    if at.page == 1:
        growth[0] = at.counts[RUNNING]
    return tokens, longest


@inlined
def _steps_in_memory(free: int, number: int, page: int, growth: Ints, most: int) -> int:
    """How many steps, up to ``most``, find more pages available than ``number`` requests begin."""
    if number * (most // page + 1) < free:
        return most
    step = 0
    while step < most and growth[step % page] < free:
        free -= int(growth[step % page])
        step += 1
    return step


@inlined
def _scatter(at: Serving, growth: Ints, steps: int, last_token_at: Floats, time: float) -> None:
    """Give the running requests the tokens of all but the last of ``steps`` batches; the last one is in flight.

    ``time``: of the tokens before that one, s.
    """
    own, ratio, rules = at.own, at.ratio, at.rules
    number = at.counts[RUNNING]
    for step in range(steps):
        pages = int(growth[step % at.page])
        make_room(at, pages * at.page)
        make_room(at, at.page * number)
        own[FREE_PAGES] -= pages
    for _ in range(steps):
        if ratio[0] == rules.least_ratio:
            break
        ratio[0] = max(ratio[0] - rules.ratio_step, rules.least_ratio)
    own[RESULTS] += steps - 1
    own[LAST_SLOT] = 0
    for i in range(number):
        request = at.running[i]
        at.members[i], at.tokens[i], at.samples[i] = request, 1, DECODE
        at.known[request] += steps - 1
        at.sampled[request] += 1
        at.processed[request] += steps
        last_token_at[request] = time


@inlined
def wait_for_last(state: State, r: int) -> None:
    """Let a run of unchanged batches begin as soon as the batch in flight ends."""
    state.sglang.counts[r, AHEAD], state.sglang.counts[r, IDLE_IN_A_ROW] = 1, 0
    state.replicas.counts[r, FORM_DUE] = 0


@inlined
def run_unchanged(state: State, cost: Cost, limits: Limits, at: Serving, r: int) -> int:
    """Run batches of the same decodes until something has to be decided; the last one is in flight.

    ``at``: with slot 0, as no batch is in flight. FAULT when the tables have no time for a batch.
    """
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.sglang.counts[r]
    number, growth, features = int(counts[RUNNING]), state.replicas.growth[r], state.batches.features[r, 0]
    steps = _tokens_left(at, state.requests.total) - 1 + own[AHEAD]  # of which the last is not waited for
    own[AHEAD], own[UNCHANGED], times[LAST_END] = 0, 1, times[CLOCK]
    counts[GROUP], counts[GROUP_STEP], counts[FRESH] = number, 0, 0
    counts[GROUP_KV], counts[LONGEST] = _gather(at, growth)
    steps = min(_steps_in_memory(int(counts[FREE]), number, limits.block_size, growth, steps), state.cursor[LEFT])
    if state.log.start.size > 0:
        steps = min(steps, state.log.start.size - state.cursor[LOGGED])
    state.replicas.heap[r, 0] = (steps + 1) << ID_BITS
    features[NUM_PREEMPTED] = features[NUM_CACHED] = 0
    horizon, arrival = state.moments[HORIZON], math.inf if own[IS_FULL] else may_arrive_at(state, r)
    until = horizon if limits.sglang.overlap else min(horizon, arrival)
    while True:
        most = 0 if times[CLOCK] >= arrival else steps - 1 - counts[GROUP_STEP]
        state.moments[HORIZON] = until if most > 0 else -math.inf
        code = fast_forward(state, cost, limits, r, arrival, max(most, 1), True)
        if code != Exit.ENDED:
            break
    state.moments[HORIZON] = horizon
    counts[GROUP] = 0
    if code == Exit.FAULT:
        return code
    start, end = float(times[CLOCK]), float(state.replicas.stage_end[r, 0])
    _scatter(at, growth, int(counts[GROUP_STEP]) + 1, state.requests.last_token_at, float(times[LAST_END]))
    state.engine.batch_start[r, 0], state.engine.batch_end[r, 0] = start, end
    state.engine.counted[r] = end  # until when fast_forward has counted what the replica holds
    state.batches.seconds[r, 0], state.batches.on_stage[r, 0] = state.replicas.stage_seconds[r, 0], end - start
    features[NUM_LISTED] = number
    state.engine.counts[r, OLDEST] = 0
    counts[FORM_DUE] = int(counts[IN_FLIGHT] < limits.engine.depth)
    return Exit.FORM


@inlined
def end_unchanged(state: State, cost: Cost, r: int, slot: int, now: float) -> None:
    """End one of a run of unchanged batches: each request gets a token, and the time is summed up for all of them."""
    times, features = state.replicas.times[r], state.batches.features[r, slot]
    number = features[NUM_LISTED]
    _give_token(state.batches.request[r, slot], number, state.engine.known, state.engine.sampled)
    for i in range(number):
        state.requests.last_token_at[state.batches.request[r, slot, i]] = now
    count_gaps(state, now - times[LAST_END], number)
    add_work(state, r, state.batches.seconds[r, slot])
    times[HOST] += host_seconds(cost, features[NUM_SEQS])
    times[LAST_END] = now
    state.sglang.counts[r, UNCHANGED] = 0


@inlined
def _give_token(members: Ints, number: int, known: Ints, sampled: Ints) -> None:
    for i in range(number):
        known[members[i]] += 1
        sampled[members[i]] -= 1


@inlined
def share_sums(state: State, r: int) -> None:
    """Add the sums of a run of unchanged batches to those of each request, before something changes."""
    times, running = state.replicas.times[r], state.replicas.running[r]
    state.sglang.counts[r, UNCHANGED] = 0
    if times[WORK] == 0.0:
        return
    for i in range(state.replicas.counts[r, RUNNING]):
        request = running[i]
        state.requests.execution_time[request] += times[WORK] + times[WORK_LOW]
        if detailed(state.requests):
            state.requests.parts[request, DECODE_HOST] += times[HOST]
    times[WORK] = times[WORK_LOW] = times[HOST] = 0.0
