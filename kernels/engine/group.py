"""The steady decodes of the vllm_v1 policy as a group: each call of the scheduler gives each member one token.

So the progress of a member is implicit, as in group.py: ``processed`` holds the tokens that had been scheduled for it
at the group's step 0. A heap orders the members by the step after that which yields their last token. A request joins
when it is to decode for more than one step. It leaves before its last step, unless the group runs alone beyond that
(ahead.py); what runs besides the group is listed request by request. Members stand in the order in which they were
admitted. When blocks or the budget are so short that the order decides who gets them, all members leave.

With asynchronous scheduling the batch before is in flight when a batch is formed. Who leaves the group is listed in it.
"""

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.parts import DECODE_HOST, DECODE_WAIT, OTHER_WORK
from ..iterations.group import ID_BITS, ID_MASK, LOWEST, growth_due
from ..iterations.heap import pop, push
from ..memory.blocks import blocks_for
from ..memory.followers import finish
from ..memory.paged import give_up_blocks
from ..state import (
    CHUNKED,
    CLOCK,
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    GROUPED,
    HOST,
    IDLE,
    IN_FLIGHT,
    LAST_END,
    LONGEST,
    NONE,
    NUM_LISTED,
    NUM_RESIDENTS,
    OTHER,
    PEAK,
    RUNNING,
    WORK,
    WORK_LOW,
    Limits,
    State,
)
from .group_blocks import link, unlink
from .state import CALLS, DECODE, LATEST_FINISH, MEMBER, NEW, NEWEST, OLDEST, OUTSIDE, UNANNOUNCED, UNFORESEEN


@inlined
def add_sums(state: State, r: int, request: int, sign: float) -> None:
    """Add the sums of the group to those of a request that leaves it, or subtract them as it joins (``sign`` -1)."""
    requests, times = state.requests, state.replicas.times[r]
    requests.execution_time[request] += sign * (times[WORK] + times[WORK_LOW])
    if detailed(requests):
        requests.parts[request, DECODE_WAIT] += sign * times[IDLE]
        requests.parts[request, DECODE_HOST] += sign * times[HOST]
        requests.parts[request, OTHER_WORK] += sign * times[OTHER]


@inlined
def is_steady(state: State, call: int, request: int) -> bool:
    """Whether a running request got a token in the last call, and is to decode for at least two more steps.

    ``call``: the number of the call that forms the next step, counted from 1.
    """
    requests, engine = state.requests, state.engine
    decodes = requests.processed[request] >= requests.prefill[request]
    newest = engine.last_call[request] == call - 1
    return bool(decodes and newest and requests.total[request] - requests.processed[request] > 2)


@inlined
def join(state: State, limits: Limits, r: int, request: int) -> None:
    """Add a running request to the group, before its next step is formed."""
    requests, engine, counts, own = state.requests, state.engine, state.replicas.counts[r], state.engine.counts[r]
    step, computed = counts[GROUP_STEP], int(requests.processed[request])
    finish_step = step + requests.total[request] - 1 - computed
    push(state.replicas.heap[r], counts[GROUP], (finish_step << ID_BITS) | request)
    own[LATEST_FINISH] = max(own[LATEST_FINISH], finish_step)
    own[UNFORESEEN] += engine.limit[request] > requests.total[request]
    counts[GROUP] += 1
    counts[GROUP_KV] += computed + 1
    requests.processed[request] = computed - step
    counts[LONGEST] = max(counts[LONGEST], computed - step + 1)
    own[NEWEST] = max(own[NEWEST], engine.order[request])
    phase = (step - computed) % limits.block_size
    state.replicas.growth[r, phase] += 1
    if limits.engine.prefix_caching:
        link(state, r, phase, request)
    state.replicas.chunked[r, counts[CHUNKED]] = request
    counts[CHUNKED] += 1
    if counts[IN_FLIGHT] > 0:
        engine.member[request] = NEW
    else:
        engine.member[request] = MEMBER
        add_sums(state, r, request, -1.0)


@inlined
def _take_first(state: State, limits: Limits, r: int) -> int:
    """Take the member that finishes first out of the group; returns it."""
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    heap = state.replicas.heap[r]
    request = int(heap[0] & ID_MASK)
    pop(heap, counts[GROUP])
    relative = int(requests.processed[request])
    computed = relative + counts[GROUP_STEP]
    requests.processed[request] = computed
    requests.blocks[request] = blocks_for(computed, limits.block_size)
    phase = -relative % limits.block_size
    state.replicas.growth[r, phase] -= 1
    if limits.engine.prefix_caching:
        unlink(state, limits, r, phase, request, computed)
    counts[GROUP] -= 1
    counts[GROUP_KV] -= computed + 1
    engine.counts[r, UNFORESEEN] -= engine.limit[request] > requests.total[request]
    return request


@inlined
def _leave(state: State, limits: Limits, r: int, request: int, late: int) -> None:
    """Make a request that was a member a running one that is listed, as it is before the next step is formed.

    ``late``: 1 where the batch in flight has ended already, though the step is formed as if it had not.
    """
    requests, engine, counts = state.requests, state.engine, state.replicas.counts[r]
    computed, flying = int(requests.processed[request]), counts[IN_FLIGHT] + late
    is_new = engine.member[request] == NEW
    engine.member[request] = OUTSIDE
    engine.last_call[request] = engine.counts[r, CALLS] - 1
    if not is_new:
        requests.last_token_at[request] = state.replicas.times[r, LAST_END]
        engine.known[request] = computed + 1 - flying
        engine.sampled[request] = flying * limits.engine.asynchronous
        engine.in_batches[request] = counts[IN_FLIGHT]
        add_sums(state, r, request, 1.0)
        if counts[IN_FLIGHT] > 0:
            list_in_batch(state, r, int(engine.counts[r, OLDEST]), request)
    insert_running(state, r, request)


@inlined
def finish_members(state: State, skew: float, limits: Limits, r: int, flying: int) -> None:
    """Finish the members that got their last token in the step that has just ended, in which the group ran alone.

    ``flying``: 1 where the next step was formed before, so that its blocks are taken before theirs are free.
    """
    requests, engine, counts, now = (
        state.requests,
        state.engine,
        state.replicas.counts[r],
        state.replicas.times[r, CLOCK],
    )
    longest_left = False
    while counts[GROUP] > 0 and state.replicas.heap[r, 0] >> ID_BITS == counts[GROUP_STEP]:
        request = _take_first(state, limits, r)
        computed = requests.processed[request]
        longest_left = longest_left or computed - counts[GROUP_STEP] + 1 == counts[LONGEST]
        engine.member[request] = OUTSIDE
        engine.cached_blocks[request] = computed // limits.block_size
        engine.known[request] = computed + 1
        requests.last_token_at[request] = now
        add_sums(state, r, request, 1.0)
        if flying > 0:
            used = limits.num_blocks - counts[FREE] + growth_due(state, limits, r)
            counts[PEAK] = max(counts[PEAK], used)
        give_up_blocks(state, limits, r, request, False)
        engine.counts[r, UNANNOUNCED] = 1
        finish(state, r, request, now)
    if longest_left and skew > 0.0:
        _find_longest(state, r)


@inlined
def list_in_batch(state: State, r: int, slot: int, request: int) -> None:
    """List a request that leaves the group in a batch in flight, of which it is a decode."""
    features = state.batches.features[r, slot]
    size = features[NUM_LISTED]
    state.batches.request[r, slot, size] = request
    state.batches.tokens[r, slot, size] = 1
    state.engine.samples[r, slot, size] = DECODE
    features[NUM_LISTED] += 1
    features[NUM_RESIDENTS] -= 1


@inlined
def insert_running(state: State, r: int, request: int) -> None:
    """Put a request among the running ones that are listed, in order of admission."""
    counts, running, order = state.replicas.counts[r], state.replicas.running[r], state.engine.order
    place = counts[RUNNING]
    while place > 0 and order[running[place - 1]] > order[request]:
        running[place] = running[place - 1]
        place -= 1
    running[place] = request
    counts[RUNNING] += 1


@inlined
def leave(state: State, skew: float, limits: Limits, r: int, everyone: bool, late: int) -> None:
    """Let those leave the group for whom the next step is the last, or ``everyone``.

    ``skew``: of FastsimTables. ``late``: as for _leave.
    """
    counts, heap, longest_left = state.replicas.counts[r], state.replicas.heap[r], False
    while counts[GROUP] > 0 and (everyone or heap[0] >> ID_BITS == counts[GROUP_STEP] + 1):
        request = _take_first(state, limits, r)
        relative = state.requests.processed[request] - counts[GROUP_STEP]
        longest_left = longest_left or relative + 1 == counts[LONGEST]
        _leave(state, limits, r, request, late)
    if everyone:
        counts[GROUPED] = counts[GROUP_KV] = counts[CHUNKED] = 0
    elif longest_left and skew > 0.0:
        _find_longest(state, r)


@inlined
def list_finishing(state: State, skew: float, limits: Limits, r: int) -> None:
    """Let those leave the group, and be listed, that get their last token from the batch in flight."""
    counts, left = state.replicas.counts[r], False
    while counts[GROUP] > 0 and state.replicas.heap[r, 0] >> ID_BITS == counts[GROUP_STEP]:
        _leave(state, limits, r, _take_first(state, limits, r), 0)
        left = True
    if left and skew > 0.0:
        _find_longest(state, r)


@inlined
def _find_longest(state: State, r: int) -> None:
    """Find the longest member, after the one that was has left."""
    counts = state.replicas.counts[r]
    counts[LONGEST] = LOWEST
    _close_up(state, r)
    for i in range(counts[CHUNKED]):
        counts[LONGEST] = max(counts[LONGEST], state.requests.processed[state.replicas.chunked[r, i]] + 1)


@inlined
def _close_up(state: State, r: int) -> None:
    """Remove those that have left from the list of members."""
    counts, members, left = state.replicas.counts[r], state.replicas.chunked[r], 0
    for i in range(counts[CHUNKED]):
        if state.engine.member[members[i]] != OUTSIDE:
            members[left] = members[i]
            left += 1
    counts[CHUNKED] = left


@inlined
def join_steady(state: State, limits: Limits, r: int, call: int) -> None:
    """Let all running requests join that may; ``call``: as for is_steady."""
    counts, running, left = state.replicas.counts[r], state.replicas.running[r], 0
    if not counts[GROUPED]:
        counts[GROUPED] = 1
        counts[LONGEST] = LOWEST
        state.engine.counts[r, NEWEST] = state.engine.counts[r, LATEST_FINISH] = NONE
    for i in range(counts[RUNNING]):
        request = running[i]
        if is_steady(state, call, request):
            if counts[CHUNKED] == state.replicas.chunked.shape[1]:
                _close_up(state, r)
            join(state, limits, r, request)
        else:
            running[left] = request
            left += 1
    counts[RUNNING] = left
