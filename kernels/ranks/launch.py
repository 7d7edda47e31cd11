"""The start of a step: the batches of all ranks of a replica are formed, and start together."""

from collections.abc import Callable

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import count_batch, count_stage, spread, ticks_at
from ..accounts.log import record
from ..engine.launch import ENDLESS, count_since_before, note_starts, schedules_on, sum_members
from ..engine.loop import rest
from ..engine.state import CALLS, IDLE_CALL, OLDEST, RESTARTS_BEFORE_TOKEN, UNANNOUNCED
from ..exits import Ending, Exit
from ..state import (
    CLOCK,
    FORM_DUE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    IN_FLIGHT,
    ITERATIONS,
    LEFT,
    LONGEST,
    NUM_DECODES,
    NUM_LISTED,
    NUM_PREFILLS,
    NUM_RESIDENTS,
    NUM_TOKENS,
    OUTCOME,
    PRESENT,
    REPLICA,
    RESTARTS,
    RUNNING,
    SLOT,
    SUM_HOST,
    SUM_OTHER,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .balance import add_up
from .state import FIRST_RANK, FORMED, IN_WAVE
from .steady import become_steady, catch_up_steady, follow, form_steady, is_steady_in
from .step import step_seconds

FormOfRank = Callable[[State, Limits, float], int]


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
            follow(state, f, r)
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
    if schedules_on(state, limits, f, tokens > 0):
        counts[FORM_DUE] = 1
        rest(state, limits, f)
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
