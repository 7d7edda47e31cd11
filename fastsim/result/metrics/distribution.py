"""The figures of a distribution, from values, from counted integers, or from a logarithmic histogram of times."""

from collections.abc import Collection, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.accounts import scale
from fastsim.result.metrics.definitions import QUANTILES, STATISTICS

Figures = dict[str, float | None]

UNMEASURED: Figures = dict.fromkeys(STATISTICS)


def of_values(
    values: NDArray[np.float64] | NDArray[np.integer], statistics: Collection[str] = tuple(STATISTICS)
) -> Figures:
    """Return the figures of ``statistics`` over the finite values, each None if there are none.

    Quantiles are those of np.quantile.
    """
    ordered = np.sort(values)  # NaN comes last
    if ordered.dtype.kind == "f" and not np.isfinite(ordered[-1:]).all():
        ordered = ordered[np.isfinite(ordered)]
    if not len(ordered):
        return dict.fromkeys(statistics)
    figures: Figures = {"min": float(ordered[0]), "max": float(ordered[-1])}
    if "mean" in statistics:
        figures["mean"] = float(ordered.mean())
    shares = {name: share for name, share in QUANTILES.items() if name in statistics}
    figures |= zip(shares, _quantiles(ordered, list(shares.values())), strict=True)
    return {name: figures[name] for name in statistics}


def of_counts(counts: NDArray[np.int64], sizes: NDArray[np.int64], mean: float | None = None) -> Figures:
    """Return the figures of STATISTICS over counted integers, each None if none was counted.

    Parameters
    ----------
    counts : int64[n]
        ``counts[i]`` integers are at least ``sizes[i]`` and below ``sizes[i + 1]``; all of them count as ``sizes[i]``.
    sizes : int64[n + 1]
        The bounds of the bins, ascending.
    mean : float, optional
        The exact mean if it is known; otherwise it is computed from the bins.

    Returns
    -------
    dict
        Figures by statistic. A quantile is the least size that has the share of the integers at or below it.
    """
    total = int(counts.sum())
    if not total:
        return dict(UNMEASURED)
    filled = np.flatnonzero(counts)
    if mean is None:
        mean = float(counts @ sizes[:-1]) / total
    bins = np.searchsorted(np.cumsum(counts), np.array(list(QUANTILES.values())) * total)
    ends = {"mean": mean, "min": float(sizes[filled[0]]), "max": float(sizes[filled[-1]])}
    return {**ends, **dict(zip(QUANTILES, map(float, sizes[bins]), strict=True))}


def of_bins(counts: NDArray[np.int64], mean: float | None = None, largest: float = np.inf) -> Figures:
    """Return the figures of STATISTICS over times in seconds, within 0.8 %, each None if none was counted.

    Parameters
    ----------
    counts : int64[NUM_BINS]
        Times in each bin of ``kernels.accounts.scale``.
    mean, largest : float, optional
        The exact mean and the largest time, s, if they are known.
    """
    total = int(counts.sum())
    if not total:
        return dict(UNMEASURED)
    edges, middles = bins_of_times()
    filled = np.flatnonzero(counts)
    if mean is None:
        mean = float(counts @ middles) / total
    bins = np.searchsorted(np.cumsum(counts), np.array(list(QUANTILES.values())) * total)
    quantiles = map(float, np.minimum(middles[bins], largest))
    low, high = edges[filled[0]], edges[filled[-1] + 1]
    ends = {"mean": mean, "min": float(min(low, largest)), "max": float(min(high, largest))}
    return {**ends, **dict(zip(QUANTILES, quantiles, strict=True))}


@cache
def bins_of_times() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The edges of the bins of ``kernels.accounts.scale``, float64[NUM_BINS + 1], s, and their middles. Shared."""
    edges = scale.edges()
    middles = (edges[:-1] + edges[1:]) / 2
    edges.flags.writeable = middles.flags.writeable = False
    return edges, middles


def _quantiles(ordered: NDArray[np.float64] | NDArray[np.integer], shares: Sequence[float]) -> list[float]:
    """Return the quantiles of ascending values, interpolated from the nearer neighbour, so that they equal NumPy's."""
    at = np.array(shares) * (len(ordered) - 1)
    low = at.astype(int)
    share, first = at - low, ordered[low]
    last = ordered[np.minimum(low + 1, len(ordered) - 1)]
    gap = last - first
    quantiles: list[float] = np.where(share < 0.5, first + gap * share, last - gap * (1 - share)).tolist()
    return quantiles


def ratio(part: float, whole: float) -> float | None:
    """Return ``part / whole``, or None if ``whole`` is 0."""
    return float(part / whole) if whole else None
