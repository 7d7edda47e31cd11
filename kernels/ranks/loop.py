"""The passes of a replica whose ranks step together: what happens next.

The row of the replica has the clock, the batches in flight and the requests that no rank has been sent; each rank has a
row of its own with its scheduler, its KV blocks and its batches, in the same slots as the replica's.
"""

import math

from .._jit import inlined
from ..accounts.breakdown import detailed
from ..accounts.counts import spread, ticks_at
from ..engine.loop import go_on
from ..engine.state import OLDEST
from ..exits import Exit
from ..memory.followers import held, just_after
from ..state import (
    CLOCK,
    COMING,
    FORM_DUE,
    FREE,
    HORIZON,
    IN_FLIGHT,
    LEFT,
    LOGGED,
    NONE,
    PRESENT,
    REPLICA,
    WAITING,
    Limits,
    State,
)
from ..tables import Cost
from .balance import add_up, balance, take_in
from .state import FIRST_RANK, IN_WAVE
from .step import dummy_seconds


@inlined
def next_step(state: State, cost: Cost, limits: Limits) -> int:
    """Advance the replica at cursor to its next event before the horizon: FORM or ENDED, else why it stops."""
    cursor, rows = state.cursor, state.log.start.size
    if cursor[LEFT] <= 0 or (rows > 0 and cursor[LOGGED] + limits.ranks.num_ranks > rows):
        return Exit.BUDGET
    return go_on(state, cost, limits, cursor[REPLICA], _take_in, _count, _wake)


@inlined
def _take_in(state: State, limits: Limits, f: int, time: float) -> None:
    """Send the requests that have arrived to the ranks, which take them in."""
    balance(state, limits, f, time)
    if take_in(state, limits, f, time):
        add_up(state, limits, f)


@inlined
def _count(state: State, limits: Limits, f: int, end: float) -> None:
    """Send requests that have arrived to the ranks, and count what these hold up to the end of a step, s."""
    balance(state, limits, f, end)
    _count_held(state, limits, f, end)


@inlined
def _wake(state: State, cost: Cost, limits: Limits, f: int) -> int:
    """Let a replica that has nothing to do go on when the next request arrives."""
    coming, times = state.replicas.counts[f, COMING], state.replicas.times[f]
    if coming == NONE:
        return Exit.DONE
    arrival = float(state.requests.arrived_at[coming])
    if arrival >= state.moments[HORIZON]:
        return Exit.UNTIL
    _step_on(state, cost, limits, f, arrival)
    times[CLOCK] = max(times[CLOCK], arrival)
    return Exit.FORM


@inlined
def quiet_until_step(state: State, cost: Cost, limits: Limits, r: int, grows: bool, refusal_lasts: bool) -> float:
    """When the load of a replica may change next, s, if no request is routed to it; a lower bound."""
    counts, now = state.replicas.counts[r], float(state.replicas.times[r, CLOCK])
    if counts[FORM_DUE]:
        return just_after(now) if held(state, now) else now
    if counts[IN_FLIGHT] > 0:
        return max(now, float(state.engine.batch_end[r, state.engine.counts[r, OLDEST]]))
    return math.inf if counts[COMING] == NONE else float(state.requests.arrived_at[counts[COMING]])


@inlined
def _step_on(state: State, cost: Cost, limits: Limits, f: int, arrival: float) -> None:
    """Run dummy batches on the ranks, which have no requests, to the end of the wave or until a request arrives."""
    times, own, wave = state.replicas.times[f], state.ranks.counts[f], limits.ranks.wave
    while own[IN_WAVE] % wave > 0 and times[CLOCK] < arrival:
        times[CLOCK] += dummy_seconds(state, cost, limits, f)
        state.replicas.stage_end[f, 0] = times[CLOCK]
        own[IN_WAVE] += 1
    own[IN_WAVE] %= wave


@inlined
def _count_held(state: State, limits: Limits, f: int, until: float) -> None:
    """Count the running requests and KV blocks of all ranks from the replica's clock to ``until``, s."""
    if detailed(state.requests):
        since, last = ticks_at(state, state.replicas.times[f, CLOCK]), ticks_at(state, until)
        first = int(state.ranks.counts[f, FIRST_RANK])
        for r in range(first, first + limits.ranks.num_ranks):
            counts = state.replicas.counts[r]
            running, blocks = counts[PRESENT] - counts[WAITING], limits.num_blocks - counts[FREE]
            spread(state.replicas.series[r], counts, since, last, 0, running, blocks)
