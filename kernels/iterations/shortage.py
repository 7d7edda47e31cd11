"""An iteration of a group for which memory is short: members are preempted one by one, and the others stay a group.

Each decode, oldest first, needs a free block even when its last block has room, as in Vidur. Where none is free, the
last of the running requests is preempted: a prompt that is not complete, else a member, in the end the decode itself.
"""

from .._jit import inlined
from ..accounts.breakdown import detailed, leave_group
from ..exits import Ending, Exit
from ..memory.blocks import blocks_for, preempt
from ..memory.queues import sort_by_arrival
from ..state import (
    CHUNKED,
    CLOCK,
    FORM_DUE,
    FREE,
    FRESH,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    LAST_END,
    LONGEST,
    OUTCOME,
    PEAK,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SKIPPED,
    WAITING,
    WORK,
    WORK_LOW,
    Limits,
    State,
)
from ..tables import Cost
from .group import ID_BITS, LOWEST, compact, growth_due, phase_of
from .group_iterations import launch_prompts
from .heap import remove


@inlined
def is_short(state: State, limits: Limits) -> bool:
    """Whether a member of the group of the replica at cursor may be preempted in the next iteration."""
    r = state.cursor[REPLICA]
    counts = state.replicas.counts[r]
    return bool(counts[GROUP] > 0 and counts[FREE] <= growth_due(state, limits, r))


@inlined
def preempt_members(state: State, cost: Cost, limits: Limits, by_arrival: bool) -> None:
    """Make room for an iteration of the group at cursor.

    ``by_arrival``: the oldest members are those that arrived first, else those that joined first.
    """
    r = state.cursor[REPLICA]
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    preempted, chunked, now = state.replicas.preempted[r], state.replicas.chunked[r], state.replicas.times[r, CLOCK]
    compact(state, r)
    if by_arrival:
        sort_by_arrival(running, counts[RUNNING], requests.arrived_at)
    low, high, taken, longest_left = 0, counts[RUNNING], 0, False
    phase = counts[GROUP_STEP] % limits.block_size
    while low < high:
        candidate = running[low]
        low += 1
        while counts[FREE] < 1 and low <= high:
            if counts[CHUNKED] > counts[SKIPPED]:
                counts[CHUNKED] -= 1
                preempt(requests, counts, preempted, chunked[counts[CHUNKED]], now)
                continue
            high -= 1
            victim = running[high]
            longest_left = longest_left or requests.processed[victim] == counts[LONGEST]
            _leave(state, limits, r, victim)
            preempt(requests, counts, preempted, victim, now)
        if low <= high and phase_of(requests, limits, candidate) == phase:
            counts[FREE] -= 1
            taken += 1
            counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
    counts[RUNNING] = high
    counts[FREE] += taken
    if longest_left and cost.fastsim.skew > 0.0:
        counts[LONGEST] = LOWEST
        for i in range(high):
            counts[LONGEST] = max(counts[LONGEST], requests.processed[running[i]])


@inlined
def launch_short(state: State, cost: Cost, limits: Limits, size: int) -> int:
    """Start the ``size`` prompts that the batch lists together with the group, for whose iteration there is room.

    A batch that is empty is formed again if its formation preempted a request and so freed memory.
    """
    counts = state.replicas.counts[state.cursor[REPLICA]]
    restarted = counts[RESTARTS] > counts[RESTARTS_BEFORE]
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    if size + counts[GROUP] > 0:
        return launch_prompts(state, cost, limits, size, counts[GROUP])
    if restarted:
        counts[FORM_DUE] = 1
    elif counts[WAITING] + counts[CHUNKED] > 0 and counts[OUTCOME] == Ending.GOING:
        counts[OUTCOME] = Ending.STUCK
    return Exit.FORM


@inlined
def _leave(state: State, limits: Limits, r: int, request: int) -> None:
    """Take a member out of the group, with the tokens, blocks and times that it has so far."""
    requests, counts, times = state.requests, state.replicas.counts[r], state.replicas.times[r]
    heap, fresh = state.replicas.heap[r], state.replicas.fresh[r]
    key = (int(requests.total[request] - requests.processed[request]) << ID_BITS) | int(request)
    place = 0
    while heap[place] != key:
        place += 1
    remove(heap, counts[GROUP], place)
    state.replicas.growth[r, phase_of(requests, limits, request)] -= 1
    processed = requests.processed[request] + counts[GROUP_STEP]
    requests.processed[request] = processed
    # What it needed when its last iteration was formed; without one, no more than its prompt needs.
    requests.blocks[request] = max(requests.blocks[request], blocks_for(processed - 1, limits.block_size))
    requests.execution_time[request] += times[WORK] + times[WORK_LOW]
    requests.last_token_at[request] = max(requests.last_token_at[request], times[LAST_END])
    if detailed(requests):
        leave_group(state, r, request, requests.last_token_at[request])
    counts[GROUP] -= 1
    counts[GROUP_KV] -= processed
    left = 0
    for i in range(counts[FRESH]):
        if fresh[i] != request:
            fresh[left] = fresh[i]
            left += 1
    counts[FRESH] = left
