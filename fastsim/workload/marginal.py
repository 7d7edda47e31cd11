"""The distribution of one column of a workload, from which other values of the same kind are drawn."""

from collections.abc import Callable
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.workload.ranks import distinct, of_ranks, ranks

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
    ordered = np.sort(values)
    number = len(ordered)
    masses, begins, ends = _masses(ordered)
    places = np.linspace(0, number - 1, min(number, KNOTS)).astype(np.int64)
    tails = np.unique(np.geomspace(1, number, 40).astype(np.int64)) - 1  # the extremes are told apart more finely
    single = np.unique(np.concatenate([places, tails, number - 1 - tails]))
    single = single[np.searchsorted(begins, single, side="right") == np.searchsorted(ends, single, side="right")]
    shares = np.concatenate([single + 0.5, begins, ends]) / number
    kept = np.concatenate([ordered[single], masses, masses]).astype(np.float64)
    order = np.lexsort((kept, shares))
    shares, kept = shares[order], kept[order]

    def law(scores: Floats) -> Floats:
        drawn: Floats = np.interp(ndtr(scores), shares, kept)
        return np.rint(drawn) if whole else drawn

    return law


def _masses(ordered: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64], NDArray[np.int64]]:
    """The values that recur so often that they are point masses, and where each begins and ends among all."""
    least = max(3, ceil(RECURS * len(ordered)))
    masses = distinct(ordered[least - 1 :][ordered[least - 1 :] == ordered[: len(ordered) - least + 1]])
    begins, ends = (np.searchsorted(ordered, masses, side=side) for side in ("left", "right"))
    return masses, begins, ends


def correlated(first: Law, second: Law, wanted: float) -> float:
    """Return the correlation of normal scores with which two laws have the rank correlation ``wanted``.

    Point masses weaken it, so it is found by trial, always on the same draws.
    """
    rng = np.random.default_rng(0)
    score, other = rng.standard_normal((2, CALIBRATED))
    ranked = ranks(first(score))
    low, high = -0.999, 0.999
    for _ in range(STEPS):
        middle = (low + high) / 2
        drawn = second(middle * score + (1 - middle**2) ** 0.5 * other)
        if of_ranks(ranked, ranks(drawn)) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
