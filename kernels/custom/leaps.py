"""Leaps for a user's scheduling function whose choice stays the same as long as the same requests decode.

The shell has found that the function looks at nothing that changes from one iteration of these decodes to the next. So
while it gives a token to every running request and admits none, it need not be asked again before a request arrives or
finishes. The decodes are a group (iterations/group.py), which whole prompts may join. For any other choice the group is
scattered, and the batch is formed request by request.
"""

from .._jit import inlined
from ..accounts.log import full
from ..exits import Exit
from ..iterations.fast_forward import fast_forward
from ..iterations.group import finish_due, gather, growth_due, scatter
from ..iterations.group_iterations import NO_LIMIT, launch_prompts, retire_group
from ..memory.blocks import allocate, blocks_for
from ..memory.followers import may_arrive_at
from ..memory.queues import arrive
from ..replicas.route import quiet_until_of_any
from ..replicas.routers import LEAST_WAITING
from ..state import (
    ALLOCATED,
    CLOCK,
    FORM_DUE,
    FREE,
    GROUP,
    GROUP_STEP,
    GROUPED,
    IN_FLIGHT,
    LEFT,
    NUM_PREFILLS,
    REPLICA,
    RESTARTS,
    RESTARTS_BEFORE,
    RUNNING,
    SLOT,
    Limits,
    State,
)
from ..tables import Cost
from .queue import leave_queue
from .scheduler import end_chosen, start_chosen
from .view import ELSEWHERE, FINE, RUNS, TAKEN, TWICE, WAITS, SchedulerState, refuse


@inlined
def quiet_until_choice(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s: the function may preempt whenever it is asked."""
    if limits.num_stages == 1 and limits.router == LEAST_WAITING and state.replicas.counts[r, IN_FLIGHT] > 0:
        return float(state.replicas.stage_end[r, 0])
    return quiet_until_of_any(state, cost, limits, r, grows, refusal_lasts)


@inlined
def start_leaping(
    state: State, cost: Cost, limits: Limits, policy: SchedulerState, chosen: int, same: bool, free_blocks: bool
) -> int:
    """Start the batch of the ``chosen`` requests that the policy put into scratch, and leap if it is the group alone.

    ``same``: if the policy were asked again, it would see the same queue, which no request has joined since.
    ``free_blocks``: it looks at how many blocks are free. FAULT when the batch cannot be formed.
    """
    r = state.cursor[REPLICA]
    counts = state.replicas.counts[r]
    beside = _decodes(state, limits, policy, chosen)
    if beside < 0:
        if counts[GROUPED]:
            scatter(state, limits, r)
        return start_chosen(state, cost, limits, policy, chosen)
    counts[RESTARTS_BEFORE] = counts[RESTARTS]
    growth = growth_due(state, limits, r) if beside > 0 else 0
    counts[FREE] -= growth
    size = _admit(state, limits, policy, beside, chosen)
    leave_queue(state, policy, r, size)
    if policy.trouble[0] != FINE:
        return Exit.FAULT
    if size > 0:
        return launch_prompts(state, cost, limits, size, beside)
    counts[FREE] += growth
    if beside == 0:
        return Exit.FORM
    most = NO_LIMIT if same else 1
    if same and free_blocks:
        step = counts[GROUP_STEP]
        most = 1
        while most <= limits.block_size and state.replicas.growth[r, (step + most - 1) % limits.block_size] == 0:
            most += 1
    return _run_alone(state, cost, limits, most)


@inlined
def end_leaping(state: State, cost: Cost, limits: Limits, policy: SchedulerState) -> None:
    """End the batch at cursor."""
    r = state.cursor[REPLICA]
    if not state.replicas.counts[r, GROUPED]:
        end_chosen(state, cost, policy)
        return
    request, number = state.batches.request[r, 0], state.batches.features[r, 0, NUM_PREFILLS]
    retire_group(state, cost, limits, True, False)
    for i in range(number):
        policy.status[request[i]] = ELSEWHERE if state.requests.finished_at[request[i]] >= 0.0 else RUNS


@inlined
def _decodes(state: State, limits: Limits, policy: SchedulerState, chosen: int) -> int:
    """How many decodes of the group a choice holds: all or none of them, and whole prompts besides.

    They are gathered if need be. -1 for any other choice, and where a decode might be preempted.
    """
    r = state.cursor[REPLICA]
    requests, counts, running = state.requests, state.replicas.counts[r], state.replicas.running[r]
    number = counts[RUNNING]
    if limits.num_stages > 1 or chosen < 0 or chosen > state.scratch.shape[1] or (chosen == 0 and number > 0):
        return -1
    beside = 0
    if number > 0 and number <= chosen and state.scratch[0, 0] == running[0]:
        alike = 0
        for i in range(number):
            alike += state.scratch[0, i] == running[i] and state.scratch[1, i] == 1
        if alike < number or number > limits.micro_batch_size or number > limits.max_num_batched_tokens:
            return -1
        beside = number
    for i in range(beside, chosen):
        candidate = state.scratch[0, i]
        if (
            candidate < 0
            or candidate >= policy.status.size
            or requests.replica[candidate] != r
            or policy.status[candidate] != WAITS
            or state.scratch[1, i] != requests.prefill[candidate]
        ):
            return -1
    if not counts[GROUPED]:
        if counts[FREE] <= number:
            return -1
        for i in range(number):
            if requests.processed[running[i]] <= requests.prefill[running[i]]:
                return -1
        gather(state, limits, r)
    return -1 if beside > 0 and counts[FREE] <= growth_due(state, limits, r) else beside


@inlined
def _admit(state: State, limits: Limits, policy: SchedulerState, beside: int, chosen: int) -> int:
    """Add those chosen prompts that fit beside the decodes to the batch at cursor; returns their number."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts = state.requests, state.replicas.counts[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    size, num_tokens = 0, beside
    for i in range(beside, chosen):
        candidate, number = state.scratch[0, i], state.scratch[1, i]
        if policy.status[candidate] == TAKEN:
            refuse(policy, TWICE, candidate, r, 0)
            break
        if size + beside == limits.micro_batch_size or num_tokens + number > limits.max_num_batched_tokens:
            continue
        need = blocks_for(requests.prefill[candidate], limits.block_size)
        if counts[FREE] - need < limits.watermark_blocks or counts[ALLOCATED] == limits.max_num_seqs:
            continue
        allocate(requests.blocks, counts, limits.num_blocks, candidate, need)
        policy.status[candidate] = TAKEN
        request[size], tokens[size] = candidate, number
        size += 1
        num_tokens += number
    return size


@inlined
def _run_alone(state: State, cost: Cost, limits: Limits, most: int) -> int:
    """Run the group alone for at most ``most`` iterations, until one finishes, one arrives or memory is short."""
    r = state.cursor[REPLICA]
    counts, times = state.replicas.counts[r], state.replicas.times[r]
    arrival, number, last = may_arrive_at(state, r), counts[GROUP], counts[GROUP_STEP] + most
    while True:
        code = fast_forward(state, cost, limits, r, arrival, last - counts[GROUP_STEP], True)
        if code != Exit.ENDED:
            return code
        finish_due(state, cost, limits, r, True, False)
        if (
            counts[GROUP] < number
            or times[CLOCK] >= arrival
            or counts[FREE] <= growth_due(state, limits, r)
            or counts[GROUP_STEP] == last
            or state.cursor[LEFT] <= 0
            or full(state)
        ):
            break
    arrive(state, r, times[CLOCK])
    counts[FORM_DUE] = 1
    return Exit.FORM
