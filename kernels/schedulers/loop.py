"""The loop that all policies share: batches are formed, launched and ended on all replicas in their turns."""

from collections.abc import Callable

from .._jit import merged
from ..cost import Cost
from ..exits import Exit
from ..iterations.batches import retire
from ..iterations.group import is_grouped
from ..iterations.group_iterations import retire_group
from ..iterations.pipeline_decodes import retire_residents
from ..replicas.pools import Stages, cost_of, limits_of
from ..replicas.route import NextEvent, QuietUntil, next_turn
from ..state import REPLICA, Limits, State


@merged
def end_batch(state: State, cost: Cost, limits: Limits, grows: bool, static: bool) -> None:
    """End the batch at cursor in the way in which it was formed."""
    if is_grouped(state):
        retire_group(state, cost, limits, grows, static)
    elif grows and limits.num_stages == 1:
        retire(state, cost)
    else:
        retire_residents(state, cost, limits, grows, static)


@merged
def simulate(
    state: State,
    costs: tuple[Cost, ...],
    limits: tuple[Limits, ...],
    stages: Stages,
    next_event: NextEvent,
    quiet_until: QuietUntil,
    launch_next: Callable[[State, Cost, Limits], int],
    end: Callable[[State, Cost, Limits, bool, bool], None],
    grows: bool,
    static: bool,
    refusal_lasts: bool,
) -> int:
    """Simulate until all is DONE, the BUDGET of iterations is used up, or a FAULT.

    ``launch_next`` forms the next batch of the replica at cursor and starts it, by the rules of a policy; ``end`` ends
    the batch at cursor.
    """
    while True:
        event = next_turn(state, costs, limits, stages, next_event, quiet_until, grows, refusal_lasts)
        r = state.cursor[REPLICA]
        if event == Exit.FORM:
            if launch_next(state, cost_of(state, costs, r), limits_of(state, limits, r, stages)) == Exit.FAULT:
                return Exit.FAULT
        elif event == Exit.ENDED:
            end(state, cost_of(state, costs, r), limits_of(state, limits, r, stages), grows, static)
        else:
            return event
