"""FasterTransformer: batches are static. A batch and its memory stay until all its requests have finished."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..exits import Exit
from ..iterations.group import grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group
from ..iterations.pipeline_decodes import make_resident
from ..memory.queues import move
from ..replicas.pools import Stages, one_stage, pipeline
from ..replicas.replica import launch
from ..replicas.rounds import go_round
from ..state import GROUP, NUM_HOLDERS, REPLICA, RUNNING, SLOT, Limits, State
from ..tables import Cost
from .loop import simulate_plain
from .orca import admit_beside

GROWS, STATIC, REFUSAL_LASTS = False, True, True


@inlined
def form_static(state: State, limits: Limits) -> int:
    """Fill a new batch when the last one has finished; returns its size."""
    if state.replicas.counts[state.cursor[REPLICA], GROUP] > 0:
        return 0
    return admit_beside(state, limits, 0)


@inlined
def form(state: State, limits: Limits) -> int:
    """Put cursor on the unfinished batch that has waited longest, else fill a new one; returns how many it lists."""
    r = state.cursor[REPLICA]
    counts, running = state.replicas.counts[r], state.replicas.running[r]
    if counts[RUNNING] == 0:
        make_resident(state, limits, 0, GROWS)
        size = admit_beside(state, limits, 0)
        state.batches.features[r, state.cursor[SLOT], NUM_HOLDERS] = size
        return size
    state.cursor[SLOT] = running[0]
    move(running, 1, counts[RUNNING], running, 0)
    counts[RUNNING] -= 1
    return 0


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    if stages is not one_stage and limits.num_stages > 1:
        code = launch(state, cost, limits, form(state, limits))
        # The batch that has ended is formed again next, even if other requests wait.
        return go_round(state, cost, limits, NO_LIMIT, 0, GROWS) if code == Exit.FORM else code
    grouped(state, limits)  # No request is ever preempted, so decodes are always a group.
    return launch_group(state, cost, limits, form_static(state, limits), False, NO_LIMIT, GROWS, STATIC)


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    return simulate_plain(state, costs, limits, stages, launch_next, GROWS, STATIC, REFUSAL_LASTS)


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)


@kernel
def run_stages(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate pipelines."""
    return advance(pointed(state), pointed(costs), pointed(limits), pipeline)
