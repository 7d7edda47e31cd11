"""vLLM V1: one list of running requests in order of admission, and one number of tokens that each has yet to compute.

A batch gives tokens to the running requests in their order, then admits waiting ones; prompts are cut to what is left
of the budget. Where blocks are short, the request admitted last is preempted, or that with the lowest priority, and
computes its tokens again later. What differs between releases of vLLM is in EngineLimits.
"""

from collections.abc import Callable

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..engine.admission import admit
from ..engine.ahead import all_finish, catch_up, next_to_matter, run_alone, steps_ahead, wait_for_oldest
from ..engine.cohorts import (
    beside,
    end_cohort,
    growth_of,
    join_turn,
    leave_all,
    leave_turn,
    next_cohort,
    sampled_at,
    take_turn,
)
from ..engine.ending import end_batch, end_group, parts_alone
from ..engine.group import join_steady, leave
from ..engine.launch import launch
from ..engine.loop import next_event, quiet_until
from ..engine.rounds import run_rounds
from ..engine.running import form_beside, form_running
from ..engine.state import AHEAD, CALLS, COHORT_NEWEST, COHORT_SIZE, LINKED, NEWEST, OLDEST, REFUSED, UNANNOUNCED
from ..exits import Exit
from ..iterations.group import growth_due
from ..ranks.ending import end_ranks
from ..ranks.launch import launch_ranks
from ..ranks.loop import next_step, quiet_until_step
from ..replicas.pools import Stages, lockstep, one_stage, pipeline
from ..state import (
    FREE,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    GROUPED,
    HORIZON,
    IN_FLIGHT,
    LOGGED,
    LONGEST,
    NUM_LISTED,
    REPLICA,
    RESTARTS,
    RUNNING,
    SLOT,
    WAITING,
    Limits,
    Longs,
    State,
)
from ..tables import Cost
from .loop import simulate

Admit = Callable[[State, Limits, int, int], int]  # engine/admission.admit, or that of transfers
GROWS, STATIC, REFUSAL_LASTS = True, False, False
CACHES = True


@inlined
def form(state: State, limits: Limits, skew: float, late: int, admit: Admit) -> int:
    """Fill the batch at cursor; returns how many requests it lists, besides the group.

    ``late``: as for leave. ``admit``: admits waiting requests.
    """
    r = state.cursor[REPLICA]
    own, counts = state.engine.counts[r], state.replicas.counts[r]
    restarts = counts[RESTARTS]
    begin_call(own)
    size, budget = -1, 0
    if counts[GROUPED] or is_roomy(state, limits, r):
        join_steady(state, limits, r, own[CALLS])
        everyone = False
        while True:
            leave(state, skew, limits, r, everyone, late)
            if everyone:
                break
            need, flying = growth_due(state, limits, r), counts[IN_FLIGHT] + late
            size, budget = form_beside(state, limits, counts[GROUP], need, own[NEWEST], counts[GROUP_STEP], flying)
            if size >= 0:
                break
            everyone = True
    if size < 0:
        size, budget = form_running(state, limits)
    if counts[RESTARTS] == restarts:
        size = admit(state, limits, size, budget)
    return size


@merged
def begin_call(own: Longs) -> None:
    """Count a call of the scheduler, which announces the requests that have finished; ``own``: Engine.counts."""
    own[CALLS] += 1
    own[UNANNOUNCED] = 0


@inlined
def is_roomy(state: State, limits: Limits, r: int) -> bool:
    """Whether budget and blocks are enough for a token of every running request."""
    counts = state.replicas.counts[r]
    return bool(counts[RUNNING] < limits.max_num_batched_tokens and counts[RUNNING] < counts[FREE])


@inlined
def runs_alone(state: State, limits: Limits, r: int) -> bool:
    """Whether the next iterations consist of the group alone, which running requests join here that may.

    With asynchronous scheduling the batch in flight may list requests that have joined, or finish with it.
    """
    counts, own, flying = state.replicas.counts[r], state.engine.counts[r], state.replicas.counts[r, IN_FLIGHT]
    # What a linked member fills may be found by the first waiting request, which then fits.
    if counts[WAITING] > 0 and (not own[REFUSED] or own[LINKED] > 0):
        return False
    log_is_short = 0 < state.log.start.size < state.cursor[LOGGED] + 2
    if flying != limits.engine.depth - 1 or log_is_short or not (counts[GROUPED] or is_roomy(state, limits, r)):
        return False
    if counts[RUNNING] > 0:
        join_steady(state, limits, r, own[CALLS] + 1)
    if counts[GROUP] == 0 or counts[GROUP] > limits.max_num_batched_tokens or steps_ahead(state, limits, r) < 1:
        return False
    if flying == 0:
        return bool(counts[RUNNING] == 0)
    # What comes in while the batch in flight runs is seen when the batch after the next is formed.
    end = state.engine.batch_end[r, own[OLDEST]]
    if not (end < state.moments[HORIZON] and end < next_to_matter(state, limits, r)):
        return False
    if state.batches.features[r, own[OLDEST], NUM_LISTED] == 0:
        return bool(counts[RUNNING] == 0)
    return bool(counts[WAITING] == 0 and own[LINKED] == 0 and all_finish(state, limits, r))


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    r = state.cursor[REPLICA]
    code = run_ahead(state, cost, limits, r, True)
    if code != Exit.ENDED and code != Exit.DONE:
        return code
    restarts, late = state.replicas.counts[r, RESTARTS], int(code == Exit.ENDED)
    size = form(state, limits, cost.fastsim.skew, late, admit)
    return launch_formed(state, cost, limits, r, size, late, state.replicas.counts[r, RESTARTS] > restarts)


@inlined
def run_ahead(state: State, cost: Cost, limits: Limits, r: int, may_be_alone: bool) -> int:
    """Run the group alone where it is, and ``may_be_alone``: ENDED when a batch is to be formed before more requests
    are taken in, DONE when one is to be formed as ever, else the code to return.
    """
    own = state.engine.counts[r]
    if own[AHEAD] > 0:
        own[AHEAD] = 0
        return run_alone(state, cost, limits, r, 1)
    if may_be_alone and runs_alone(state, limits, r):
        if state.replicas.counts[r, IN_FLIGHT] == 0:
            return run_alone(state, cost, limits, r, 0)
        wait_for_oldest(state, limits, r)
        return Exit.FORM
    return Exit.DONE


@inlined
def launch_formed(state: State, cost: Cost, limits: Limits, r: int, size: int, late: int, preempted: bool) -> int:
    """Start the batch at cursor, which ``form`` has filled, with the group; FAULT when it has no time."""
    counts = state.replicas.counts[r]
    decodes = counts[GROUP], counts[GROUP_KV], counts[LONGEST] + counts[GROUP_STEP]
    code = launch(state, cost, limits, size, decodes, 0.0, preempted)
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += counts[GROUP]
    if late:
        catch_up(state, r)
    return code


@inlined
def form_turn(state: State, limits: Limits, r: int, place: int) -> int:
    """Fill the batch at cursor, in which it is a cohort's turn; returns how many requests it lists besides."""
    counts, cohort = state.replicas.counts[r], state.engine.cohorts[r, place]
    restarts, size, budget = counts[RESTARTS], -1, 0
    if counts[GROUP] > 0 or is_roomy(state, limits, r):
        join_turn(state, limits, r, place)
        leave_turn(state, limits, r, place)
        need = growth_of(state, limits, r, place)
        size, budget = form_beside(state, limits, cohort[COHORT_SIZE], need, cohort[COHORT_NEWEST], 0, 0)
    if size < 0:
        leave_all(state, limits, r)
        size, budget = form_running(state, limits)
    if counts[RESTARTS] == restarts:
        size = admit(state, limits, size, budget)
    return size


@merged
def launch_staged(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """The same for a pipeline."""
    r = state.cursor[REPLICA]
    counts, own, restarts = state.replicas.counts[r], state.engine.counts[r], state.replicas.counts[r, RESTARTS]
    begin_call(own)
    place = next_cohort(state, limits, r)
    size = form_turn(state, limits, r, place)
    preempted = counts[RESTARTS] > restarts
    decodes, ready = beside(state, r, place), sampled_at(state, limits, r, place)
    take_turn(state, r, place, state.cursor[SLOT])
    if launch(state, cost, limits, size, decodes, ready, preempted) == Exit.FAULT:
        return Exit.FAULT
    return run_rounds(state, cost, limits, r)


@merged
def launch_step(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """The same for all ranks of a replica."""
    return launch_ranks(state, cost, limits, form_of_rank)


@inlined
def form_of_rank(state: State, limits: Limits, skew: float) -> int:
    """Fill the batch at cursor, of a rank; returns how many requests it lists besides the group."""
    return int(form(state, limits, skew, 0, admit))


@merged
def end(state: State, cost: Cost, limits: Limits, stages: Stages, grows: bool, static: bool) -> None:
    """End the batch at cursor."""
    if stages is one_stage:
        end_batch(state, cost, limits, parts_alone, end_group)
    else:
        end_batch(state, cost, limits, parts_alone, end_cohort)


@merged
def end_step(state: State, cost: Cost, limits: Limits, stages: Stages, grows: bool, static: bool) -> None:
    """End the batches of all ranks of a replica."""
    end_ranks(state, cost, limits)


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    if stages is one_stage:
        return simulate(
            state,
            costs,
            limits,
            stages,
            next_event,
            quiet_until,
            launch_next,
            end,
            GROWS,
            STATIC,
            REFUSAL_LASTS,
            CACHES,
        )
    if stages is lockstep:
        return simulate(
            state,
            costs,
            limits,
            stages,
            next_step,
            quiet_until_step,
            launch_step,
            end_step,
            GROWS,
            STATIC,
            REFUSAL_LASTS,
            CACHES,
        )
    return simulate(
        state, costs, limits, stages, next_event, quiet_until, launch_staged, end, GROWS, STATIC, REFUSAL_LASTS, CACHES
    )


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)


@kernel
def run_stages(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate pipelines."""
    return advance(pointed(state), pointed(costs), pointed(limits), pipeline)


@kernel
def run_ranks(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas whose ranks step together."""
    return advance(pointed(state), pointed(costs), pointed(limits), lockstep)
