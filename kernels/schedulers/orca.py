"""Orca: a batch is formed anew for each iteration, and each request reserves memory for the longest sequence."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..exits import Exit
from ..iterations.group import grouped
from ..iterations.group_iterations import NO_LIMIT, launch_group
from ..iterations.pipeline_decodes import keep_residents, make_resident
from ..memory.admission import admit
from ..replicas.pools import Stages, one_stage, pipeline
from ..replicas.replica import launch
from ..replicas.rounds import go_round
from ..state import FREE, GROUP, NUM_RESIDENTS, REPLICA, SLOT, Limits, State
from ..tables import Cost
from .loop import simulate_plain

GROWS, STATIC, REFUSAL_LASTS = False, False, True


@merged
def _grant(
    state: State, limits: Limits, request: int, cached: int, held: int, size: int, beside: int
) -> tuple[int, int, int]:
    """Grant a whole prompt while sequences fit; ``beside`` requests take part besides those listed."""
    free = state.replicas.counts[state.cursor[REPLICA], FREE]
    if size + beside == limits.max_batch_size or free < limits.blocks_per_sequence:
        return 0, 0, beside
    return held - cached, limits.blocks_per_sequence, beside


@inlined
def admit_beside(state: State, limits: Limits, beside: int) -> int:
    """Fill the batch at cursor with waiting prompts; returns its size. ``beside`` requests decode in it besides."""
    return admit(state, limits, 0, beside, _grant)


@inlined
def form(state: State, limits: Limits) -> int:
    """Fill the batch at cursor; returns how many requests it lists. Decodes never lack memory, so all of them stay."""
    if not keep_residents(state, limits, limits.max_batch_size, GROWS):
        make_resident(state, limits, 0, GROWS)
    beside = state.batches.features[state.cursor[REPLICA], state.cursor[SLOT], NUM_RESIDENTS]
    return admit_beside(state, limits, beside)


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    if stages is not one_stage and limits.num_stages > 1:
        code = launch(state, cost, limits, form(state, limits))
        if code == Exit.FORM:
            free = state.replicas.counts[state.cursor[REPLICA], FREE]
            refused_from = limits.max_batch_size if free >= limits.blocks_per_sequence else 0
            code = go_round(state, cost, limits, limits.max_batch_size, refused_from, GROWS)
        return code
    grouped(state, limits)  # No request is ever preempted, so decodes are always a group.
    size = admit_beside(state, limits, state.replicas.counts[state.cursor[REPLICA], GROUP])
    return launch_group(state, cost, limits, size, True, NO_LIMIT, GROWS, STATIC)


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
