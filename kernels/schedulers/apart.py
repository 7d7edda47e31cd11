"""vLLM V1 with prefill and decode apart: what differs from vllm_v1.py is how requests are admitted, and the loop."""

from .._jit import kernel, merged
from .._pointed import pointed
from ..engine.ending import end_batch, end_group, parts_alone
from ..engine.state import CALLS, IDLE_CALL
from ..exits import Exit
from ..replicas.pools import Stages, cost_of, limits_of, one_stage
from ..state import (
    CLOCK,
    GROUP,
    LEFT,
    NONE,
    REMOTE,
    REPLICA,
    RESTARTS,
    RUNNING,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from ..transfers.admission import admit
from ..transfers.news import learn
from ..transfers.route import next_turn
from ..transfers.state import NEWS_FIRST, NUM_READY
from .vllm_v1 import GROWS, REFUSAL_LASTS, form, launch_formed, run_ahead


@merged
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    r = state.cursor[REPLICA]
    counts, own, transfers = state.replicas.counts[r], state.engine.counts[r], state.transfers.counts[r]
    code = run_ahead(state, cost, limits, r, transfers[NUM_READY] == 0 and transfers[NEWS_FIRST] == NONE)
    if code != Exit.ENDED and code != Exit.DONE:
        return code
    restarts, late = counts[RESTARTS], int(code == Exit.ENDED)
    size = form(state, limits, cost.fastsim.skew, late, admit)
    is_empty = size + counts[GROUP] + counts[RUNNING] == 0
    if is_empty and counts[WAITING] + counts[REMOTE] > 0 and counts[RESTARTS] == restarts:
        # Nothing can be done before there is news, or a request comes or finishes.
        state.cursor[LEFT] -= 1
        own[CALLS] -= 1
        own[IDLE_CALL] = 1
        return Exit.FORM
    return launch_formed(state, cost, limits, r, size, late, counts[RESTARTS] > restarts)


@merged
def end(state: State, cost: Cost, limits: Limits) -> None:
    """End the batch at cursor, and learn what has been transferred since."""
    r = state.cursor[REPLICA]
    now = float(state.replicas.times[r, CLOCK])
    end_batch(state, cost, limits, parts_alone, end_group)
    learn(state, limits, r, now)


@merged
def advance(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...], stages: Stages) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT."""
    while True:
        event = next_turn(state, costs, limits, stages, GROWS, REFUSAL_LASTS)
        r = state.cursor[REPLICA]
        if event == Exit.FORM:
            if launch_next(state, cost_of(state, costs, r), limits_of(state, limits, r, stages), stages) == Exit.FAULT:
                return Exit.FAULT
        elif event == Exit.ENDED:
            end(state, cost_of(state, costs, r), limits_of(state, limits, r, stages))
        else:
            return event


@kernel
def run(state: State, costs: tuple[Cost, ...], limits: tuple[Limits, ...]) -> int:
    """Simulate replicas of one stage."""
    return advance(pointed(state), pointed(costs), pointed(limits), one_stage)
