"""Fits times of steps as a sum of columns: within bounds, robustly, and only what the data can tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.bounded import Floats, solve
from fastsim.calibration.sums import STRETCHES, Mask, Sums, products_of, squares_left, sums

FOLDS = 5  # stretches of time that are held out in turn
DRAWS = 200  # of stretches, for intervals
SEED = 0
ROBUST = 1.5  # standard deviations, beyond which a step counts less and less, as Huber's
ITERATIONS = 15  # of weights
ALIKE = 0.95  # share of a column that others explain, from which on it cannot be told apart from them


@dataclass(frozen=True, eq=False)
class Column:
    """What a coefficient is multiplied by.

    Attributes
    ----------
    name : of the coefficient.
    values : float64[steps].
    least, most : bounds of what is added to its prior.
    is_kept : whether it is fitted in any case.
    words : what it is called instead of its name.
    """

    name: str
    values: Floats
    least: float = 0.0
    most: float = np.inf
    is_kept: bool = False
    words: str = ""


@dataclass(frozen=True, eq=False)
class Fit:
    """Values of the columns that explain times.

    Attributes
    ----------
    values : float64[columns]; 0 where the column is left out.
    draws : float64[draws, columns], the same of stretches that are drawn anew, for intervals.
    stretches : int64[draws, STRETCHES], the stretches of each draw.
    left : by name of a column that is left out, why.
    """

    values: Floats
    draws: Floats
    stretches: NDArray[np.int64]
    left: dict[str, str]


def fit(columns: Sequence[Column], target: Floats, weights: Floats, draws: int = DRAWS) -> Fit:
    """Fit the columns to ``target``, float64[rows], whose rows are in the order of time and have ``weights``.

    A column is left out if the error on stretches of time that are held out in turn is not larger without it.
    """
    values, bounds = matrix(columns)
    added = sums(values, target, weights)
    kept, left = _kept(columns, added, bounds, len(target))
    drawn = np.random.default_rng(SEED).integers(0, STRETCHES, (draws, STRETCHES))
    found = [_solved(added, stretches, kept, bounds) for stretches in (np.arange(STRETCHES), *drawn)]
    return Fit(found[0], np.array(found[1:]).reshape(draws, len(columns)), drawn, left)


def matrix(columns: Sequence[Column]) -> tuple[Floats, tuple[Floats, Floats]]:
    """The columns side by side, float64[rows, columns], and their bounds, float64[columns] each."""
    bounds = np.array([column.least for column in columns]), np.array([column.most for column in columns])
    return np.column_stack([column.values for column in columns]), bounds


def weights_of(columns: Sequence[Column], seconds: Floats) -> Floats:
    """The weight of each step, float64[steps]: 1 over its time as fitted, and less where it is far from it.

    Pauses of a machine come in proportion to the time of a step, so that its variance does; they are long and rare, so
    that steps far off count less.
    """
    values, bounds = matrix(columns)
    expected, weights = np.full(len(seconds), float(np.median(seconds))), np.ones(len(seconds))
    for _ in range(ITERATIONS):
        found = solve(*products_of(values, seconds, weights / expected), *bounds)
        expected = np.maximum(values @ found, 0.05 * float(np.median(seconds)))
        off = (seconds - expected) / np.sqrt(expected)
        weights = huber(off, spread_of(off))
    return np.asarray(weights / expected)


def huber(off: Floats, spread: float) -> Floats:
    """Weights that are 1 up to ROBUST times the spread, and fall with the distance beyond."""
    return np.asarray(1 / np.maximum(1.0, np.abs(off) / max(ROBUST * spread, 1e-300)))


def spread_of(off: Floats) -> float:
    """The standard deviation of what is off, by its median."""
    return 1.4826 * float(np.median(np.abs(off - np.median(off))))


def _kept(
    columns: Sequence[Column], added: Sums, bounds: tuple[Floats, Floats], rows: int
) -> tuple[list[int], dict[str, str]]:
    """The columns without which held-out errors are larger, and for the others why they are left out.

    The first to go is the one without which the error on all rows is smallest.
    """
    kept, left = list(range(len(columns))), dict[str, str]()
    error, whole = _held_out(added, kept, bounds), np.ones(STRETCHES, bool)
    while others := [one for one in kept if not columns[one].is_kept]:
        worst = min(
            others, key=lambda other: _left_over(added, [one for one in kept if one != other], bounds, whole, whole)
        )
        fewer = [one for one in kept if one != worst]
        without = _held_out(added, fewer, bounds)
        if without > error * (1 + 2 / rows):  # as Akaike's criterion
            break
        error, kept = without, fewer
        left[columns[worst].name] = _why(columns, added, kept, worst)
    return kept, left


def _why(columns: Sequence[Column], added: Sums, kept: list[int], worst: int) -> str:
    products, _, _ = added.of(np.ones(STRETCHES, bool), [*kept, worst])
    inner, cross, own = products[:-1, :-1], products[:-1, -1], float(products[-1, -1])
    free = np.full(len(kept), np.inf)
    explained = float(cross @ solve(inner, cross, -free, free)) / own if own else 1.0
    if explained < ALIKE or not own:
        return "held-out errors are no larger without it"
    alike = np.abs(cross) / np.sqrt(np.diag(inner) * own)
    other = columns[kept[int(np.argmax(alike))]]
    return f"the data cannot tell it apart from {other.words or other.name}"


def _held_out(added: Sums, kept: list[int], bounds: tuple[Floats, Floats]) -> float:
    """The squares that are left on each fold, with the values that are fitted on all others."""
    return sum(_left_over(added, kept, bounds, ~held, held) for held in folds())


def _left_over(added: Sums, kept: list[int], bounds: tuple[Floats, Floats], fitted: Mask, judged: Mask) -> float:
    """The squares that are left on some stretches, with the values that are fitted on others."""
    found = solve(*added.of(fitted, kept)[:2], bounds[0][kept], bounds[1][kept])
    return squares_left(added.of(judged, kept), found)


def folds() -> list[Mask]:
    """The stretches of each fold, bool[STRETCHES]."""
    fold = np.arange(STRETCHES) * FOLDS // STRETCHES
    return [fold == number for number in range(FOLDS)]


def _solved(added: Sums, stretches: NDArray[np.int64], kept: list[int], bounds: tuple[Floats, Floats]) -> Floats:
    values = np.zeros(len(bounds[0]))
    values[kept] = solve(*added.of(stretches, kept)[:2], bounds[0][kept], bounds[1][kept])
    return values
