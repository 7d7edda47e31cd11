"""The distribution of one column of a workload, from which other values of the same kind are drawn."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.tokens import rank_correlation

KNOTS = 1000  # quantiles that are kept between two values that recur
RECURS = 0.002  # the share of values that are equal from which on they are a point mass
CALIBRATED = 2**14  # draws by which a correlation is set
STEPS = 12  # halvings of the interval in which the correlation lies

Floats = NDArray[np.float64]
Law = Callable[[Floats], Floats]  # from normal scores to values


def marginal(values: NDArray[np.int64] | Floats) -> Law:
    """Return the law of ``values``: point masses stay, and between quantiles, out to the extremes, it is continuous.

    Whole numbers stay whole.
    """
    from scipy.special import ndtr  # type: ignore[import-untyped]

    whole = values.dtype.kind == "i"
    ordered = np.sort(values).astype(np.float64)
    number = len(ordered)
    begins = np.flatnonzero(np.diff(ordered, prepend=np.nan) != 0)
    counts = np.diff(begins, append=number)
    masses = counts >= max(3, RECURS * number)
    places = np.linspace(0, number - 1, min(number, KNOTS)).astype(np.int64)
    tails = np.unique(np.geomspace(1, number, 40).astype(np.int64)) - 1  # the extremes are told apart more finely
    single = np.unique(np.concatenate([places, tails, number - 1 - tails]))
    inside = np.zeros(number, bool)
    for begin, count in zip(begins[masses], counts[masses], strict=True):
        inside[begin : begin + count] = True
    single = single[~inside[single]]
    edges = np.concatenate([begins[masses], begins[masses] + counts[masses]]).astype(np.float64)
    shares = np.concatenate([single + 0.5, edges]) / number
    kept = np.concatenate([ordered[single], np.tile(ordered[begins[masses]], 2)])
    order = np.lexsort((kept, shares))
    shares, kept = shares[order], kept[order]

    def law(scores: Floats) -> Floats:
        drawn: Floats = np.interp(ndtr(scores), shares, kept)
        return np.rint(drawn) if whole else drawn

    return law


def correlated(first: Law, second: Law, wanted: float) -> float:
    """Return the correlation of normal scores with which two laws have the rank correlation ``wanted``.

    Point masses weaken it, so it is found by trial, always on the same draws.
    """
    rng = np.random.default_rng(0)
    score, other = rng.standard_normal((2, CALIBRATED))
    ranked = first(score)
    low, high = -0.999, 0.999
    for _ in range(STEPS):
        middle = (low + high) / 2
        drawn = second(middle * score + (1 - middle**2) ** 0.5 * other)
        if rank_correlation(ranked, drawn) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
