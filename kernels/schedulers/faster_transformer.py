"""FasterTransformer: a batch stays together until all its requests finish, and so does its memory."""

from .._jit import inlined, kernel
from ..cost import Cost
from ..iterations.group import grouped, is_grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group, retire_group
from ..iterations.pipeline_decodes import retire_standing, stand
from ..memory.queues import move
from ..replicas.replica import launch
from ..replicas.route import next_turn
from ..replicas.stages import of_one_stage, of_stages
from ..state import ENDED, FAULT, FORM, GROUP, NUM_MEMBERS, REPLICA, RUNNING, SLOT, Limits, State
from .orca import admit

GROWS, GANG, PATIENT = False, True, True


@inlined
def admit_gang(state: State, limits: Limits) -> int:
    """Fill a new batch when the last one has left; returns its size."""
    if state.replicas.counts[state.cursor[REPLICA], GROUP] > 0:
        return 0
    return admit(state, limits, 0, 0)


@inlined
def form(state: State, limits: Limits) -> int:
    """Put cursor on the unfinished batch that has waited longest, else fill a new one; returns how many it lists."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    if counts[RUNNING] == 0:
        stand(state, limits, 0, GROWS)
        size = admit(state, limits, 0, 0)
        state.batches.features[r, state.cursor[SLOT], NUM_MEMBERS] = size
        return size
    state.cursor[SLOT] = running[0]
    move(running, 1, counts[RUNNING], running, 0)
    counts[RUNNING] -= 1
    return 0


@inlined
def advance(state: State, cost: Cost, limits: Limits) -> int:
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
            retire_standing(state, cost, limits, GROWS, GANG)


@kernel
def run(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate replicas of one stage."""
    return advance(state, cost, of_one_stage(limits))


@kernel
def run_stages(state: State, cost: Cost, limits: Limits) -> int:
    """Simulate pipelines."""
    return advance(state, cost, of_stages(limits))
