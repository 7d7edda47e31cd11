"""The steady decodes of a pipeline of the vllm_v1 policy, in cohorts: those of one batch are in its next one together.

A request decodes again when its batch has ended, or, where asynchronous batches take turns, as many calls of the
scheduler later as there are stages. So each cohort takes its turn, and a batch is a cohort and what is listed besides.
The progress of a member is implicit, as in a group (group.py): ``processed`` holds the tokens that had been scheduled
for it at the cohort's step 0. A cohort has a row of Engine.cohorts, and of what Batches has of decodes that stay from
batch to batch. A request joins when it is to decode for more than one step, and leaves before its last step.

Requests whose blocks others may have as well do not join: they become findable in the engine's order.
"""

from .._jit import inlined
from ..accounts.breakdown import detailed, other_seconds
from ..cost import host_seconds
from ..iterations.batches import count_gaps
from ..iterations.group import LOWEST
from ..iterations.pipeline_decodes import NEVER, add_sums, reset_sums
from ..memory.blocks import blocks_for
from ..state import (
    CLOCK,
    COHORT,
    GROUP,
    IN_FLIGHT,
    NONE,
    NUM_LISTED,
    NUM_RESIDENTS,
    NUM_SAMPLED,
    NUM_SEQS,
    RESTARTS,
    RUNNING,
    SUM_HOST,
    SUM_OTHER,
    SUM_WAIT,
    SUM_WORK,
    Limits,
    State,
)
from ..tables import Cost
from .group import insert_running, is_steady, list_in_batch
from .state import (
    CALLS,
    COHORT_CALL,
    COHORT_FLYING,
    COHORT_KV,
    COHORT_LEAVES,
    COHORT_LONGEST,
    COHORT_NEWEST,
    COHORT_SIZE,
    COHORT_STEP,
    ENDED,
    EVERY_BATCH,
    MEMBER,
    NEW,
    OLDEST,
    OUTSIDE,
    RESTARTS_BEFORE_TOKEN,
    TURNS,
)


@inlined
def next_cohort(state: State, limits: Limits, r: int) -> int:
    """The cohort whose turn it is in the call of the scheduler that has begun."""
    own, rules = state.engine.counts[r], limits.engine
    if rules.asynchronous and rules.shares_turns == TURNS:
        return int(own[CALLS] % limits.num_stages)
    place = int(own[ENDED])
    own[ENDED] = NONE
    if place != NONE:
        return place
    place = 0
    while _flying(state, r, place) > 0:
        place += 1
    return place


@inlined
def _flying(state: State, r: int, place: int) -> int:
    """How many batches of a cohort are in flight while a batch is formed: 0 or 1."""
    oldest = state.engine.counts[r, CALLS] - state.replicas.counts[r, IN_FLIGHT]
    return int(state.engine.cohorts[r, place, COHORT_CALL] >= oldest)


@inlined
def _slot(state: State, limits: Limits, r: int, place: int) -> int:
    """The batch in flight that was formed for a cohort."""
    own = state.engine.counts[r]
    after = state.engine.cohorts[r, place, COHORT_CALL] - (own[CALLS] - state.replicas.counts[r, IN_FLIGHT])
    return int((own[OLDEST] + after) % limits.engine.depth)


@inlined
def sampled_at(state: State, limits: Limits, r: int, place: int) -> float:
    """When the last stage has sampled the tokens that a cohort computes next, s; 0 where none is in flight."""
    if state.engine.cohorts[r, place, COHORT_SIZE] == 0 or _flying(state, r, place) == 0:
        return 0.0
    return float(state.engine.batch_end[r, _slot(state, limits, r, place)])


@inlined
def growth_of(state: State, limits: Limits, r: int, place: int) -> int:
    """KV blocks that a cohort needs for its next step."""
    return int(state.batches.growth[r, place, state.engine.cohorts[r, place, COHORT_STEP] % limits.block_size])


@inlined
def beside(state: State, r: int, place: int) -> tuple[int, int, int]:
    """The members of a cohort, their tokens with those of the next step, and the most tokens of one of them."""
    cohort = state.engine.cohorts[r, place]
    return cohort[COHORT_SIZE], cohort[COHORT_KV], cohort[COHORT_LONGEST] + cohort[COHORT_STEP]


@inlined
def join_turn(state: State, limits: Limits, r: int, place: int) -> None:
    """Let the running requests join a cohort that were in its last batch, and may."""
    rules = limits.engine
    if rules.asynchronous and rules.shares_turns == EVERY_BATCH:
        return
    counts, running, left = state.replicas.counts[r], state.replicas.running[r], 0
    call = state.engine.cohorts[r, place, COHORT_CALL] + 1
    for i in range(counts[RUNNING]):
        request = running[i]
        if is_steady(state, call, request) and not _is_findable(state, limits, request):
            _join(state, limits, r, place, request)
        else:
            running[left] = request
            left += 1
    counts[RUNNING] = left


@inlined
def _is_findable(state: State, limits: Limits, request: int) -> bool:
    """Whether a request is to fill blocks that others may have as well."""
    engine = state.engine
    if not limits.engine.prefix_caching:
        return False
    return bool(engine.hash_start[request + 1] - engine.hash_start[request] > engine.cached_blocks[request])


@inlined
def _join(state: State, limits: Limits, r: int, place: int, request: int) -> None:
    """Add a running request to a cohort, before the cohort's next step is formed."""
    requests, engine, cohort = state.requests, state.engine, state.engine.cohorts[r, place]
    if cohort[COHORT_SIZE] == 0:
        cohort[COHORT_STEP] = cohort[COHORT_KV] = 0
        _unbound(state, r, place)
        reset_sums(state, r, place)
    computed, step = int(requests.processed[request]), int(cohort[COHORT_STEP])
    requests.processed[request] = computed - step
    state.batches.residents[r, place, cohort[COHORT_SIZE]] = request
    state.batches.growth[r, place, (step - computed) % limits.block_size] += 1
    cohort[COHORT_SIZE] += 1
    cohort[COHORT_KV] += computed + 1
    state.replicas.counts[r, GROUP] += 1
    _bound(state, r, place, request)
    if _flying(state, r, place) > 0:
        engine.member[request] = NEW
    else:
        engine.member[request] = MEMBER
        add_sums(state, r, place, request, -1.0)


@inlined
def _unbound(state: State, r: int, place: int) -> None:
    """Set the bounds of a cohort as they are without members."""
    cohort = state.engine.cohorts[r, place]
    cohort[COHORT_LONGEST], cohort[COHORT_NEWEST], cohort[COHORT_LEAVES] = LOWEST, NONE, NEVER


@inlined
def _bound(state: State, r: int, place: int, request: int) -> None:
    """Let the bounds of a cohort hold for a member too."""
    cohort, relative = state.engine.cohorts[r, place], int(state.requests.processed[request])
    cohort[COHORT_LONGEST] = max(cohort[COHORT_LONGEST], relative + 1)
    cohort[COHORT_NEWEST] = max(cohort[COHORT_NEWEST], state.engine.order[request])
    cohort[COHORT_LEAVES] = min(cohort[COHORT_LEAVES], state.requests.total[request] - 2 - relative)


@inlined
def leave_turn(state: State, limits: Limits, r: int, place: int) -> None:
    """Take the members out of a cohort whose last step is the one that is being formed."""
    cohort = state.engine.cohorts[r, place]
    if cohort[COHORT_SIZE] > 0 and cohort[COHORT_STEP] >= cohort[COHORT_LEAVES]:
        _leave(state, limits, r, place, False)


@inlined
def leave_all(state: State, limits: Limits, r: int) -> None:
    """Let all leave their cohorts."""
    for place in range(limits.num_stages):
        _leave(state, limits, r, place, True)


@inlined
def _leave(state: State, limits: Limits, r: int, place: int, everyone: bool) -> None:
    """List the members whose last step is the next one among the running requests, or all with ``everyone``."""
    cohort, residents = state.engine.cohorts[r, place], state.batches.residents[r, place]
    size, left, step = cohort[COHORT_SIZE], 0, cohort[COHORT_STEP]
    _unbound(state, r, place)
    for i in range(size):
        request = residents[i]
        if everyone or state.requests.processed[request] + step + 2 >= state.requests.total[request]:
            _list(state, limits, r, place, request)
        else:
            residents[left] = request
            left += 1
            _bound(state, r, place, request)
    cohort[COHORT_SIZE] = left


@inlined
def _list(state: State, limits: Limits, r: int, place: int, request: int) -> None:
    """Make a member a running request that is listed, as it is before the next step is formed."""
    requests, engine, cohort = state.requests, state.engine, state.engine.cohorts[r, place]
    relative, flying = int(requests.processed[request]), _flying(state, r, place)
    computed = relative + int(cohort[COHORT_STEP])
    is_new = engine.member[request] == NEW
    engine.member[request] = OUTSIDE
    requests.processed[request] = computed
    requests.blocks[request] = blocks_for(computed, limits.block_size)
    state.batches.growth[r, place, -relative % limits.block_size] -= 1
    cohort[COHORT_KV] -= computed + 1
    state.replicas.counts[r, GROUP] -= 1
    engine.last_call[request] = cohort[COHORT_CALL]
    if limits.engine.prefix_caching:
        # When a block was cached, the tokens of batches in flight were not known.
        unknown = limits.engine.asynchronous * min(flying, int(cohort[COHORT_FLYING]))
        full = (computed - unknown) // limits.block_size
        engine.cached_blocks[request] = max(engine.cached_blocks[request], full)
    if not is_new:
        requests.last_token_at[request] = state.batches.last_end[r, place]
        engine.known[request] = computed + 1 - flying
        engine.sampled[request] = flying * limits.engine.asynchronous
        engine.in_batches[request] = flying
        add_sums(state, r, place, request, 1.0)
        if flying > 0:
            list_in_batch(state, r, _slot(state, limits, r, place), request)
    insert_running(state, r, request)


@inlined
def take_turn(state: State, r: int, place: int, slot: int) -> None:
    """Count the batch in a slot, which is about to start, as the next step of a cohort."""
    cohort = state.engine.cohorts[r, place]
    cohort[COHORT_FLYING] = _flying(state, r, place)
    cohort[COHORT_CALL] = state.engine.counts[r, CALLS]
    cohort[COHORT_STEP] += 1
    cohort[COHORT_KV] += cohort[COHORT_SIZE]
    state.batches.features[r, slot, COHORT] = place


@inlined
def end_cohort(state: State, cost: Cost, r: int, slot: int) -> None:
    """Count a batch that has ended for its cohort, and let the sums count for those that have joined since."""
    features, member, now = state.batches.features[r, slot], state.engine.member, state.replicas.times[r, CLOCK]
    place, number = int(features[COHORT]), int(features[NUM_RESIDENTS])
    own, sums = state.engine.counts[r], state.batches.sums[r, place]
    own[ENDED] = place
    if number > 0 or features[NUM_SAMPLED] > 0:
        own[RESTARTS_BEFORE_TOKEN] = state.replicas.counts[r, RESTARTS]
    if number > 0:
        gap = now - float(state.batches.last_end[r, place])
        count_gaps(state, gap, number)
        sums[SUM_WORK] += state.batches.seconds[r, slot]
        if detailed(state.requests):
            on_stage = float(state.batches.on_stage[r, slot])
            # The batch before it may have been in flight at the same time.
            share = min(1.0, gap / on_stage)
            sums[SUM_WAIT] += gap - on_stage * share
            sums[SUM_HOST] += host_seconds(cost, features[NUM_SEQS]) * share
            sums[SUM_OTHER] += other_seconds(cost, features, on_stage) * share
    state.batches.last_end[r, place] = now
    for i in range(features[NUM_LISTED]):
        request = state.batches.request[r, slot, i]
        if member[request] == NEW:
            member[request] = MEMBER
            add_sums(state, r, place, request, -1.0)
