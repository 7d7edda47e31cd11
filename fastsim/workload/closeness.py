"""How close two workloads are in their statistics."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.intensity import counted
from fastsim.workload.ranks import distance, rank_correlation
from fastsim.workload.reuse import SIZES
from fastsim.workload.workload import Workload

WINDOWS = (10, 100, 1000)  # mean gaps in a window in which arrivals are counted


@dataclass(frozen=True)
class Closeness:
    """The statistics of a trace and of a workload like it, in pairs.

    Parameters
    ----------
    kolmogorov_smirnov : dict of str to float
        The largest difference between the two distributions of num_prompt_tokens, num_output_tokens and gap.
    rate : float
        The mean difference of the shares of requests that have arrived, over the time in which requests of both arrive.
    rank_correlation : tuple of float
        Spearman's, of prompt and output tokens.
    gap_cv : tuple of float or None
        The coefficients of variation of the gaps.
    dispersion : dict of int to tuple
        Variance over mean of the arrivals in windows, by the mean number of arrivals in a window.
    hit_share : dict of str to tuple
        The shares of prompt tokens that a prefix cache hits, by its size in tokens or ``unbounded``; empty without
        hashes.
    """

    kolmogorov_smirnov: dict[str, float]
    rate: float
    rank_correlation: tuple[float, float]
    gap_cv: tuple[float | None, float | None]
    dispersion: dict[int, tuple[float, float]]
    hit_share: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON can hold them."""
        return asdict(self)


def closeness(trace: Workload, other: Workload) -> Closeness:
    """Compare a workload with the trace that it is like.

    Parameters
    ----------
    trace, other : Workload
        The trace, and the workload that was drawn like it.

    Returns
    -------
    Closeness
        Distances of their distributions, and their statistics in pairs.

    Examples
    --------
    >>> trace = fastsim.load_workload("chat", num_requests=2000)
    >>> close = fastsim.closeness(trace, fastsim.synthesise_like(trace, seed=1))
    >>> close.kolmogorov_smirnov["num_prompt_tokens"] < 0.05
    True
    """
    both = (trace, other)
    times = [each.arrived_at[~np.isnan(each.arrived_at)] for each in both]
    gaps = [np.diff(of) for of in times]
    distances = {"num_prompt_tokens": distance(trace.num_prompt_tokens, other.num_prompt_tokens)}
    distances["num_output_tokens"] = distance(trace.num_output_tokens, other.num_output_tokens)
    if all(map(len, gaps)):
        distances["gap"] = distance(gaps[0], gaps[1])
    shares: dict[str, tuple[float, float]] = {}
    if trace.hit_curve is not None and other.hit_curve is not None:
        first, second = trace.hit_curve, other.hit_curve
        shares = {str(size): (first.share(size), second.share(size)) for size in SIZES}
        shares["unbounded"] = first.share(), second.share()
    correlations = [rank_correlation(each.num_prompt_tokens, each.num_output_tokens) for each in both]
    cvs = [float(of.std() / of.mean()) if len(of) and of.mean() > 0 else None for of in gaps]
    return Closeness(
        distances,
        _of_rates(*times),
        (correlations[0], correlations[1]),
        (cvs[0], cvs[1]),
        _dispersions(*times),
        shares,
    )


def _of_rates(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The mean difference between the shares that have arrived, over the time in which requests of both arrive."""
    end = min(first[-1], second[-1])
    at = np.linspace(first[0], end, 1001)
    arrived = [np.searchsorted(each, at, side="right") for each in (first, second)]
    return float(np.abs(arrived[0] / arrived[0][-1] - arrived[1] / max(1, arrived[1][-1])).mean())


def _dispersions(first: NDArray[np.float64], second: NDArray[np.float64]) -> dict[int, tuple[float, float]]:
    found = {}
    for window in WINDOWS:
        if all(len(times) >= 4 * window and times[-1] > times[0] for times in (first, second)):
            both = []
            for times in (first, second):
                counts = counted(times, len(times) // window)
                both.append(float(counts.var() / counts.mean()))
            found[window] = both[0], both[1]
    return found
