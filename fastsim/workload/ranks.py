"""Orders and ranks of values, their correlation, and the distance of two distributions."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

COUNTED = 2**16  # whole numbers from a range of at most so many values, or as many as there are numbers, are counted

Floats = NDArray[np.float64]


def rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Spearman's rank correlation; equal values have their mean rank. 0 where all values of one are equal."""
    return of_ranks(ranks(first), ranks(second))


def neighbours_correlation(values: Floats) -> float:
    """The rank correlation of each value with the one before it."""
    rank = ranks(values)
    # The ranks among all values but the first, or the last, of which equal ones share their mean rank.
    without = [(values > left_out) + 0.5 * (values == left_out) for left_out in (values[0], values[-1])]
    return of_ranks((rank - without[0])[1:], (rank - without[1])[:-1])


def of_ranks(first: Floats, second: Floats) -> float:
    """The correlation of two columns of ranks, float64[n] each."""
    first, second = first - first.mean(), second - second.mean()
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float(first @ second) / scale if scale > 0 else 0.0


def ranks(values: NDArray[Any]) -> Floats:
    """The rank of each value, float64[n], from 1; equal values have their mean rank."""
    if values.dtype.kind == "i" and len(values):
        least = int(values.min())
        if int(values.max()) - least <= max(COUNTED, len(values)):
            above = values - least
            of_counted: Floats = _mean_ranks(np.bincount(above))[above]
            return of_counted
    first, rank = first_of_each(np.sort(values)), np.empty(len(values))
    if first.all():
        in_order = np.arange(1.0, len(values) + 1)
    else:
        counts = np.diff(np.flatnonzero(first), append=len(values))
        in_order = np.repeat(_mean_ranks(counts), counts)
    rank[np.argsort(values)] = in_order
    return rank


def _mean_ranks(counts: NDArray[np.int64]) -> Floats:
    """The mean rank of each group of equal values, in their order, that has so many of them."""
    mean: Floats = np.cumsum(counts) - (counts - 1) / 2
    return mean


def ascending(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of whole numbers in ascending order, int64[n], as ``np.argsort`` does if it is stable.

    Each number is sorted in one word with its position, if both fit in it, which is many times as fast.
    """
    number = len(values)
    if (values[1:] >= values[:-1]).all():
        return np.arange(number)
    least, bits = int(values.min()), number.bit_length()
    if (int(values.max()) - least) >> (63 - bits):
        return np.argsort(values, kind="stable")
    words = values - least
    words <<= bits
    words |= np.arange(number)
    words.sort()
    words &= (1 << bits) - 1
    return words


def distinct(ordered: NDArray[Any]) -> NDArray[Any]:
    """Each of the values, which ascend, once."""
    return ordered[first_of_each(ordered)]


def first_of_each(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Where values, which ascend, differ from the one before, bool[n]."""
    first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return first


def distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """The statistic of the Kolmogorov-Smirnov test of two samples: the largest difference of their distributions."""
    few, many = sorted((np.sort(first), np.sort(second)), key=len)
    values = distinct(few)
    # Between two values of the smaller sample the other distribution only rises, so it differs most at their ends.
    differences = []
    for side in ("left", "right"):
        shares = [np.searchsorted(each, values, side=side) / len(each) for each in (few, many)]
        differences.append(np.abs(shares[0] - shares[1]).max())
    return float(max(differences))
