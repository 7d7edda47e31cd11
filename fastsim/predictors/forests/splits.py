"""Rows that are kept from training, to test a forest on shapes that it has not seen."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from fastsim.predictors.chip import Floats

Rows = NDArray[np.bool_]
Split = Callable[[Floats, "np.random.Generator"], tuple[Rows, Rows]]
FOLDS = 5
LARGE = 16384  # of n and k: between it and the next ones, 51200 and 65536, lie most gate-up projections


def pairs(columns: tuple[int, ...]) -> Split:
    """Hold out a fifth of the combinations of values in ``columns``: each value is known, the combination is not."""

    def split(shape: Floats, rng: np.random.Generator) -> tuple[Rows, Rows]:
        combinations, of_row = np.unique(shape[:, columns], axis=0, return_inverse=True)
        held: Rows = np.isin(
            of_row.ravel(), rng.choice(len(combinations), max(1, len(combinations) // 5), replace=False)
        )
        return ~held, held

    return split


def values(columns: tuple[int, int]) -> Split:
    """Hold out a fifth of the inner values of two columns.

    Rows with an unseen value in both columns test the forest; rows with only one are not used.
    """

    def split(shape: Floats, rng: np.random.Generator) -> tuple[Rows, Rows]:
        unseen = np.empty((2, len(shape)), dtype=bool)
        for row, column in zip(unseen, columns, strict=True):
            inner = np.unique(shape[:, column])[1:-1]
            row[:] = len(inner) > 0 and np.isin(
                shape[:, column], rng.choice(inner, max(1, len(inner) // 5), replace=False)
            )
        return np.asarray(~unseen.any(axis=0)), np.asarray(unseen.all(axis=0))

    return split


def large(shape: Floats, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Hold out every row with n or k above 16384."""
    held = (shape[:, 1:] > LARGE).any(axis=1)
    return np.asarray(~held), np.asarray(held)


def folds(split: Split, shape: Floats, seed: int, count: int = FOLDS) -> Iterator[tuple[Rows, Rows]]:
    """Yield training rows and held-out rows ``count`` times, or once where the split draws nothing at random."""
    for fold in range(1 if split is large else count):
        train, held = split(shape, np.random.default_rng([seed, fold]))
        if held.any() and train.any():
            yield train, held
