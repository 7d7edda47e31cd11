"""Iterations of the vllm_v1 policy's group alone: many at once, up to the next decision."""

import math

from .._jit import inlined
from ..exits import Exit
from ..iterations.fast_forward import fast_forward
from ..iterations.group import ID_BITS, growth_due
from ..memory.followers import depends, may_arrive_at
from ..memory.paged import take_free
from ..state import (
    CLOCK,
    FORM_DUE,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    LEFT,
    LOGGED,
    NUM_LISTED,
    NUM_RESIDENTS,
    PEAK,
    RESTARTS,
    RUNNING,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .chunks import tokens_due
from .group import finish_members, list_finishing
from .group_blocks import cache_in_order
from .state import (
    AHEAD,
    CALLS,
    IDLE_CALL,
    LATEST_FINISH,
    LINKED,
    OLDEST,
    RESTARTS_BEFORE_TOKEN,
    UNANNOUNCED,
    UNFORESEEN,
)


@inlined
def next_to_matter(state: State, limits: Limits, r: int) -> float:
    """When the next request arrives, s, that may be admitted at once; infinite while another waits before it."""
    if state.replicas.counts[r, WAITING] > 0 and not limits.engine.by_priority:
        return math.inf
    return may_arrive_at(state, r)


@inlined
def _finishes_ahead(state: State, limits: Limits, r: int) -> bool:
    """Whether the members that finish first may do so while the group runs alone.

    With asynchronous scheduling the batch after that is formed before they finish, and must have tokens.
    """
    counts, own, rules = state.replicas.counts[r], state.engine.counts[r], limits.engine
    if counts[WAITING] > 0 or depends(state.requests) or (rules.prefix_caching and own[LINKED] > 0):
        return False
    if not rules.asynchronous:
        return True
    if rules.extra_slot or own[UNFORESEEN] > 0 or (rules.prefix_caching and rules.unhashed_first):
        return False
    return bool(own[LATEST_FINISH] > state.replicas.heap[r, 0] >> ID_BITS)


@inlined
def steps_ahead(state: State, limits: Limits, r: int) -> int:
    """How many steps the group may run alone from here, as far as blocks and the member that finishes first allow.

    The step that is formed after these finds room as well.
    """
    counts, growth, size = state.replicas.counts[r], state.replicas.growth[r], limits.block_size
    step, free = int(counts[GROUP_STEP]), int(counts[FREE])
    last = int(state.replicas.heap[r, 0] >> ID_BITS) - (0 if _finishes_ahead(state, limits, r) else 1)
    if counts[GROUP] * ((last - step) // size + 1) < free:
        return last - step
    first = step
    while step <= last and growth[step % size] < free:
        free -= int(growth[step % size])
        step += 1
    return step - first - 1


@inlined
def catch_up(state: State, r: int) -> None:
    """Let the requests that left the group late have the token of the batch that had ended."""
    slot = state.cursor[SLOT]
    for i in range(state.batches.features[r, slot, NUM_LISTED]):
        request = state.batches.request[r, slot, i]
        state.engine.known[request] += 1
        state.engine.sampled[request] -= 1


@inlined
def all_finish(state: State, limits: Limits, r: int) -> bool:
    """Whether all running requests but the group finish with the batch in flight, as it knows, and no request follows.

    Then the next batch has no tokens of them.
    """
    counts, engine, total = state.replicas.counts[r], state.engine, state.requests.total
    if counts[RUNNING] > 0 and depends(state.requests):
        return False
    for i in range(counts[RUNNING]):
        request = int(state.replicas.running[r, i])
        finishes = engine.sampled[request] == 1 and engine.known[request] + 1 == total[request]
        if not finishes or tokens_due(state, limits, r, request) > 0:
            return False
    return True


@inlined
def wait_for_oldest(state: State, limits: Limits, r: int) -> None:
    """Take the blocks of the group's next step, which is formed, and runs alone as soon as the batch in flight ends."""
    counts = state.replicas.counts[r]
    take_free(state, limits, r, growth_due(state, limits, r))
    counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    state.engine.counts[r, AHEAD] = 1


@inlined
def run_alone(state: State, cost: Cost, limits: Limits, r: int, flying: int) -> int:
    """Run the group alone until something has to be decided, or an iteration reaches beyond the horizon.

    Returns FORM when the next pass of the engine loop is to follow, ENDED when the next batch is to be formed before
    more requests are taken in, and FAULT when the tables have no time for an iteration. ``flying``: 1 with asynchronous
    scheduling, when the first step was formed before the last batch ended (wait_for_oldest).
    """
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    arrival, logging = next_to_matter(state, limits, r), state.log.start.size > 0
    own[OLDEST] = state.cursor[SLOT] = own[IDLE_CALL] = counts[FORM_DUE] = 0
    own[RESTARTS_BEFORE_TOKEN] = counts[RESTARTS]
    taken = growth_due(state, limits, r) if flying > 0 else 0
    counts[FREE] += taken
    steps, horizon, pauses = steps_ahead(state, limits, r), state.moments[HORIZON], False
    while True:
        own[UNANNOUNCED] = 0
        if flying > 0 and times[CLOCK] >= arrival:
            # The next batch was formed before: it is launched, and what has arrived is seen when it is in flight.
            state.moments[HORIZON] = -math.inf
        free, first, taken = counts[FREE] - taken, counts[GROUP_STEP], 0
        most = min(steps, state.log.start.size - state.cursor[LOGGED] - 1) if logging else steps
        code = fast_forward(state, cost, limits, r, arrival, most, True)
        state.moments[HORIZON] = horizon
        own[CALLS] += counts[GROUP_STEP] - first
        if code == Exit.FAULT:
            return Exit.FAULT
        last = counts[GROUP_STEP]
        if code == Exit.FORM:
            _stay_in_flight(state, r)
            last += 1
        if limits.engine.prefix_caching:
            number = free - counts[FREE]
            counts[FREE] = free
            take_free(state, limits, r, number)
            cache_in_order(state, limits, r, first, last, flying, 0)
        if code == Exit.FORM:
            list_finishing(state, cost.fastsim.skew, limits, r)
            break
        finish_members(state, cost.fastsim.skew, limits, r, flying)
        steps = steps_ahead(state, limits, r) if counts[GROUP] > 0 else 0
        if steps < 1 or (flying == 0 and times[CLOCK] >= arrival):
            break
        pauses = state.cursor[LEFT] <= 0 or (logging and state.cursor[LOGGED] + 2 > state.log.start.size)
        if pauses:
            break
    if code == Exit.ENDED:
        state.replicas.stage_end[r, 0] = times[CLOCK]
    if flying > 0:
        if pauses:
            wait_for_oldest(state, limits, r)
        counts[FORM_DUE] = code == Exit.FORM or pauses
        return Exit.FORM if pauses else code
    counts[FORM_DUE] = code == Exit.ENDED
    return Exit.FORM


@inlined
def _stay_in_flight(state: State, r: int) -> None:
    """Keep the iteration that fast_forward has left in flight as a batch of the engine loop."""
    replicas, batches, engine, counts = state.replicas, state.batches, state.engine, state.replicas.counts[r]
    start, end = replicas.times[r, CLOCK], replicas.stage_end[r, 0]
    engine.batch_start[r, 0], engine.batch_end[r, 0] = start, end
    engine.counted[r] = end  # fast_forward has counted what the replica holds until then
    batches.seconds[r, 0], batches.on_stage[r, 0] = replicas.stage_seconds[r, 0], end - start
    batches.features[r, 0, NUM_LISTED], batches.features[r, 0, NUM_RESIDENTS] = 0, counts[GROUP]
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += counts[GROUP]
    engine.counts[r, CALLS] += 1
