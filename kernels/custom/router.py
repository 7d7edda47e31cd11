"""The parts around a user's routing function: the view it gets of the replicas, and sending a request to one."""

import math
from typing import NamedTuple

import numpy as np

from .._jit import inlined
from ..memory.followers import depends
from ..replicas.arrivals import append, next_arrival, next_unrouted, take_next
from ..state import (
    FIRST,
    FREE,
    HORIZON,
    NONE,
    PRESENT,
    REPLICA,
    UNSEEN,
    WAITING,
    Floats,
    Ints,
    Limits,
    Longs,
    State,
)
from .view import BAD_REPLICA


class RouterState(NamedTuple):
    """The arrays of a user's router besides State; N requests, R replicas."""

    num_waiting: Longs  # [R]
    num_outstanding: Longs  # [R]
    free_blocks: Longs  # [R]
    memo: Floats  # [N]
    notes: Floats  # [R, NOTES]
    trouble: Longs  # [4] the same as SchedulerState.trouble
    num_prompt_tokens: Ints  # [N]
    num_output_tokens: Ints  # [N]


class ClusterView(NamedTuple):
    """The view of R replicas that a routing function gets, just before a request arrives."""

    now: float  # s
    num_replicas: int
    num_waiting: Longs  # [R] requests that hold no memory
    num_outstanding: Longs  # [R] requests that have arrived and are not finished
    free_blocks: Longs  # [R] KV blocks
    num_blocks: int  # KV blocks of a replica
    block_size: int  # tokens
    memo: Floats  # yours, a number per request: 0 at first
    notes: Floats  # [R, NOTES] yours, kept between calls: 0 at first


class Arrival(NamedTuple):
    """The request to be routed."""

    id: int
    num_prompt_tokens: int
    num_output_tokens: int  # which no real router knows beforehand


@inlined
def arrival_due(state: State) -> bool:
    """Whether a request arrives at the horizon that no router has seen."""
    return bool(next_unrouted(state) != NONE and next_arrival(state) == state.moments[HORIZON])


@inlined
def cluster_view(state: State, limits: tuple[Limits, ...], router: RouterState) -> ClusterView:
    """The view of the replicas at the horizon. A request counts from when it is routed."""
    counts = state.replicas.counts
    for r in range(counts.shape[0]):
        router.num_waiting[r] = counts[r, WAITING] + counts[r, UNSEEN]
        router.num_outstanding[r] = counts[r, PRESENT] + counts[r, UNSEEN]
        router.free_blocks[r] = counts[r, FREE]
    return ClusterView(
        state.moments[HORIZON],
        counts.shape[0],
        router.num_waiting,
        router.num_outstanding,
        router.free_blocks,
        limits[0].num_blocks,
        limits[0].block_size,
        router.memo,
        router.notes,
    )


@inlined
def arrival(state: State, router: RouterState) -> Arrival:
    """The request that is due."""
    request = next_unrouted(state)
    return Arrival(request, router.num_prompt_tokens[request], router.num_output_tokens[request])


@inlined
def route_to(state: State, router: RouterState, replica: int) -> bool:
    """Send the request that is due to a replica; False when no replica has that number."""
    request, number = next_unrouted(state), state.replicas.counts.shape[0]
    if replica < 0 or replica >= number:
        router.trouble[0], router.trouble[1] = BAD_REPLICA, request
        router.trouble[2], router.trouble[3] = replica, number
        return False
    append(state, replica, take_next(state))
    state.replicas.quiet_until[replica] = min(state.replicas.quiet_until[replica], state.moments[HORIZON])
    return True


@inlined
def next_horizon(state: State) -> None:
    """Let every replica go on until the next request arrives, or the next may finish that another follows."""
    state.moments[HORIZON] = next_arrival(state)
    if depends(state.requests):
        soonest = math.inf
        for r in range(state.replicas.quiet_until.size):
            soonest = min(soonest, state.replicas.quiet_until[r])
        if soonest < math.inf and soonest <= state.moments[HORIZON]:
            state.moments[HORIZON] = np.nextafter(soonest, math.inf)
    state.cursor[REPLICA] = state.cursor[FIRST]
