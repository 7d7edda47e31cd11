"""The steps of a replica whose ranks step together: what happens next, and the start and the end of a step.

The row of the replica has the clock, the batches in flight and the requests that no rank has been sent; each rank has a
row of its own with its scheduler, its KV blocks and its batches, in the same slots as the replica's.
"""

import math
from collections.abc import Callable

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import count_batch, count_stage, spread, ticks_at
from ..accounts.log import record
from ..engine.ending import end_batch
from ..engine.group import add_sums
from ..engine.launch import ENDLESS, count_since_before, note_starts, sum_members
from ..engine.state import (
    CALLS,
    IDLE_CALL,
    MEMBER,
    NEW,
    OLDEST,
    RESTARTS_BEFORE_TOKEN,
    RUNNING_BATCH,
    UNANNOUNCED,
    WITH_WORK,
)
from ..exits import Ending, Exit
from ..iterations.batches import count_gaps
from ..iterations.group import add_work
from ..memory.followers import held, just_after
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    HOST,
    IDLE,
    IN_FLIGHT,
    ITERATIONS,
    LAST_END,
    LEFT,
    LOGGED,
    LONGEST,
    NONE,
    NUM_DECODES,
    NUM_LISTED,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_TOKENS,
    OTHER,
    OUTCOME,
    PRESENT,
    REPLICA,
    RESTARTS,
    RUNNING,
    SLOT,
    SUM_HOST,
    SUM_OTHER,
    WAITING,
    WORK,
    WORK_LOW,
    Limits,
    State,
)
from ..tables import Cost
from .balance import add_up, balance, take_in
from .state import FIRST_RANK, FORMED, IN_WAVE
from .steady import become_steady, catch_up_steady, form_steady, is_steady_in
from .step import dummy_seconds, step_seconds

FormOfRank = Callable[[State, Limits, float], int]


@inlined
def next_step(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    cursor = state.cursor
    f = cursor[REPLICA]
    counts, times, own = state.replicas.counts[f], state.replicas.times[f], state.engine.counts[f]
    log_is_full = state.log.start.size > 0 and cursor[LOGGED] + limits.ranks.num_ranks > state.log.start.size
    if cursor[LEFT] <= 0 or log_is_full:
        return Exit.BUDGET
    while True:
        if counts[FORM_DUE]:
            if times[CLOCK] >= state.moments[HORIZON] or held(state, times[CLOCK]):
                return Exit.UNTIL
            balance(state, limits, f, times[CLOCK])
            if take_in(state, limits, f, times[CLOCK]):
                add_up(state, limits, f)
            counts[FORM_DUE] = 0
            if counts[PRESENT] > 0 or own[UNANNOUNCED]:
                cursor[SLOT] = (own[OLDEST] + counts[IN_FLIGHT]) % limits.engine.depth
                return Exit.FORM
        if counts[IN_FLIGHT] > 0:
            end = max(times[CLOCK], state.engine.batch_end[f, own[OLDEST]])
            if end >= state.moments[HORIZON]:
                return Exit.UNTIL
            balance(state, limits, f, end)
            _count_held(state, limits, f, end)
            times[CLOCK] = end
            cursor[SLOT] = own[OLDEST]
            own[OLDEST] = (own[OLDEST] + 1) % limits.engine.depth
            counts[IN_FLIGHT] -= 1
            return Exit.ENDED
        coming = counts[COMING]
        if coming == NONE:
            return Exit.DONE
        arrival = float(state.requests.arrived_at[coming])
        if arrival >= state.moments[HORIZON]:
            return Exit.UNTIL
        _step_on(state, cost, limits, f, arrival)
        times[CLOCK] = max(times[CLOCK], arrival)
        counts[FORM_DUE] = 1


@inlined
def quiet_until_step(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound."""
    counts, now = state.replicas.counts[r], float(state.replicas.times[r, CLOCK])
    if counts[FORM_DUE]:
        return just_after(now) if held(state, now) else now
    if counts[IN_FLIGHT] > 0:
        return max(now, float(state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
    return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])


@inlined
def _step_on(state: State, cost: Cost, limits: Limits, f: int, arrival: float) -> None:
    """Run dummy batches on the ranks, which have no requests, to the end of the wave or until a request arrives."""
    times, own, wave = state.replicas.times[f], state.ranks.counts[f], limits.ranks.wave
    while own[IN_WAVE] % wave > 0 and times[CLOCK] < arrival:
        times[CLOCK] += dummy_seconds(state, cost, limits, f)
        state.replicas.stage_end[f, 0] = times[CLOCK]
        own[IN_WAVE] += 1
    own[IN_WAVE] %= wave


@inlined
def _count_held(state: State, limits: Limits, f: int, until: float) -> None:
    """Count the running requests and KV blocks of all ranks from the replica's clock to ``until``, s."""
    if detailed(state.requests):
        since, last = ticks_at(state, state.replicas.times[f, CLOCK]), ticks_at(state, until)
        first = int(state.ranks.counts[f, FIRST_RANK])
        for r in range(first, first + limits.ranks.num_ranks):
            counts = state.replicas.counts[r]
            running, blocks = counts[PRESENT] - counts[WAITING], limits.num_blocks - counts[FREE]
            spread(state.replicas.series[r], counts, since, last, 0, running, blocks)


@inlined
def _follow(state: State, f: int, r: int) -> None:
    """Let a rank have the clock of its replica, and the sums over the steps so far.

    The requests that decode in each step get the differences, and a step takes the same time on all ranks.
    """
    times, mine = state.replicas.times[f], state.replicas.times[r]
    mine[CLOCK], mine[LAST_END] = times[CLOCK], times[LAST_END]
    mine[WORK], mine[WORK_LOW] = times[WORK], times[WORK_LOW]
    mine[IDLE], mine[HOST], mine[OTHER] = times[IDLE], times[HOST], times[OTHER]
    state.engine.counts[r, OLDEST] = state.engine.counts[f, OLDEST]
    state.replicas.counts[r, IN_FLIGHT] = state.replicas.counts[f, IN_FLIGHT]


@inlined
def launch_ranks(state: State, cost: Cost, limits: Limits, form: FormOfRank) -> int:
    """Form the batch of each rank of the replica at cursor and start them together; FAULT when they have no time.

    Afterwards the replica either schedules again or waits for the oldest step.
    """
    f, slot, cursor = state.cursor[REPLICA], state.cursor[SLOT], state.cursor
    counts, own, first = state.replicas.counts[f], state.engine.counts[f], int(state.ranks.counts[f, FIRST_RANK])
    number, formed, whole = limits.ranks.num_ranks, 0, state.batches.features[f, slot]
    most = total = prefills = most_decodes = decodes = tokens = 0
    whole[NUM_LISTED] = whole[NUM_RESIDENTS] = 0
    own[CALLS] += 1
    own[UNANNOUNCED] = 0
    cursor[LEFT] -= number
    for r in range(first, first + number):
        cursor[REPLICA], features = r, state.batches.features[r, slot]
        if is_steady_in(state, r, own[CALLS]):
            if detailed(state.requests):
                state.replicas.times[r, CLOCK] = state.replicas.times[f, CLOCK]
            form_steady(state, limits, r, slot)
        elif state.replicas.counts[r, OUTCOME] == Ending.GOING:
            state.ranks.counts[first + formed, FORMED] = r
            formed += 1
            catch_up_steady(state, limits, f, r)
            _follow(state, f, r)
            _form(state, cost, limits, f, r, slot, form)
            become_steady(state, limits, r, slot, own[CALLS])
        else:
            features[:] = 0
        size = max(1, features[NUM_TOKENS])
        most, total, tokens = max(most, size), total + size, tokens + features[NUM_TOKENS]
        prefills += features[NUM_PREFILLS]
        most_decodes, decodes = max(most_decodes, features[NUM_DECODES]), decodes + max(1, features[NUM_DECODES])
        whole[NUM_LISTED] += features[NUM_LISTED]
        whole[NUM_RESIDENTS] += features[NUM_RESIDENTS]
    cursor[REPLICA] = f
    own[IDLE_CALL] = tokens == 0
    if not _start(state, cost, limits, f, slot, formed, tokens > 0, (most, total, prefills, most_decodes, decodes)):
        return Exit.FAULT
    counts[IN_FLIGHT] += 1
    if formed > 0:
        add_up(state, limits, f)
    if _schedules_on(state, limits, f, tokens > 0):
        counts[FORM_DUE] = 1
        _rest(state, limits, f)
    return Exit.FORM


@inlined
def _form(state: State, cost: Cost, limits: Limits, f: int, r: int, slot: int, form: FormOfRank) -> None:
    """Form the batch of a rank. Members that leave its group are listed in the batch in flight."""
    counts, own, features = state.replicas.counts[r], state.engine.counts[r], state.batches.features[r, slot]
    restarts, flying = counts[RESTARTS], state.batches.features[r, own[OLDEST]]
    listed, residents = flying[NUM_LISTED], flying[NUM_RESIDENTS]
    size = form(state, limits, cost.fastsim.skew)
    if counts[IN_FLIGHT] > 0:
        state.batches.features[f, own[OLDEST], NUM_LISTED] += flying[NUM_LISTED] - listed
        state.batches.features[f, own[OLDEST], NUM_RESIDENTS] += flying[NUM_RESIDENTS] - residents
    decodes = counts[GROUP], counts[GROUP_KV], counts[LONGEST] + counts[GROUP_STEP]
    features[NUM_LISTED] = size
    state.batches.layers_ms[r, slot] = sum_members(state, cost, limits, size, decodes)
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += counts[GROUP]
    if features[NUM_TOKENS] > 0:
        counts[ITERATIONS] += 1
        count_batch(state, r, slot)
        count_since_before(state, r, slot)
    elif counts[RESTARTS] == restarts and _is_stuck(state, limits, r):
        counts[OUTCOME] = Ending.STUCK
    vain = counts[RESTARTS] - own[RESTARTS_BEFORE_TOKEN]
    if limits.engine.by_priority and vain > ENDLESS * (limits.num_blocks + counts[PRESENT]):
        counts[OUTCOME] = Ending.ENDLESS
        features[:] = 0


@inlined
def _is_stuck(state: State, limits: Limits, r: int) -> bool:
    """Whether requests wait at a rank that has no other, and no batch in flight with tokens."""
    counts, oldest = state.replicas.counts[r], state.engine.counts[r, OLDEST]
    for i in range(counts[IN_FLIGHT]):
        if state.batches.features[r, (oldest + i) % limits.engine.depth, NUM_TOKENS] > 0:
            return False
    return bool(counts[RUNNING] + counts[GROUP] == 0 and counts[WAITING] > 0)


@inlined
def _start(
    state: State,
    cost: Cost,
    limits: Limits,
    f: int,
    slot: int,
    formed: int,
    has_tokens: bool,
    sizes: tuple[int, int, int, int, int],
) -> bool:
    """Start the batches in a slot together; False when the tables give them no time.

    ``formed``: ranks whose batches were formed member by member. ``sizes``: as for step_seconds.
    """
    first, number = int(state.ranks.counts[f, FIRST_RANK]), limits.ranks.num_ranks
    replicas, batches, engine = state.replicas, state.batches, state.engine
    begin, seconds, host, other = max(float(replicas.times[f, CLOCK]), float(replicas.stage_end[f, 0])), 0.0, 0.0, 0.0
    if has_tokens:
        state.ranks.counts[f, IN_WAVE] += 1
        seconds, host, other = step_seconds(state, cost, limits, f, slot, sizes)
        if not seconds > 0.0:
            return False
    end = begin + seconds
    replicas.stage_end[f, 0] = end
    replicas.busy[f, 0] += seconds
    engine.batch_start[f, slot], engine.batch_end[f, slot] = begin, end
    batches.seconds[f, slot], batches.on_stage[f, slot] = seconds, end - begin
    batches.sums[f, slot, SUM_HOST], batches.sums[f, slot, SUM_OTHER] = host, other
    for i in range(formed):
        r = state.ranks.counts[first + i, FORMED]
        engine.batch_start[r, slot], engine.batch_end[r, slot] = begin, end
        batches.seconds[r, slot], batches.on_stage[r, slot] = seconds, end - begin
        batches.sums[r, slot, SUM_HOST], batches.sums[r, slot, SUM_OTHER] = host, other
        if batches.features[r, slot, NUM_TOKENS] > 0:
            state.cursor[REPLICA] = r
            record(state, limits.num_blocks, 0, slot, begin, end)
            note_starts(state, r, slot)
    state.cursor[REPLICA] = f
    if detailed(state.requests):
        since, until = ticks_at(state, begin), ticks_at(state, end)
        for r in range(first, first + number):
            if batches.features[r, slot, NUM_TOKENS] > 0:
                count_stage(state, end - begin)
                spread(replicas.series[r], replicas.counts[r], since, until, 1, 0, 0)
    return True


@inlined
def _schedules_on(state: State, limits: Limits, f: int, has_tokens: bool) -> bool:
    """Whether the replica schedules again before it waits for the oldest step."""
    counts, own, rules = state.replicas.counts[f], state.engine.counts[f], limits.engine
    if counts[IN_FLIGHT] >= rules.depth:
        return False
    if rules.launches_while == RUNNING_BATCH:
        return bool(has_tokens and state.engine.batch_end[f, own[OLDEST]] > state.replicas.times[f, CLOCK])
    return bool(has_tokens or (rules.launches_while == WITH_WORK and counts[PRESENT] > 0))


@inlined
def _rest(state: State, limits: Limits, f: int) -> None:
    """Let the replica sleep at the end of a pass that scheduled no tokens while requests are unfinished."""
    rules, own = limits.engine, state.engine.counts[f]
    announces = rules.launches_while == WITH_WORK and own[UNANNOUNCED]
    if own[IDLE_CALL] and rules.sleep_s > 0.0 and (state.replicas.counts[f, PRESENT] > 0 or announces):
        state.replicas.times[f, CLOCK] += rules.sleep_s


@inlined
def parts_of_step(state: State, cost: Cost, r: int, slot: int) -> tuple[float, float]:
    """Host time of a step, and how much longer it takes than with the decodes of all ranks alone, s."""
    return float(state.batches.sums[r, slot, SUM_HOST]), float(state.batches.sums[r, slot, SUM_OTHER])


@inlined
def end_residents(state: State, cost: Cost, r: int, slot: int) -> None:
    """Let the sums over the steps count for those that joined the group of a rank while the batch was in flight."""
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
def end_ranks(state: State, cost: Cost, limits: Limits) -> None:
    """End the step at cursor, the oldest in flight, on all ranks of a replica."""
    f, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts, times, first = state.replicas.counts[f], state.replicas.times[f], int(state.ranks.counts[f, FIRST_RANK])
    number, now, whole = limits.ranks.num_ranks, times[CLOCK], state.batches.features[f, slot]
    on_stage = state.batches.on_stage[f, slot]
    count_gaps(state, now - times[LAST_END], whole[NUM_RESIDENTS])
    add_work(state, f, state.batches.seconds[f, slot])
    times[HOST] += state.batches.sums[f, slot, SUM_HOST]
    times[OTHER] += state.batches.sums[f, slot, SUM_OTHER]
    times[IDLE] += (now - times[LAST_END]) - on_stage
    ends = whole[NUM_LISTED] > 0
    if ends or limits.engine.by_priority:
        for r in range(first, first + number):
            features = state.batches.features[r, slot]
            if features[NUM_LISTED] > 0:
                if state.replicas.counts[r, OUTCOME] == Ending.GOING:
                    state.cursor[REPLICA] = r
                    catch_up_steady(state, limits, f, r)
                    _follow(state, f, r)
                    end_batch(state, cost, limits, parts_of_step, end_residents)
                    state.engine.counts[f, UNANNOUNCED] |= state.engine.counts[r, UNANNOUNCED]
            elif features[NUM_RESIDENTS] > 0:
                state.engine.counts[r, RESTARTS_BEFORE_TOKEN] = state.replicas.counts[r, RESTARTS]
    state.cursor[REPLICA] = f
    times[LAST_END] = now
    counts[FORM_DUE] = 1
    if ends:
        add_up(state, limits, f)
    _rest(state, limits, f)
