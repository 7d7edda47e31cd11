"""The figures of a distribution: of values, of counted integers, and of a logarithmic histogram."""

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.accounts import histogram
from fastsim.result.metrics.definitions import QUANTILES, STATISTICS

Figures = dict[str, float | None]

NOTHING: Figures = dict.fromkeys(STATISTICS)


def of_values(values: NDArray[np.float64] | NDArray[np.integer]) -> Figures:
    """The figures of STATISTICS; what is not finite is left out. Quantiles as np.quantile has them."""
    ordered = np.sort(values)  # NaN comes last
    if ordered.dtype.kind == "f" and not np.isfinite(ordered[-1:]).all():
        ordered = ordered[np.isfinite(ordered)]
    if not len(ordered):
        return dict(NOTHING)
    ends = {"mean": float(ordered.mean()), "min": float(ordered[0]), "max": float(ordered[-1])}
    return {**ends, **dict(zip(QUANTILES, _quantiles(ordered), strict=True))}


def of_counts(counts: NDArray[np.int64], sizes: NDArray[np.int64], mean: float | None = None) -> Figures:
    """Of integers: ``counts[i]`` of them from ``sizes[i]`` up to the next; the first of these stands for all.

    Quantiles are the least that so many reach; ``mean`` where it is known.
    """
    number = int(counts.sum())
    if not number:
        return dict(NOTHING)
    there = np.flatnonzero(counts)
    if mean is None:
        mean = float(counts @ sizes[:-1]) / number
    places = np.searchsorted(np.cumsum(counts), np.array(list(QUANTILES.values())) * number)
    ends = {"mean": mean, "min": float(sizes[there[0]]), "max": float(sizes[there[-1]])}
    return {**ends, **dict(zip(QUANTILES, map(float, sizes[places]), strict=True))}


def of_bins(counts: NDArray[np.int64], mean: float | None = None, largest: float = np.inf) -> Figures:
    """Of times, s, by the bins of kernels.counters: within 0.8 %; ``mean`` and ``largest`` where they are known."""
    number = int(counts.sum())
    if not number:
        return dict(NOTHING)
    edges = histogram.edges()
    middles, there = (edges[:-1] + edges[1:]) / 2, np.flatnonzero(counts)
    if mean is None:
        mean = float(counts @ middles) / number
    places = np.searchsorted(np.cumsum(counts), np.array(list(QUANTILES.values())) * number)
    quantiles = map(float, np.minimum(middles[places], largest))
    ends = {"mean": mean, "min": float(min(edges[there[0]], largest)), "max": float(min(edges[there[-1] + 1], largest))}
    return {**ends, **dict(zip(QUANTILES, quantiles, strict=True))}


def _quantiles(ordered: NDArray[np.float64] | NDArray[np.integer]) -> list[float]:
    """Linear between neighbours in order; from the nearer one, as NumPy does, so that the bits agree."""
    at = np.array(list(QUANTILES.values())) * (len(ordered) - 1)
    low = at.astype(int)
    share, first = at - low, ordered[low]
    last = ordered[np.minimum(low + 1, len(ordered) - 1)]
    gap = last - first
    found: list[float] = np.where(share < 0.5, first + gap * share, last - gap * (1 - share)).tolist()
    return found


def ratio(part: float, whole: float) -> float | None:
    """None of nothing."""
    return float(part / whole) if whole else None
