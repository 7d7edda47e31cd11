"""Thins data for figures: quantiles of distributions, and bins with their extremes of series."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS = 400  # most points of a distribution
BINS = 240  # bins of a series


class Curve(NamedTuple):
    """Points of an empirical distribution, float64[points]: ``share`` of the values are at or below ``value``."""

    value: Floats
    share: Floats


class Level(NamedTuple):
    """Mean and extremes of a count, float64[bins], between ``edges[i]`` and ``edges[i + 1]``, float64[bins + 1], s."""

    edges: Floats
    mean: Floats
    low: Floats
    high: Floats


class Spread(NamedTuple):
    """Median, P90 and maximum of the values in each bin of time, float64[bins]; NaN in an empty bin."""

    edges: Floats
    median: Floats
    p90: Floats
    high: Floats


def curve(values: Floats, points: int = POINTS) -> Curve:
    """Return at most about ``points`` points of the distribution of ``values``.

    Half of the points are spaced evenly up to P99, the others lie beyond, ever closer to the maximum. Each is a point
    of the empirical distribution, so nothing is interpolated. NaN, which stands for a missing value, is left out.
    """
    ordered = np.sort(values[np.isfinite(values)])
    number = len(ordered)
    if number <= points:
        return Curve(ordered, np.arange(1, number + 1) / max(1, number))
    tail = 1 - np.geomspace(0.01, 1 / number, points - points // 2)
    ranks = np.unique(np.ceil(np.concatenate([np.linspace(0, 0.99, points // 2), tail, [1]]) * number).astype(int))
    ranks = ranks[ranks > 0]
    return Curve(ordered[ranks - 1], ranks / number)


def edges(first: float, last: float, bins: int = BINS) -> Floats:
    """Return the edges of equal bins between two times, s; of a bin of one second where both are the same."""
    return np.linspace(first, last if last > first else first + 1.0, bins + 1)


def level(begins: Floats, ends: Floats, at: Floats) -> Level:
    """Count what has begun and not ended, by bins with the edges ``at``, s; NaN stands for a time that never comes."""
    begins, ends = (np.sort(times[np.isfinite(times)]) for times in (begins, ends))

    def now(times: Floats) -> Floats:
        count = np.searchsorted(begins, times, "right") - np.searchsorted(ends, times, "right")
        return count.astype(np.float64)

    area = np.diff(_area(begins, at) - _area(ends, at))
    low = np.minimum(now(at[:-1]), now(at[1:]))
    high = np.maximum(now(at[:-1]), now(at[1:]))
    for times, extreme in ((begins, np.maximum), (ends, np.minimum)):
        inside = times[(times >= at[0]) & (times <= at[-1])]
        places = np.minimum(np.searchsorted(at, inside, "right") - 1, len(at) - 2)
        extreme.at(high if extreme is np.maximum else low, places, now(inside))
    return Level(at, area / np.diff(at), low, high)


def rate(times: Floats, at: Floats) -> Floats:
    """Return the number of ``times`` per second in each bin with the edges ``at``, s."""
    return np.histogram(times[np.isfinite(times)], at)[0] / np.diff(at)


def spread(times: Floats, values: Floats, at: Floats) -> Spread:
    """Return how the ``values`` are spread whose ``times`` lie in each bin with the edges ``at``, s."""
    kept = np.isfinite(times) & np.isfinite(values)
    places = np.clip(np.searchsorted(at, times[kept], "right") - 1, 0, len(at) - 2)
    order = np.lexsort((values[kept], places))
    ordered = values[kept][order]
    ends = np.cumsum(np.bincount(places, minlength=len(at) - 1))
    counts = np.diff(ends, prepend=0)

    def ranked(share: float) -> Floats:
        ranks = ends - counts + np.maximum(np.ceil(share * counts).astype(int) - 1, 0)
        found = np.full(len(counts), np.nan)
        found[counts > 0] = ordered[ranks[counts > 0]]
        return found

    return Spread(at, ranked(0.5), ranked(0.9), ranked(1.0))


def _area(times: Floats, until: Floats) -> Floats:
    """The time passed since each of ``times``, summed, at every ``until``, s."""
    past = np.searchsorted(times, until, "right")
    sums: Floats = until * past - np.concatenate([[0.0], np.cumsum(times)])[past]
    return sums
