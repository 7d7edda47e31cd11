"""The decodes of a replica with one stage, as a group: each iteration of the group gives each member one token.

So the progress of a member is implicit: ``processed`` holds the tokens that it had processed at the group's step 0, and
``processed + step`` is what it has processed now. A heap orders the members by the step in which they finish. How many
members need a block in a step is counted by step modulo the block size, and the KV length of all members is one number.
An iteration costs the same whatever the size of the group.

Where memory is so short that a member may be preempted, an iteration looks at each of them (shortage.py). A group can
also be gathered from the running requests and scattered into them. Both ways of running give the same times.
"""

from .._jit import inlined, merged
from ..accounts.breakdown import detailed, enter_group, leave_group
from ..memory.blocks import blocks_for, release
from ..memory.followers import finish
from ..state import (
    CHUNKED,
    CLOCK,
    FRESH,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    GROUPED,
    LAST_END,
    LONGEST,
    REPLICA,
    RUNNING,
    SKIPPED,
    WORK,
    WORK_LOW,
    Limits,
    Requests,
    State,
)
from ..tables import Cost
from .heap import pop, push

ID_BITS = 32  # a key of the heap is the step in which a request finishes, then the request
ID_MASK = (1 << ID_BITS) - 1
LOWEST = -(1 << 40)


@merged
def grouped(state: State, limits: Limits) -> bool:
    """Whether the next iteration of the replica at cursor is formed from its group, which it has from the start."""
    if limits.num_stages > 1:
        return False
    if not state.replicas.counts[state.cursor[REPLICA], GROUPED]:
        gather(state, limits, state.cursor[REPLICA])
    return True


@inlined
def growth_due(state: State, limits: Limits, r: int) -> int:
    """KV blocks that the members need in this step."""
    return int(state.replicas.growth[r, state.replicas.counts[r, GROUP_STEP] % limits.block_size])


@inlined
def join(state: State, limits: Limits, r: int, request: int) -> None:
    """Add a request whose prefill is complete to the group; its last token came at ``last_token_at``."""
    requests, counts, times = state.requests, state.replicas.counts[r], state.replicas.times[r]
    counts[GROUP_KV] += requests.processed[request]
    if detailed(requests):
        enter_group(state, r, request)
    requests.processed[request] -= counts[GROUP_STEP]
    requests.execution_time[request] -= times[WORK] + times[WORK_LOW]
    due = int(requests.total[request]) - int(requests.processed[request])
    push(state.replicas.heap[r], counts[GROUP], (due << ID_BITS) | int(request))
    state.replicas.growth[r, phase_of(requests, limits, request)] += 1
    state.replicas.fresh[r, counts[FRESH]] = request
    counts[FRESH] += 1
    counts[GROUP] += 1
    counts[LONGEST] = max(counts[LONGEST], requests.processed[request])
    append_running(state, r, request)


@inlined
def append_running(state: State, r: int, request: int) -> None:
    """Add a request to the end of the running ones; where the array is full, the finished ones are removed first."""
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    if counts[RUNNING] == running.size:
        compact(state, r)
    running[counts[RUNNING]] = request
    counts[RUNNING] += 1


@inlined
def finish_due(state: State, cost: Cost, limits: Limits, r: int, grows: bool, static: bool) -> None:
    """Finish the members whose last step has ended at the clock; those of a ``static`` batch keep their memory."""
    requests, counts, times = state.requests, state.replicas.counts[r], state.replicas.times[r]
    heap = state.replicas.heap[r]
    longest_left = False
    while counts[GROUP] > 0 and heap[0] >> ID_BITS == counts[GROUP_STEP]:
        request = heap[0] & ID_MASK
        pop(heap, counts[GROUP])
        total = requests.total[request]
        state.replicas.growth[r, phase_of(requests, limits, request)] -= 1
        longest_left = longest_left or requests.processed[request] == counts[LONGEST]
        counts[GROUP] -= 1
        counts[GROUP_KV] -= total
        requests.processed[request] = total
        finish(state, r, request, times[CLOCK])
        if detailed(requests):
            leave_group(state, r, request, times[CLOCK])
        requests.execution_time[request] += times[WORK] + times[WORK_LOW]
        if not static:
            if grows:
                held = blocks_for(total - 1, limits.block_size)
                requests.blocks[request] = max(requests.blocks[request], held)
            release(requests.blocks, counts, request)
    if longest_left and cost.fastsim.skew > 0.0:
        counts[LONGEST] = LOWEST
        for i in range(counts[RUNNING]):
            request = state.replicas.running[r, i]
            if not requests.finished_at[request] >= 0.0:
                counts[LONGEST] = max(counts[LONGEST], requests.processed[request])


@inlined
def add_work(state: State, r: int, seconds: float) -> None:
    """Add an iteration of the group, s, to its time; two words hold the sum, so that a long run loses no digits."""
    times = state.replicas.times[r]
    total = times[WORK] + seconds
    times[WORK_LOW] += (times[WORK] - total) + seconds
    times[WORK] = total


@inlined
def free_static_batch(state: State, r: int) -> None:
    """Free the memory of a static batch, whose members have all finished."""
    counts = state.replicas.counts[r]
    for i in range(counts[RUNNING]):
        release(state.requests.blocks, counts, state.replicas.running[r, i])
    counts[RUNNING] = 0


@inlined
def phase_of(requests: Requests, limits: Limits, request: int) -> int:
    """The steps in which a member needs a block, modulo the block size."""
    held = requests.blocks[request] * limits.block_size
    return int((held - requests.processed[request] + 1) % limits.block_size)


@inlined
def compact(state: State, r: int) -> None:
    """Remove the finished requests from the running ones."""
    counts, running, finished_at = state.replicas.counts[r], state.replicas.running[r], state.requests.finished_at
    left = 0
    for i in range(counts[RUNNING]):
        if not finished_at[running[i]] >= 0.0:
            running[left] = running[i]
            left += 1
    counts[RUNNING] = left


@inlined
def gather(state: State, limits: Limits, r: int) -> None:
    """Make a group of the running decodes; prompts that are not complete keep their order in ``chunked``."""
    requests, counts = state.requests, state.replicas.counts[r]
    running, chunked = state.replicas.running[r], state.replicas.chunked[r]
    number = counts[RUNNING]
    counts[GROUPED] = 1
    counts[RUNNING] = counts[CHUNKED] = counts[SKIPPED] = 0
    counts[LONGEST] = LOWEST
    for i in range(number):
        request = running[i]
        if requests.processed[request] > requests.prefill[request]:
            join(state, limits, r, request)
            continue
        chunked[counts[CHUNKED]] = request
        counts[CHUNKED] += 1
        if counts[GROUP] == 0:
            counts[SKIPPED] += 1


@inlined
def scatter(state: State, limits: Limits, r: int) -> None:
    """Make running requests of the group, in the order that they would have without it."""
    requests, counts, times = state.requests, state.replicas.counts[r], state.replicas.times[r]
    running, chunked = state.replicas.running[r], state.replicas.chunked[r]
    compact(state, r)
    number, skipped = counts[RUNNING], counts[SKIPPED]
    for i in range(number - 1, -1, -1):
        request = running[i]
        processed = requests.processed[request] + counts[GROUP_STEP]
        state.replicas.growth[r, phase_of(requests, limits, request)] -= 1
        requests.processed[request] = processed
        # What it needed when its last iteration was formed; without one, no more than its prompt needs.
        held = blocks_for(processed - 1, limits.block_size)
        requests.blocks[request] = max(requests.blocks[request], held)
        requests.execution_time[request] += times[WORK] + times[WORK_LOW]
        requests.last_token_at[request] = max(requests.last_token_at[request], times[LAST_END])
        if detailed(requests):
            leave_group(state, r, request, requests.last_token_at[request])
        running[skipped + i] = request
    for i in range(skipped):
        running[i] = chunked[i]
    for i in range(skipped, counts[CHUNKED]):
        running[number + i] = chunked[i]
    counts[RUNNING] = number + counts[CHUNKED]
    counts[GROUPED] = counts[GROUP] = counts[GROUP_KV] = counts[FRESH] = 0
    counts[CHUNKED] = counts[SKIPPED] = 0
