"""Users of a closed loop beside other requests: each user is a session, whose requests follow each other."""

from collections.abc import Sequence
from dataclasses import replace
from heapq import heapify, heapreplace

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.following import NONE, previous_turns
from fastsim.workload.workload import Workload

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


def as_sessions(loop: Workload) -> Workload:
    """Return a drawn closed loop with a session for each of its users, who take turns at its requests or sessions.

    A user begins a request, or a session, once the one before it has ended. The number of the session is the user's.
    """
    before = previous_turns(loop.num_requests, loop.session_id, loop.think_time)
    entries = before == NONE
    users = min(loop.max_concurrency or 1, int(entries.sum()))
    task = np.cumsum(entries) - 1  # the turns of a session lie together, as they are drawn
    known = ~np.isnan(loop.arrived_at)
    think = None if loop.think_time is None else np.where(known, np.nan, loop.think_time)
    return replace(loop, session_id=task % users, think_time=think, max_concurrency=None)


def numbers(weights: Sequence[float], total: int) -> list[int]:
    """Share ``total`` requests among tenants in proportion to their weights; more requests are no fewer for any."""
    whole = sum(weights)
    counts = [int(total * weight / whole) for weight in weights]
    soonest = [
        ((count + 1) / weight, index)
        for index, (count, weight) in enumerate(zip(counts, weights, strict=True))
        if weight
    ]
    heapify(soonest)
    for _ in range(total - sum(counts)):
        index = soonest[0][1]
        counts[index] += 1
        heapreplace(soonest, ((counts[index] + 1) / weights[index], index))
    return counts


def interleave(starts: Floats, weight: float, loops: Sequence[tuple[Workload, float]]) -> Integers:
    """Return the order in which to list requests that arrive by themselves and those of loops, int64[n].

    Known arrivals ascend, and the requests of each user keep their order. Beyond that, the requests of all are evenly
    spread, in proportion to their weights.

    Parameters
    ----------
    starts : float64[m]
        When the requests that arrive by themselves, or the tasks that they are part of, begin, s: ascending.
    weight : float
        The weight of these together.
    loops : sequence of (Workload, float)
        The users of each loop as sessions, see ``as_sessions``, and the weight of the loop.
    """
    keys, times = [np.arange(1.0, len(starts) + 1) / (weight or 1.0)], [starts]
    for loop, of_loop in loops:
        key = np.arange(1.0, loop.num_requests + 1) / of_loop
        known = ~np.isnan(loop.arrived_at)
        key[known] = np.searchsorted(starts, loop.arrived_at[known]) / (weight or 1.0)
        assert loop.session_id is not None
        keys.append(np.maximum(key, key[known][loop.session_id]))
        times.append(np.where(known, loop.arrived_at, np.inf))
    return np.lexsort((np.concatenate(times), np.concatenate(keys)))
