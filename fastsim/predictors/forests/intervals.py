"""Intervals: how wide a forest's answer must be to hold the truth nine times in ten on shapes it has not seen.

Split conformal prediction (Lei et al., 2018, "Distribution-free predictive inference for regression", section 5.2):
the error of log times on rows held out, over how far the trees disagree there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastsim.predictors.chip import Floats

LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Held:
    """Rows held out once: error of log time, and standard deviation over the trees; float64[rows] each."""

    error: Floats
    spread: Floats


@dataclass(frozen=True, slots=True)
class Interval:
    """Half width of log time = quantile * (spread + floor)."""

    level: float
    floor: float
    quantile: float

    def half_width(self, spread: Floats) -> Floats:
        """Half width of the interval of log time, float64[rows]."""
        wide: Floats = self.quantile * (spread + self.floor)
        return wide


def calibrate(held: Sequence[Held], level: float = LEVEL) -> Interval:
    """The interval that ``held`` asks for; each of them counts the same, however many rows it has."""
    floor = float(np.median(np.concatenate([one.spread for one in held])))
    scores = np.concatenate([np.abs(one.error) / (one.spread + floor) for one in held])
    weight = np.concatenate([np.full(one.error.size, 1 / one.error.size) for one in held])
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(weight[order]) / len(held)
    at = min(int(np.searchsorted(reached, level)), scores.size - 1)
    return Interval(level, floor, float(scores[order][at]))


def coverage(interval: Interval, held: Held) -> float:
    """Share of rows that the interval holds."""
    return float(np.mean(np.abs(held.error) <= interval.half_width(held.spread)))


def crossed(held: Sequence[Held]) -> float:
    """Mean coverage of each fold by the interval that the others ask for; NaN with fewer than two."""
    shares = [coverage(calibrate([other for other in held if other is not one]), one) for one in held if len(held) > 1]
    return float(np.mean(shares)) if shares else float("nan")
