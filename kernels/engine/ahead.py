"""Iterations of the vllm_v1 policy's group alone: many at once, up to the next decision."""

import math

from .._jit import inlined
from ..accounts.counts import count_held
from ..cost import Cost
from ..exits import Exit
from ..iterations.fast_forward import fast_forward
from ..iterations.group import ID_BITS
from ..memory.followers import depends, just_before
from ..state import (
    CLOCK,
    COMING,
    DIRECT,
    FORM_DUE,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    HORIZON,
    IN_FLIGHT,
    LOGGED,
    NONE,
    NUM_LISTED,
    NUM_RESIDENTS,
    RESTARTS,
    SLOT,
    WAITING,
    Limits,
    State,
)
from .ending import end_group
from .group_blocks import take_blocks_in_order
from .state import CALLS, IDLE_CALL, OLDEST, RESTARTS_BEFORE_TOKEN, UNANNOUNCED


@inlined
def next_to_matter(state: State, limits: Limits, r: int) -> float:
    """When the next request arrives, s, that may be admitted at once; infinite while another waits before it.

    Where requests follow others and are routed, one may arrive on any replica from just before the horizon.
    """
    counts = state.replicas.counts[r]
    if counts[WAITING] > 0 and not limits.engine.by_priority:
        return math.inf
    time = math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])
    if depends(state.requests) and not state.cursor[DIRECT]:
        time = min(time, just_before(state.moments[HORIZON]))
    return time


@inlined
def steps_with_room(state: State, limits: Limits, r: int) -> int:
    """For how many steps the free blocks suffice, up to the last step of the member that finishes first."""
    counts, growth, size = state.replicas.counts[r], state.replicas.growth[r], limits.block_size
    step, free = int(counts[GROUP_STEP]), int(counts[FREE])
    last = int(state.replicas.heap[r, 0] >> ID_BITS) + 1
    if counts[GROUP] * ((last - step) // size + 1) < free:
        return last - step
    first = step
    while step < last and growth[step % size] < free:
        free -= int(growth[step % size])
        step += 1
    return step - first


@inlined
def catch_up(state: State, r: int) -> None:
    """Let the requests that left the group late have the token of the batch that had ended."""
    slot = state.cursor[SLOT]
    for i in range(state.batches.features[r, slot, NUM_LISTED]):
        request = state.batches.request[r, slot, i]
        state.engine.known[request] += 1
        state.engine.sampled[request] -= 1


@inlined
def run_alone(state: State, cost: Cost, limits: Limits, r: int) -> int:
    """Run the group alone until something has to be decided, or an iteration reaches beyond the horizon.

    Returns FORM when the next pass of the engine loop is to follow, ENDED when the next batch is to be formed before
    more requests are taken in, and FAULT when the tables have no time for an iteration. With asynchronous scheduling
    the batch in flight, which is the group alone too, comes first.
    """
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    flying, first = counts[IN_FLIGHT], counts[GROUP_STEP]
    arrival = next_to_matter(state, limits, r)
    if flying > 0:
        slot = own[OLDEST]
        count_held(state, limits, r, state.engine.batch_end[r, slot])
        times[CLOCK] = state.engine.batch_end[r, slot]
        counts[IN_FLIGHT] = 0
        end_group(state, cost, r, slot)
    own[OLDEST] = state.cursor[SLOT] = own[UNANNOUNCED] = own[IDLE_CALL] = counts[FORM_DUE] = 0
    own[RESTARTS_BEFORE_TOKEN] = counts[RESTARTS]
    # The step that is formed after these must find room as well.
    most = steps_with_room(state, limits, r) - 1
    if state.log.start.size > 0:
        most = min(most, state.log.start.size - state.cursor[LOGGED] - 1)
    code = fast_forward(state, cost, limits, r, arrival, most, True)
    own[CALLS] += counts[GROUP_STEP] - first
    if code == Exit.FAULT:
        return Exit.FAULT
    last = counts[GROUP_STEP]
    if code == Exit.FORM:
        _stay_in_flight(state, r)
        last += 1
    else:
        state.replicas.stage_end[r, 0] = times[CLOCK]
    if limits.engine.prefix_caching:
        take_blocks_in_order(state, limits, r, first, last, flying, 0)
    if flying > 0:
        counts[FORM_DUE] = code == Exit.FORM
        return code
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
