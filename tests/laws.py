"""Laws of distributions, written by hand, that draws are compared with."""

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def far(values: NDArray[Any], cdf: Callable[[Floats], Floats]) -> float:
    """The distance of Kolmogorov and Smirnov between values and a law, times the root of their number.

    It is above 1.95 for one draw in a thousand. For whole numbers it is smaller; the cdf is that of at most so many.
    """
    ordered, counts = np.unique(values, return_counts=True)
    until = np.cumsum(counts) / len(values)
    if (ordered == np.rint(ordered)).all():
        return float(np.abs(cdf(ordered) - until).max() * np.sqrt(len(values)))
    before = until - counts / len(values)
    law = cdf(ordered)
    return float(max((until - law).max(), (law - before).max()) * np.sqrt(len(values)))


def normal(values: Floats) -> Floats:
    """The cdf of the standard normal distribution."""
    return np.array([(1 + erf(value / 2**0.5)) / 2 for value in values])


def exponential(values: Floats) -> Floats:
    """The cdf of the exponential distribution of mean 1."""
    law: Floats = 1 - np.exp(-values)
    return law
