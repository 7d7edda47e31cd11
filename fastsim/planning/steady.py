"""How long a run must last to be steady: in simulated seconds, from the slowest time constant of what it shows."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from fastsim.planning.stream import MOST_REQUESTS
from fastsim.result.metrics.definitions import QUANTILES
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.probe import Probed
from fastsim.workload import Workload
from fastsim.workload.following import earliest

WAITING = ("scheduling_delay", "ttft", "e2e")  # latencies that grow with the queue
DRIFT = "a queue that grows"  # beside the objectives that are not met
LEAST_S = 100.0  # s
WITHOUT_WAITING_S = 200.0  # where no objective limits how long a request waits, and drift alone shows an overload
FEW = 10  # requests above a quantile
REQUESTS = 5  # times the longest request that a run lasts
SESSIONS = 2  # times the P99 of the lengths of sessions that it lasts


def seconds(objectives: Sequence[Objective], tolerance: float, unit: Workload | None = None) -> float:
    """How long a run must last for its objectives to show an overload of ``tolerance``, s.

    With an overload of a share d the queue grows all the time, and a request that arrives after t seconds waits d * t
    longer; at the quantile q of a run of T seconds, that is d * q * T. ``unit``: requests whose sessions count too.
    """
    shown = overload_times_span(objectives)
    least = WITHOUT_WAITING_S if shown is None else shown / tolerance
    return max(LEAST_S, least, SESSIONS * _session(unit) if unit is not None else 0.0)


def overload_times_span(objectives: Sequence[Objective]) -> float | None:
    """The share of overload that an objective shows in a run, times the length of that run, s; None: none shows any."""
    shown = [
        each.limit / QUANTILES.get(each.statistic, 1.0 if each.statistic == "max" else 0.5)
        for each in objectives
        if each.metric in WAITING and each.statistic != "min" and np.isfinite(each.limit)
    ]
    return min(shown, default=None)


def requests(rate: float, span: float, least: int, most: int) -> int:
    """The requests of a run of ``span`` s at ``rate``, from ``least`` to ``most`` (or ``least`` if it is more)."""
    return max(least, min(ceil(rate * span), most))


def above_quantiles(objectives: Sequence[Objective]) -> int:
    """The requests of a run of which FEW lie above the quantile of each objective: with fewer, it is mostly chance."""
    shares = [1 - QUANTILES[each.statistic] for each in objectives if QUANTILES.get(each.statistic)]
    return min(MOST_REQUESTS, ceil(FEW / min(shares) - 1e-6)) if shares else 1


def outlasting(probed: Probed, number: int, most: int) -> int:
    """The requests of a run that outlasts the longest request of a run of ``number`` requests REQUESTS times."""
    return requests(probed.rate, REQUESTS * probed.longest, number, most)


def judged(probed: Probed) -> Probed:
    """The same run, which fails if its queue grows."""
    if not probed.drift:
        return probed
    return replace(probed, met=False, broken=(*probed.broken, DRIFT))


def _session(unit: Workload) -> float:
    """The P99 of the time from the first turn of a session to its last, s, as long as no answer takes any time."""
    if unit.session_id is None or unit.think_time is None:
        return 0.0
    times = earliest(unit.arrived_at, unit.session_id, unit.think_time)
    if np.isnan(times).any():  # a closed loop
        return 0.0
    _, place = np.unique(unit.session_id, return_inverse=True)
    first, last = np.full(place.max() + 1, np.inf), np.zeros(place.max() + 1)
    np.minimum.at(first, place, times)
    np.maximum.at(last, place, times)
    return float(np.quantile(last - first, 0.99))
