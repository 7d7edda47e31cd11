"""Sums of products of columns by stretches of time, from which a fit on any of them follows at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
STRETCHES = 40  # of the time of a run


@dataclass(frozen=True, eq=False)
class Sums:
    """Of each stretch X' W X, X' W y and y' W y, where W are the weights of its rows."""

    products: Floats  # [stretches, columns, columns]
    target: Floats  # [stretches, columns]
    squares: Floats  # [stretches]

    def of(self, stretches: Mask | NDArray[np.int64], columns: Sequence[int]) -> tuple[Floats, Floats, float]:
        """The sums over some stretches, one of which may count several times, of some columns."""
        which = list(columns)
        products = self.products[stretches].sum(axis=0)[np.ix_(which, which)]
        return products, self.target[stretches].sum(axis=0)[which], float(self.squares[stretches].sum())


def sums(columns: Floats, target: Floats, weights: Floats) -> Sums:
    """Add up ``columns``, float64[rows, columns], and ``target``, float64[rows], in STRETCHES of as many rows each."""
    parts = np.array_split(np.arange(len(target)), np.searchsorted(stretches_of(len(target)), np.arange(1, STRETCHES)))
    found = [products_of(columns[rows], target[rows], weights[rows]) for rows in parts]
    squares = [float(np.sum(weights[rows] * target[rows] ** 2)) for rows in parts]
    return Sums(np.array([one for one, _ in found]), np.array([one for _, one in found]), np.array(squares))


def products_of(columns: Floats, target: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """X' W X and X' W y. Not by BLAS, whose threads wait for each other for longer than these small products take."""
    weighted = columns * weights[:, None]
    return np.einsum("ri,rj->ij", weighted, columns), np.einsum("ri,r->i", weighted, target)


def stretches_of(rows: int) -> NDArray[np.int64]:
    """The stretch of each row, int64[rows]."""
    return np.arange(rows) * STRETCHES // max(1, rows)


def squares_left(sums: tuple[Floats, Floats, float], values: Floats) -> float:
    """The weighted sum of squares that is left with the given values of the columns."""
    products, target, squares = sums
    return float(squares - 2 * values @ target + values @ products @ values)
