"""Arrivals like those of a trace: the same rate over time, and gaps as uneven within it."""

from dataclasses import dataclass
from math import ceil, gcd, log

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.marginal import Law, correlated, marginal
from fastsim.workload.ranks import distinct, neighbours_correlation

PER_BIN = 50  # arrivals in a bin of the rate curve, at least on average
MOST_BINS = 2**10
TICKS = 2, 0.05  # requests at the same time, on average, and the coefficient of variation of times between such times
EVEN = 0.05  # the least index of dispersion that is assumed, so that even streams have no spurious rate curve
GRID = 1e-3  # s: times that are multiples of this, or of more, stay so
ANCHORS, ANCHORED = 8, 200  # times at which the clock is set to the rate curve again: 8, or fewer, 200 requests apart
SLICE = 2**16  # times that are looked over at once
MEMORY = 64  # gaps after which the correlation with a gap is forgotten

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Arrivals:
    """A rate curve, and the law of the gaps in units of the mean gap at the time.

    Parameters
    ----------
    edges : float64[num_bins + 1]
        The times, s, between which the rate is constant.
    expected : float64[num_bins + 1]
        Gaps up to each of these times.
    gap : Law
        The law of gaps in units of the mean gap at the time.
    seconds : Law
        The law of gaps in seconds.
    score : float
        The correlation of the normal scores of two gaps in succession.
    grid : float
        The times are multiples of this, s; 0 where they are not.
    tick : Law or None
        The law of the times, s, between two ticks, where requests were only seen at ticks of a clock.
    """

    edges: Floats
    expected: Floats
    gap: Law
    seconds: Law
    score: float
    grid: float
    tick: Law | None = None


def fit(times: Floats) -> Arrivals:
    """Return the arrivals that ``times``, float64[n], s, ascending, are an example of."""
    span, number = float(times[-1] - times[0]), len(times) - 1
    if not span > 0:
        return Arrivals(times[[0, -1]], np.zeros(2), np.zeros_like, np.zeros_like, 0.0, 0.0)
    grid, tick = _grid(times), None
    ticks = distinct(times)
    between = np.diff(ticks)
    if len(times) > TICKS[0] * len(ticks) and len(ticks) > PER_BIN and between.std() < TICKS[1] * between.mean():
        tick = marginal(between)
        spread = np.random.default_rng(0).random(len(times)) * between.mean()  # requests came at any time before
        times = np.sort(np.maximum(times - spread, times[0]))
    counts = _binned(times)
    edges = np.linspace(times[0], times[-1], len(counts) + 1)
    expected = np.concatenate([[0.0], np.cumsum(counts)]) * (number / counts.sum())
    gaps = np.diff(np.interp(times, edges, expected))
    law = marginal(gaps)
    score = 0.0
    if number > PER_BIN:
        score = correlated(law, law, neighbours_correlation(gaps))
    return Arrivals(edges, expected, law, marginal(np.diff(times)), score, grid, tick)


def draw(arrivals: Arrivals, number: int, rng: np.random.Generator) -> Floats:
    """Draw ``number`` arrival times, float64[number], s. After the end of the rate curve it begins again."""
    from scipy.special import ndtri  # type: ignore[import-untyped]

    scores = rng.standard_normal(number + MEMORY)
    weights = arrivals.score ** np.arange(MEMORY + 1)
    scores = np.convolve(scores, weights / np.sqrt((weights**2).sum()), mode="valid")  # float64[number]
    passed = np.concatenate([[0.0], np.cumsum(arrivals.gap(scores[1:]))])
    total, span = float(arrivals.expected[-1]), float(arrivals.edges[-1] - arrivals.edges[0])
    if passed[-1] > 0:
        passed *= (number - 1) / passed[-1]
    rounds = np.floor(passed / total) if total > 0 else np.zeros(number)
    rounds[passed == total] = 0  # the last arrival of the trace ends its curve
    times = np.interp(passed - rounds * total, arrivals.expected, arrivals.edges) + rounds * span
    order = np.argsort(np.diff(times), kind="stable")
    gaps = np.empty(number - 1)
    gaps[order] = arrivals.seconds(ndtri((np.arange(number - 1) + 0.5) / (number - 1)))
    drifted = np.concatenate([times[:1], times[0] + np.cumsum(gaps)])
    anchors = np.linspace(0, number - 1, 1 + min(ANCHORS, ceil(number / ANCHORED))).astype(np.int64)
    times = np.interp(drifted, drifted[anchors], times[anchors])
    if arrivals.tick is not None:
        ticks = [float(times[0])]
        while ticks[-1] < times[-1]:
            ticks.extend(ticks[-1] + np.cumsum(arrivals.tick(rng.standard_normal(len(times)))))
        times = np.array(ticks)[np.searchsorted(ticks, times)]
    if arrivals.grid:
        times = np.rint(times / arrivals.grid) * arrivals.grid
    return np.maximum.accumulate(times)


def counted(times: Floats, bins: int) -> NDArray[np.int64]:
    """Arrivals in each of ``bins`` bins of equal width, int64[bins], from the first of ``times``, s, to the last.

    The times ascend, so a search for the edges tells the counts of ``np.histogram``.
    """
    edges = np.linspace(times[0], times[-1], bins + 1)
    return np.diff(np.append(np.searchsorted(times, edges[:-1]), len(times)))


def _binned(times: Floats) -> NDArray[np.int64]:
    """Arrivals in bins of equal width: as many bins as tell more of the rate than chance would.

    The number is that of the best Bayesian information criterion, for counts that are as uneven as neighbouring bins.
    """
    best, chosen = -np.inf, np.array([len(times)])
    most = min(MOST_BINS, ceil(len(times) / PER_BIN))
    finest = counted(times, max(2, most))
    uneven = min(1.0, max(EVEN, float((np.diff(finest) ** 2).mean() / (2 * finest.mean()))))
    for bins in sorted({1, *(2**k for k in range(1, MOST_BINS.bit_length())), most}):
        if bins > most:
            break
        counts = counted(times, bins)
        filled = counts[counts > 0]
        likelihood = float((filled * np.log(filled * bins / len(times))).sum()) / uneven
        criterion = likelihood - bins / 2 * log(len(times))
        if criterion > best:
            best, chosen = criterion, counts
    return chosen


def _grid(times: Floats) -> float:
    """The step that all times are multiples of, s, as in a trace with times in whole seconds; 0 without one."""
    step = 0
    for first in range(0, len(times), SLICE):
        part = times[first : first + SLICE]
        ticks = np.rint(part / GRID)
        if (np.abs(ticks * GRID - part) > GRID / 1000).any():
            return 0.0
        step = gcd(step, int(np.gcd.reduce(ticks.astype(np.int64))))
    return float(step) * GRID
