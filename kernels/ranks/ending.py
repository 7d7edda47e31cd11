"""The end of a step, on all ranks of a replica."""

from .._jit import inlined
from ..engine.ending import end_batch, settle
from ..engine.loop import rest
from ..engine.state import RESTARTS_BEFORE_TOKEN, UNANNOUNCED
from ..exits import Ending
from ..iterations.batches import count_gaps
from ..iterations.group import add_work
from ..state import (
    CLOCK,
    FORM_DUE,
    HOST,
    IDLE,
    LAST_END,
    NUM_LISTED,
    NUM_RESIDENTS,
    OTHER,
    OUTCOME,
    REPLICA,
    RESTARTS,
    SLOT,
    SUM_HOST,
    SUM_OTHER,
    Limits,
    State,
)
from ..tables import Cost
from .balance import add_up
from .state import FIRST_RANK
from .steady import catch_up_steady, follow


@inlined
def end_ranks(state: State, cost: Cost, limits: Limits) -> None:
    """End the step at cursor, the oldest in flight, on all ranks of a replica."""
    f, slot = state.cursor[REPLICA], state.cursor[SLOT]
    counts, times, first = state.replicas.counts[f], state.replicas.times[f], int(state.ranks.counts[f, FIRST_RANK])
    number, now, whole = limits.ranks.num_ranks, times[CLOCK], state.batches.features[f, slot]
    on_stage = state.batches.on_stage[f, slot]
    count_gaps(state, now - times[LAST_END], whole[NUM_RESIDENTS])
    add_work(state, f, state.batches.seconds[f, slot])
    times[HOST] += state.batches.sums[f, slot, SUM_HOST]
    times[OTHER] += state.batches.sums[f, slot, SUM_OTHER]
    times[IDLE] += (now - times[LAST_END]) - on_stage
    ends = whole[NUM_LISTED] > 0
    if ends or limits.engine.by_priority:
        for r in range(first, first + number):
            features = state.batches.features[r, slot]
            if features[NUM_LISTED] > 0:
                if state.replicas.counts[r, OUTCOME] == Ending.GOING:
                    state.cursor[REPLICA] = r
                    catch_up_steady(state, limits, f, r)
                    follow(state, f, r)
                    end_batch(state, cost, limits, _parts_of_step, _end_residents)
                    state.engine.counts[f, UNANNOUNCED] |= state.engine.counts[r, UNANNOUNCED]
            elif features[NUM_RESIDENTS] > 0:
                state.engine.counts[r, RESTARTS_BEFORE_TOKEN] = state.replicas.counts[r, RESTARTS]
    state.cursor[REPLICA] = f
    times[LAST_END] = now
    counts[FORM_DUE] = 1
    if ends:
        add_up(state, limits, f)
    rest(state, limits, f)


@inlined
def _parts_of_step(state: State, cost: Cost, r: int, slot: int) -> tuple[float, float]:
    """Host time of a step, and how much longer it takes than with the decodes of all ranks alone, s."""
    return float(state.batches.sums[r, slot, SUM_HOST]), float(state.batches.sums[r, slot, SUM_OTHER])


@inlined
def _end_residents(state: State, cost: Cost, r: int, slot: int) -> None:
    """Settle the batch of a rank; the gaps and the work of the step are counted for all ranks together."""
    settle(state, r, slot)
