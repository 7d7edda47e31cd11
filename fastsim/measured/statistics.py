"""Figures of a run by request, measured or predicted, and how far one is from the other."""

from typing import NamedTuple

import numpy as np

from fastsim.measured.measured import Floats

LATENCIES = ("ttft", "tpot", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p99")
SHORTEST = 1e-12  # s, or per s; less is what rounding leaves of 0
RATES = ("output_tokens_per_s", "requests_per_s")


class Pair(NamedTuple):
    """A figure as it was measured, and as it is predicted."""

    measured: float
    predicted: float

    @property
    def error(self) -> float | None:
        """Predicted over measured, less 1; None where nothing was measured but 0."""
        if abs(self.measured) < SHORTEST:
            return 0.0 if abs(self.predicted) < SHORTEST else None
        return self.predicted / self.measured - 1

    def as_dict(self) -> dict[str, float | None]:
        """Both figures, the signed error as a share, and the absolute one in the unit of the figures."""
        return {**self._asdict(), "error": self.error, "absolute_error": abs(self.predicted - self.measured)}


class Likeness(NamedTuple):
    """How far a latency of each request is from what was measured of it.

    ``correlation`` is Pearson's; None where all requests have the same. ``mean_absolute_error`` is in s, and
    ``mean_absolute_share`` a share of what was measured.
    """

    correlation: float | None
    mean_absolute_error: float
    mean_absolute_share: float | None


def distribution(values: Floats) -> dict[str, float]:
    """Mean, P50, P90 and P99 of the values that are known; empty where there are none."""
    known = values[~np.isnan(values)]
    if not len(known):
        return {}
    return {"mean": float(known.mean()), **{f"p{p}": float(np.percentile(known, p)) for p in (50, 90, 99)}}


def rates(seconds: float | None, num_output_tokens: int, num_requests: int) -> dict[str, float]:
    """Throughput of a run of so many seconds; empty where its length is not known."""
    if seconds is None or not seconds > SHORTEST:
        return {}
    return dict(zip(RATES, (num_output_tokens / seconds, num_requests / seconds), strict=True))


def likeness(measured: Floats, predicted: Floats) -> Likeness | None:
    """Compare a latency request by request, float64[num_requests] each, s; None where none is known."""
    known = ~(np.isnan(measured) | np.isnan(predicted))
    ours, theirs = predicted[known], measured[known]
    if not len(ours):
        return None
    apart = np.abs(ours - theirs)
    varied = np.ptp(ours) > SHORTEST and np.ptp(theirs) > SHORTEST
    some = theirs > SHORTEST
    return Likeness(
        float(np.corrcoef(ours, theirs)[0, 1]) if varied else None,
        float(apart.mean()),
        float((apart[some] / theirs[some]).mean()) if some.any() else None,
    )
