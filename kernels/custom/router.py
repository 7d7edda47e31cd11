"""The parts around a user's routing function: the view it gets of the replicas, and sending a request to one."""

from typing import NamedTuple

from .._jit import inlined
from ..replicas.arrivals import next_unrouted
from ..replicas.look import cached_on, send
from ..state import FREE, HORIZON, PRESENT, UNSEEN, WAITING, Floats, Ints, Limits, Longs, State
from .view import BAD_REPLICA


class RouterState(NamedTuple):
    """The arrays of a user's router besides State; N requests, R replicas."""

    num_waiting: Longs  # [R]
    num_outstanding: Longs  # [R]
    free_blocks: Longs  # [R]
    cached_tokens: Longs  # [R]
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
    cached_tokens: Longs  # [R] tokens of the request's prompt that are in the prefix or radix cache; 0 without one
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
def cluster_view(state: State, limits: tuple[Limits, ...], router: RouterState) -> ClusterView:
    """The view of the replicas at the horizon. A request counts from when it is routed."""
    counts, request = state.replicas.counts, next_unrouted(state)
    for r in range(counts.shape[0]):
        router.num_waiting[r] = counts[r, WAITING] + counts[r, UNSEEN]
        router.num_outstanding[r] = counts[r, PRESENT] + counts[r, UNSEEN]
        router.free_blocks[r] = counts[r, FREE]
        router.cached_tokens[r] = cached_on(state, limits[0], r, request)
    return ClusterView(
        state.moments[HORIZON],
        counts.shape[0],
        router.num_waiting,
        router.num_outstanding,
        router.free_blocks,
        router.cached_tokens,
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
    send(state, replica)
    return True
