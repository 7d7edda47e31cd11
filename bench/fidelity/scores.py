"""Errors of predicted figures: predicted / measured - 1, and their signed mean, mean and median over rows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .replay import Replayed


class Score(NamedTuple):
    """Errors over rows, %."""

    signed: float  # mean
    absolute: float  # mean
    median: float  # of absolute errors
    num_rows: int

    def __str__(self) -> str:
        if self.num_rows == 1:
            return f"{_short(self.signed):+}"
        return f"{_short(self.signed):+}/{_short(self.absolute)}/{_short(self.median)}"


def score(rows: Sequence[Replayed], metric: str) -> Score | None:
    """The errors of a figure over the rows that have it; None where none has."""
    errors = [
        100 * (one.predicted[metric] / one.row.measured[metric] - 1)
        for one in rows
        if metric in one.predicted and np.isfinite(one.row.measured[metric])
    ]
    if not errors:
        return None
    size = np.abs(errors)
    return Score(float(np.mean(errors)), float(size.mean()), float(np.median(size)), len(errors))


def _short(percent: float) -> float | int:
    """With a decimal, as long as this says anything."""
    return round(percent, 1) if abs(percent) < 1000 else round(percent)
