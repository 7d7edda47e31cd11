"""Orca: iteration-level batching with memory for the longest sequence reserved; running requests first."""

from .._jit import inlined, kernel
from ..cost import Cost
from ..iterations.group import grouped, is_grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group, retire_group
from ..iterations.pipeline_decodes import retire_standing, stand, stays
from ..memory.blocks import allocate
from ..memory.queues import head, pop_head
from ..replicas.replica import launch
from ..replicas.route import next_turn
from ..replicas.stages import of_one_stage, of_stages
from ..state import ENDED, FAULT, FORM, FREE, GROUP, REPLICA, SLOT, STANDING, WAITING, Limits, State

GROWS, GANG, PATIENT = False, False, True


@inlined
def admit(state: State, limits: Limits, size: int, beside: int) -> int:
    """Add waiting requests to the batch at cursor, whole prompts, while sequences fit; returns its size.

    ``size`` members stand in the batch already, ``beside`` run as a group.
    """
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    requests, counts, preempted = state.requests, state.replicas.counts[r], state.replicas.preempted[r]
    request, tokens = state.batches.request[r, slot], state.batches.tokens[r, slot]
    while counts[WAITING] > 0:
        if size + beside == limits.max_batch_size or counts[FREE] < limits.blocks_per_sequence:
            break
        candidate = head(preempted, counts)
        pop_head(requests.next, counts)
        allocate(requests.blocks, counts, limits.num_blocks, candidate, limits.blocks_per_sequence)
        request[size], tokens[size] = candidate, requests.prefill[candidate]
        size += 1
    return size


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns how many it lists. A batch of decodes never lacks room and stays together."""
    if not stays(state, limits, limits.max_batch_size, GROWS):
        stand(state, limits, 0, GROWS)
    beside = state.batches.features[state.cursor[REPLICA], state.cursor[SLOT], STANDING]
    return admit(state, limits, 0, beside)


@inlined
def advance(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, cost, limits, GROWS, PATIENT)
        if event == FORM:
            if grouped(state, limits, GROWS):
                size = admit(state, limits, 0, state.replicas.counts[state.cursor[REPLICA], GROUP])
                code = launch_group(state, cost, limits, size, True, NO_LIMIT, GROWS, GANG)
            else:
                code = launch(state, cost, limits, form(state, limits))
            if code == FAULT:
                return FAULT
        elif event != ENDED:
            return event
        elif is_grouped(state):
            retire_group(state, cost, limits, GROWS, GANG)
        else:
            retire_standing(state, cost, limits, GROWS, GANG)


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate replicas of one stage."""
    return advance(state, cost, of_one_stage(limits))


@kernel
def run_stages(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate pipelines."""
    return advance(state, cost, of_stages(limits))
