"""How many requests run, wait and are in flight over time, measured and predicted."""

from typing import NamedTuple

import numpy as np

from fastsim.measured.measured import Floats

POINTS = 1000  # at which both are counted


class Counts(NamedTuple):
    """Requests at points in time: ``times``, ``measured`` and ``predicted`` are float64[POINTS], s and requests."""

    times: Floats
    measured: Floats
    predicted: Floats

    @property
    def mean_absolute_difference(self) -> float:
        """Between measured and predicted, requests."""
        return float(np.abs(self.predicted - self.measured).mean())


class Times(NamedTuple):
    """When requests were sent, entered a batch and finished, float64[num_requests] each, s; None: it is not known."""

    arrived_at: Floats
    scheduled_at: Floats | None
    finished_at: Floats


def counts(measured: Times, predicted: Times) -> dict[str, Counts]:
    """Requests that run, wait and are in flight; only those in flight where it is not known when they were scheduled.

    A request waits until it first enters a batch, and runs until it has finished. Both runs are counted at the same
    points from the first arrival until both have ended.
    """
    begin = min(float(measured.arrived_at.min()), float(predicted.arrived_at.min()))
    end = max(float(np.nanmax(run.finished_at)) for run in (measured, predicted))
    times: Floats = begin + (np.arange(POINTS, dtype=np.float64) + 0.5) * ((end - begin) / POINTS)
    ours, theirs = _levels(predicted, times), _levels(measured, times)
    return {name: Counts(times, theirs[name], ours[name]) for name in ours if name in theirs}


def _levels(run: Times, times: Floats) -> dict[str, Floats]:
    arrived, finished = (_until(each, times) for each in (run.arrived_at, run.finished_at))
    found = {"in_flight": arrived - finished}
    if run.scheduled_at is not None:
        scheduled = _until(run.scheduled_at, times)
        found = {"running": scheduled - finished, "waiting": arrived - scheduled, **found}
    return found


def _until(moments: Floats, times: Floats) -> Floats:
    """How many of the moments are not after each of the times, float64[num_times]."""
    return np.searchsorted(np.sort(moments[~np.isnan(moments)]), times, "right").astype(np.float64)
