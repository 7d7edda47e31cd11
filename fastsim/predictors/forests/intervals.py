"""Intervals: how wide a prediction must be to hold the true time for 90 % of unseen shapes.

Split conformal prediction (Lei et al., 2018, "Distribution-free predictive inference for regression", section 5.2):
the error of log times on held-out rows, divided by how far the trees disagree there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastsim.predictors.chip import Floats

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Held:
    """Held-out rows of one fold: the error of log time, and its standard deviation over the trees; float64[rows]
    each.
    """

    error: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """An interval of log time, whose half-width is quantile * (spread + floor)."""

    level: float
    floor: float
    quantile: float

    def half_width(self, spread: Floats) -> Floats:
        """Half-width of the interval of log time, float64[rows]."""
        wide: Floats = self.quantile * (spread + self.floor)
        return wide


def calibrate(held: Sequence[Held], level: float = LEVEL) -> Interval:
    """The interval that the folds ``held`` ask for; every fold counts the same, however many rows it has."""
    floor = float(np.median(np.concatenate([fold.spread for fold in held])))
    scores = np.concatenate([np.abs(fold.error) / (fold.spread + floor) for fold in held])
    weight = np.concatenate([np.full(fold.error.size, 1 / fold.error.size) for fold in held])
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order]) / len(held)
    at = min(int(np.searchsorted(reached, level)), scores.size - 1)
    return Interval(level, floor, float(scores[order][at]))


def coverage(interval: Interval, held: Held) -> float:
    """Share of the rows whose true time lies in the interval."""
    return float(np.mean(np.abs(held.error) <= interval.half_width(held.spread)))


def crossed(held: Sequence[Held]) -> float:
    """Mean coverage of each fold by the interval calibrated on the others; NaN with fewer than two folds."""
    shares = [coverage(calibrate([rest for rest in held if rest is not fold]), fold) for fold in held if len(held) > 1]
    return float(np.mean(shares)) if shares else float("nan")
