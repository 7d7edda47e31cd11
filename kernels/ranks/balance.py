"""Which rank of a replica a request goes to.

The balancer of vLLM's front end learns how many requests wait and run at each rank only now and then, and counts those
that it has sent since as waiting. A request is sent when it arrives; its rank sees it at the next pass.
"""

from .._jit import inlined
from ..exits import Ending
from ..memory.queues import arrive
from ..memory.waiting import rank_arrived
from ..replicas.arrivals import append
from ..state import COMING, GROUP, HEAD, NONE, OUTCOME, PRESENT, RUNNING, UNSEEN, WAITING, Limits, State
from .state import FIRST_RANK, INTERNAL, LEARNED, RUNNING_KNOWN, SENT, STEADY_UNTIL, WAITING_KNOWN
from .state import ROUND_ROBIN as IN_TURN


@inlined
def _learn(state: State, limits: Limits, front: int, time: float) -> None:
    """Let the balancer learn what ranks have, if a moment at which it does has come by ``time``, s."""
    rules, own = limits.ranks, state.ranks.counts[front]
    if rules.balancer != INTERNAL:
        return
    moment = int(time / rules.refresh_s)
    if moment > own[LEARNED]:
        own[LEARNED] = moment
        for r in range(own[FIRST_RANK], own[FIRST_RANK] + rules.num_ranks):
            counts, known = state.replicas.counts[r], state.ranks.counts[r]
            known[WAITING_KNOWN], known[RUNNING_KNOWN] = counts[WAITING], counts[RUNNING] + counts[GROUP]


@inlined
def _choose(state: State, limits: Limits, front: int, request: int) -> int:
    """The row of the rank that a request goes to."""
    rules, own = limits.ranks, state.ranks.counts[front]
    first = int(own[FIRST_RANK])
    own[SENT] += 1
    if rules.balancer == IN_TURN:
        return first + int((own[SENT] - 1) % rules.num_ranks)
    if rules.balancer != INTERNAL:
        return first + int(state.ranks.given[request])
    best, least = first, -1
    for r in range(first, first + rules.num_ranks):
        known = state.ranks.counts[r]
        score = 4 * known[WAITING_KNOWN] + known[RUNNING_KNOWN]
        if least < 0 or score < least:
            best, least = r, score
    state.ranks.counts[best, WAITING_KNOWN] += 1
    return best


@inlined
def balance(state: State, limits: Limits, front: int, now: float) -> None:
    """Send the requests of a replica that arrive by ``now``, s, to its ranks, before anything else happens then."""
    counts, arrived_at = state.replicas.counts[front], state.requests.arrived_at
    request = int(counts[COMING])
    while request != NONE and arrived_at[request] <= now:
        following = int(state.requests.next[request])
        _learn(state, limits, front, arrived_at[request])
        append(state, _choose(state, limits, front, request), request)
        request = following
    counts[COMING] = counts[HEAD] = request
    _learn(state, limits, front, now)


@inlined
def take_in(state: State, limits: Limits, front: int, now: float) -> bool:
    """Let each rank queue the requests that were sent to it; returns whether there was any."""
    first, any_came = int(state.ranks.counts[front, FIRST_RANK]), False
    for r in range(first, first + limits.ranks.num_ranks):
        if state.replicas.counts[r, COMING] != NONE:
            state.ranks.counts[r, STEADY_UNTIL] = 0
            unseen = state.replicas.counts[r, UNSEEN]
            arrive(state, r, now)
            state.replicas.counts[front, UNSEEN] -= unseen - state.replicas.counts[r, UNSEEN]
            rank_arrived(state, limits, r)
            any_came = True
    return any_came


@inlined
def add_up(state: State, limits: Limits, front: int) -> None:
    """Let the row of a replica say how many requests its ranks have that are not at their end."""
    counts, first = state.replicas.counts[front], int(state.ranks.counts[front, FIRST_RANK])
    present = waiting = 0
    for r in range(first, first + limits.ranks.num_ranks):
        of_rank = state.replicas.counts[r]
        if of_rank[OUTCOME] == Ending.GOING:
            present += of_rank[PRESENT]
            waiting += of_rank[WAITING]
    counts[PRESENT], counts[WAITING] = present, waiting
