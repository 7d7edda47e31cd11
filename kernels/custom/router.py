"""What surrounds a routing function of the user's: what it sees of the replicas, and where a request goes."""

from typing import NamedTuple

from .._jit import inlined
from ..replicas.arrivals import append, next_arrival, take_next
from ..state import (
    FIRST,
    FREE,
    HORIZON,
    NEXT_REQUEST,
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


class Lobby(NamedTuple):
    """What a router of the user's needs besides the state of the one lane."""

    num_waiting: Longs  # [R]
    num_outstanding: Longs  # [R]
    free_blocks: Longs  # [R]
    memo: Floats  # [N]
    notes: Floats  # [R, NOTES]
    trouble: Longs  # [4] as Desk.trouble
    num_prompt_tokens: Ints  # [N]
    num_output_tokens: Ints  # [N]


class ClusterView(NamedTuple):
    """What a routing function sees of the replicas, just before the request arrives. R replicas."""

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
def due(state: State) -> bool:
    """Whether a request arrives at the horizon that no router has seen."""
    return bool(state.cursor[NEXT_REQUEST] != NONE and next_arrival(state) == state.moments[HORIZON])


@inlined
def survey(state: State, limits: tuple[Limits, ...], lobby: Lobby) -> ClusterView:
    """What the router sees at the horizon. A request that was routed counts at once."""
    counts = state.replicas.counts
    for r in range(counts.shape[0]):
        lobby.num_waiting[r] = counts[r, WAITING] + counts[r, UNSEEN]
        lobby.num_outstanding[r] = counts[r, PRESENT] + counts[r, UNSEEN]
        lobby.free_blocks[r] = counts[r, FREE]
    return ClusterView(
        state.moments[HORIZON],
        counts.shape[0],
        lobby.num_waiting,
        lobby.num_outstanding,
        lobby.free_blocks,
        limits[0].num_blocks,
        limits[0].block_size,
        lobby.memo,
        lobby.notes,
    )


@inlined
def arrival(state: State, lobby: Lobby) -> Arrival:
    """The request that is due."""
    request = state.cursor[NEXT_REQUEST]
    return Arrival(request, lobby.num_prompt_tokens[request], lobby.num_output_tokens[request])


@inlined
def send(state: State, lobby: Lobby, replica: int) -> bool:
    """Give the request that is due to a replica; False when there is none of that number."""
    request, number = state.cursor[NEXT_REQUEST], state.replicas.counts.shape[0]
    if replica < 0 or replica >= number:
        lobby.trouble[0], lobby.trouble[1] = BAD_REPLICA, request
        lobby.trouble[2], lobby.trouble[3] = replica, number
        return False
    append(state, replica, take_next(state))
    return True


@inlined
def next_horizon(state: State) -> None:
    """Let every replica go on until the next request arrives."""
    state.moments[HORIZON] = next_arrival(state)
    state.cursor[REPLICA] = state.cursor[FIRST]
