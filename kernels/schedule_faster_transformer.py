"""FasterTransformer: a batch stays together until all its requests finish, and so does its memory."""

from ._jit import inlined, kernel
from .batches import advance_members
from .blocks import release
from .cost import Cost
from .group import grouped, is_grouped
from .leap import NO_LIMIT, launch_group, retire_group
from .queues import move
from .replica import launch
from .route import next_turn
from .schedule_orca import admit
from .state import (
    ENDED,
    FAULT,
    FORM,
    GROUP,
    IN_USE,
    NUM_MEMBERS,
    NUM_SEQS,
    REPLICA,
    RUNNING,
    SLOT,
    Limits,
    State,
)

GROWS, GANG, PATIENT = False, True, True


@inlined
def admit_gang(state: State, limits: Limits) -> int:
    """Fill a new batch when the last one has left; returns its size."""
    if state.replicas.counts[state.cursor[REPLICA], GROUP] > 0:
        return 0
    return admit(state, limits, 0, 0)


@inlined
def form(state: State, limits: Limits) -> int:
    """Put cursor on the unfinished batch that has waited longest, else fill a new one; returns its size."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    if counts[RUNNING] == 0:
        size = admit(state, limits, 0, 0)
        state.batches.features[r, state.cursor[SLOT], NUM_MEMBERS] = size
        return size
    slot = running[0]
    state.cursor[SLOT] = slot
    move(running, 1, counts[RUNNING], running, 0)
    counts[RUNNING] -= 1
    size, tokens = state.batches.features[r, slot, NUM_SEQS], state.batches.tokens[r, slot]
    for i in range(size):
        tokens[i] = 1
    return int(size)


@inlined
def retire(state: State, cost: Cost) -> None:
    """End the batch at cursor: line it up again, or free all its memory when nobody is left in it."""
    r, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts, features = state.replicas.counts[r], state.batches.features[r, slot]
    advance_members(state, cost)
    if features[NUM_SEQS] > 0:
        state.replicas.running[r, counts[RUNNING]] = slot
        counts[RUNNING] += 1
        return
    request = state.batches.request[r, slot]
    for i in range(features[NUM_MEMBERS]):
        release(state.requests.blocks, counts, request[i])
    features[IN_USE] = 0


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, cost, limits, GROWS, PATIENT)
        if event == FORM:
            if grouped(state, limits, GROWS):
                size = admit_gang(state, limits)
                code = launch_group(state, cost, limits, size, False, NO_LIMIT, GROWS, GANG)
            else:
                code = launch(state, cost, limits, form(state, limits))
            if code == FAULT:
                return FAULT
        elif event != ENDED:
            return event
        elif is_grouped(state):
            retire_group(state, cost, limits, GROWS, GANG)
        else:
            retire(state, cost)
