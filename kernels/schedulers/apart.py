"""vLLM V1 with prefill and decode apart: what differs from vllm_v1.py is how requests are admitted, and the loop."""

from .._jit import inlined, kernel, merged
from .._pointed import pointed
from ..engine.ahead import catch_up, run_alone, wait_for_oldest
from ..engine.ending import end_batch, end_group, parts_alone
from ..engine.group import join_steady, leave
from ..engine.launch import launch
from ..engine.running import form_beside, form_running
from ..engine.state import AHEAD, CALLS, IDLE_CALL, NEWEST
from ..exits import Exit
from ..iterations.group import growth_due
from ..replicas.pools import Stages, cost_of, limits_of, one_stage
from ..state import (
    CLOCK,
    GROUP,
    GROUP_KV,
    GROUP_STEP,
    GROUPED,
    IN_FLIGHT,
    LEFT,
    LONGEST,
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
from .vllm_v1 import GROWS, REFUSAL_LASTS, begin_call, is_roomy, runs_alone


@inlined
def form(state: State, limits: Limits, skew: float, late: int) -> int:
    """Fill the batch at cursor; returns how many requests it lists, besides the group. ``late``: as for leave."""
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
def launch_next(state: State, cost: Cost, limits: Limits, stages: Stages) -> int:
    """Form the next batch of the replica at cursor and start it; FAULT when it has no time."""
    r, late, flying = state.cursor[REPLICA], 0, 0
    own, alone = state.engine.counts[r], state.engine.counts[r, AHEAD] > 0
    news = state.transfers.counts[r, NUM_READY] > 0 or state.transfers.counts[r, NEWS_FIRST] != NONE
    if alone:
        own[AHEAD], flying = 0, 1
    elif not news and runs_alone(state, limits, r):
        if state.replicas.counts[r, IN_FLIGHT] > 0:
            wait_for_oldest(state, limits, r)
            return Exit.FORM
        alone = True
    if alone:
        code = run_alone(state, cost, limits, r, flying)
        if code != Exit.ENDED:
            return code
        late = 1
    restarts = state.replicas.counts[r, RESTARTS]
    size = form(state, limits, cost.fastsim.skew, late)
    counts = state.replicas.counts[r]
    if (
        size + counts[GROUP] + counts[RUNNING] == 0
        and counts[WAITING] + counts[REMOTE] > 0
        and counts[RESTARTS] == restarts
    ):
        # Nothing can be done before there is news, or a request comes or finishes.
        state.cursor[LEFT] -= 1
        own[CALLS] -= 1
        own[IDLE_CALL] = 1
        return Exit.FORM
    decodes = counts[GROUP], counts[GROUP_KV], counts[LONGEST] + counts[GROUP_STEP]
    code = launch(state, cost, limits, size, decodes, 0.0, counts[RESTARTS] > restarts)
    counts[GROUP_STEP] += 1
    counts[GROUP_KV] += counts[GROUP]
    if late:
        catch_up(state, r)
    return code


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
