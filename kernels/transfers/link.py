"""Transfers of KV: those of a replica share its link evenly, and one is as fast as the slower of its two shares."""

import math

from .._jit import inlined
from ..memory.followers import just_after
from ..replicas.tournament import replay
from ..state import HORIZON, NONE, Limits, State
from .state import NEWS_FIRST, NEWS_LAST, NUM_FLOWS


@inlined
def next_end(state: State) -> float:
    """When the next transfer ends, s; infinite without one."""
    transfers, soonest = state.transfers, math.inf
    for i in range(transfers.num_active[0]):
        soonest = min(soonest, transfers.end[transfers.active[i]])
    return soonest


@inlined
def _share(state: State, limits: Limits, now: float, source: int, target: int) -> None:
    """Give those transfers their rates that share a replica with one that has just started or ended."""
    transfers, replica = state.transfers, state.requests.replica
    for i in range(transfers.num_active[0]):
        request = transfers.active[i]
        out, into = replica[transfers.source[request]], replica[request]
        if out == source or into == target:
            left = transfers.left[request] - transfers.rate[request] * (now - transfers.since[request])
            transfers.left[request] = max(left, 0.0)
            transfers.since[request] = now
            busier = max(transfers.counts[out, NUM_FLOWS], transfers.counts[into, NUM_FLOWS])
            transfers.rate[request] = limits.link.bytes_per_s / busier
            transfers.end[request] = now + transfers.left[request] / transfers.rate[request]


@inlined
def start_transfer(state: State, limits: Limits, request: int, now: float, blocks: int) -> None:
    """Start to transfer so many blocks of a request to its replica; no replica is advanced beyond the end of that."""
    transfers, source = state.transfers, state.transfers.source[request]
    computing = state.requests.execution_time[source]
    size = blocks * limits.link.block_bytes
    if limits.link.layers > 1:
        # What has left while the prompt was computed; the last layer's KV comes to be at its end.
        share = size / limits.link.layers
        size = max(share, size - limits.link.bytes_per_s * computing * (1.0 - 1.0 / limits.link.layers))
    transfers.started_at[request], transfers.moved[request] = now, blocks
    transfers.left[request], transfers.since[request], transfers.rate[request] = size, now, 0.0
    transfers.active[transfers.num_active[0]] = request
    transfers.num_active[0] += 1
    out, into = state.requests.replica[source], state.requests.replica[request]
    transfers.counts[out, NUM_FLOWS] += 1
    transfers.counts[into, NUM_FLOWS] += 1
    _share(state, limits, now, out, into)
    state.moments[HORIZON] = min(state.moments[HORIZON], just_after(next_end(state)))


@inlined
def finish_next(state: State, limits: Limits) -> None:
    """End the transfer that ends first, of which both its replicas are told."""
    transfers, place, number = state.transfers, 0, state.transfers.num_active[0]
    for i in range(1, number):
        if transfers.end[transfers.active[i]] < transfers.end[transfers.active[place]]:
            place = i
    request = int(transfers.active[place])
    for i in range(place, number - 1):
        transfers.active[i] = transfers.active[i + 1]
    transfers.num_active[0] -= 1
    source, now = int(transfers.source[request]), float(transfers.end[request])
    out, into = state.requests.replica[source], state.requests.replica[request]
    transfers.counts[out, NUM_FLOWS] -= 1
    transfers.counts[into, NUM_FLOWS] -= 1
    _share(state, limits, now, out, into)
    _tell(state, into, request, now + limits.link.latency_s)
    _tell(state, out, source, now + limits.link.latency_s)


@inlined
def _tell(state: State, r: int, request: int, time: float) -> None:
    """Add to the news of a replica, which come in order of time, and let it look at them in time."""
    transfers, counts = state.transfers, state.transfers.counts[r]
    transfers.news_at[request], transfers.news_next[request] = time, NONE
    if counts[NEWS_FIRST] == NONE:
        counts[NEWS_FIRST] = request
    else:
        transfers.news_next[counts[NEWS_LAST]] = request
    counts[NEWS_LAST] = request
    if time < state.replicas.quiet_until[r]:
        replay(state.replicas.soonest, state.replicas.quiet_until, r, time)
