"""The axes of a still picture: from data to pixels, and ticks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastsim.report.page.picture import Band, Bars, Layer, Line, Marks, Picture, Range, Stack

TICKS = 6  # about so many on a linear axis
PAD = 0.05  # share of the extent that is left free at either end


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from ``first`` to ``last`` pixels; ``rows`` are the names of a categorical one, from the bottom up."""

    low: float
    high: float
    first: float
    last: float
    log: bool
    ticks: Mapping[float, str]
    rows: Sequence[str] = ()

    def pixels(self, values: ArrayLike) -> NDArray[np.float64]:
        """Where values lie."""
        given = np.asarray(values, np.float64)
        low, high = self.low, self.high
        if self.log:
            given = np.log10(np.maximum(given, 1e-300))
            low, high = math.log10(low), math.log10(high)
        return self.first + (given - low) / (high - low) * (self.last - self.first)


def axis(picture: Picture, which: str, first: float, last: float) -> Axis:
    """The axis ``x`` or ``y`` of a picture between two pixels."""
    ends: Range = picture.x_range if which == "x" else picture.y_range
    log = (picture.x if which == "x" else picture.y) == "log"
    labels = picture.x_ticks if which == "x" else picture.y_ticks
    if ends is not None and not isinstance(ends, tuple) and ends != "from zero":
        rows = list(ends)
        return Axis(0.0, float(len(rows)), first, last, False, {n + 0.5: row for n, row in enumerate(rows)}, rows)
    if isinstance(ends, tuple):
        low, high = float(ends[0]), float(ends[1])
    else:
        low, high = _extent(picture, which, log)
        low = 0.0 if ends == "from zero" else low
    if not high > low:
        high = low + (abs(low) or 1.0)
    shown = {at: text for at, text in labels.items() if low <= at <= high}
    return Axis(low, high, first, last, log, shown or _ticks(low, high, log))


def _extent(picture: Picture, which: str, log: bool) -> tuple[float, float]:
    """The ends of what is drawn, with some room beside it."""
    values = np.concatenate([np.zeros(0), *(_values(layer, which) for layer in picture.layers)])
    limits = [limit.at for limit in picture.limits if limit.axis == which]
    values = np.append(values[np.isfinite(values) & ((values > 0) | (not log))], limits)
    if not len(values):
        return (0.1, 1.0) if log else (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    if log:
        room = (high / low) ** PAD if high > low else 2.0
        return low / room, high * room
    whole = which == "x" and any(isinstance(layer, Stack) for layer in picture.layers)
    room = PAD * (high - low)
    return (0.0, high * (1 + PAD)) if whole else (low - room, high + room)


def _values(layer: Layer, which: str) -> NDArray[np.float64]:
    match layer, which:
        case ((Line() | Marks()), _):
            return np.asarray(getattr(layer, which), np.float64)
        case Band(), "y":
            return np.concatenate([np.asarray(layer.low, np.float64), np.asarray(layer.high, np.float64)])
        case Band(), _:
            return np.asarray(layer.x, np.float64)
        case Bars(), "y":
            return np.append(np.asarray(layer.top, np.float64), 0.0)
        case Bars(), _:
            return np.concatenate([np.asarray(layer.left, np.float64), np.asarray(layer.right, np.float64)])
        case Stack(), "x":
            whole: NDArray[np.float64] = np.sum([np.asarray(part, np.float64) for part in layer.parts.values()], axis=0)
            return whole
    return np.zeros(0)


def _ticks(low: float, high: float, log: bool) -> dict[float, str]:
    if log:
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        steps = (1,) if len(powers) > 3 else (1, 2, 5)
        ticks = [float(f"{step}e{power}") for power in powers for step in steps]
        return {at: f"{at:,.10g}" for at in ticks if low <= at <= high}
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    at = [n * step for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return {tick: f"{round(tick, 12):,.10g}" for tick in at}
