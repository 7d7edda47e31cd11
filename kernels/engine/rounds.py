"""Cohorts of a pipeline of vLLM V1 that take their turns: a batch ends, and the next one is formed at once.

A request that is listed, an arrival or a shortage of blocks is for the scheduler. Until then each batch is a cohort
alone, or empty where no cohort has the turn, and what a round consists of is done at once.
"""

from .._jit import inlined
from ..accounts.counts import count_held
from ..exits import Ending
from ..memory.paged import take_free
from ..replicas.timetable import has_timetable
from ..state import (
    CLOCK,
    FORM_DUE,
    FREE,
    GROUP,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    NUM_LISTED,
    OUTCOME,
    PEAK,
    RUNNING,
    SLOT,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .ahead import next_to_matter
from .cohorts import end_cohort, growth_of, turn_of
from .loop import rest
from .state import COHORT_LEAVES, COHORT_SIZE, COHORT_STEP, OLDEST, REFUSED, WHOLE


@inlined
def end_alone(state: State, cost: Cost, limits: Limits, r: int) -> bool:
    """End the oldest batch if it is a cohort alone and nothing comes in before; whether the next one is that as well.

    This follows the start of a batch. What becomes of a batch that ends while others are listed is the same.
    """
    counts, times, own = state.replicas.counts[r], state.replicas.times[r], state.engine.counts[r]
    slot = own[OLDEST]
    if (
        counts[FORM_DUE]
        or counts[RUNNING] > 0
        or counts[GROUP] == 0
        or state.batches.features[r, slot, NUM_LISTED] > 0
        or state.cursor[LEFT] <= 0
        or counts[OUTCOME] != Ending.GOING
        or not has_timetable(state)
    ):
        return False
    end = max(float(times[CLOCK]), float(state.engine.batch_end[r, slot]))
    until = min(float(state.moments[HORIZON]), next_to_matter(state, limits, r))
    if not end < until:
        return False
    count_held(state, limits, r, end)
    times[CLOCK] = end
    own[OLDEST] = slot + 1 if slot + 1 < limits.engine.depth else 0
    counts[IN_FLIGHT] -= 1
    end_cohort(state, cost, r, slot)
    rest(state, limits, r)
    if times[CLOCK] < until and _has_turn(state, limits, r):
        state.cursor[SLOT] = (own[OLDEST] + counts[IN_FLIGHT]) % limits.engine.depth
        return True
    counts[FORM_DUE] = 1
    return False


@inlined
def _has_turn(state: State, limits: Limits, r: int) -> bool:
    """Whether the next batch is the cohort alone whose turn it is, and all of it."""
    counts = state.replicas.counts[r]
    # A chunk of a waiting request is the shorter, the larger the cohort is.
    refused = state.engine.counts[r, REFUSED] == WHOLE or counts[GROUP] == limits.max_num_seqs
    if counts[WAITING] > 0 and not refused:
        return False
    place = turn_of(state, limits, r)
    cohort = state.engine.cohorts[r, place]
    if cohort[COHORT_SIZE] == 0:
        return True
    return bool(
        cohort[COHORT_STEP] < cohort[COHORT_LEAVES]
        and cohort[COHORT_SIZE] <= limits.max_num_batched_tokens
        and growth_of(state, limits, r, place) <= counts[FREE]
    )


@inlined
def take_blocks_alone(state: State, limits: Limits, r: int, place: int) -> None:
    """Take the blocks that a cohort needs for its next step."""
    counts, need = state.replicas.counts[r], growth_of(state, limits, r, place)
    if need > 0:
        take_free(state, limits, r, need)
        counts[PEAK] = max(counts[PEAK], limits.num_blocks - counts[FREE])
