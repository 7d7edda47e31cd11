"""Coefficients as they were estimated: what replays need of them, and what a calibration holds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.bounds import BOUNDS
from fastsim.calibration.steps import Steps
from fastsim.deployment.calibration import Fitted
from fastsim.kernels.tables import Cost

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Estimate:
    """Coefficients.

    Attributes
    ----------
    cost : times of batches with them, as a kernel reads them.
    front_end : s.
    seconds : how long steps take with them, float64[steps].
    coefficients : each with its interval and bounds.
    parts : fields of a Calibration.
    """

    cost: Cost
    front_end: float
    seconds: Callable[[Steps], Floats]
    coefficients: tuple[Fitted, ...]
    parts: Mapping[str, Any]


def coefficient(
    name: str,
    value: float,
    interval: tuple[float, float] | None,
    left: str = "",
    prior: float = 0.0,
    bounds: str = "",
) -> Fitted:
    """A coefficient as a calibration lists it; ``bounds``: the name in BOUNDS if it is another."""
    least, most, _ = BOUNDS[bounds or name]
    low, high = (None, None) if interval is None or left else map(rounded, interval)
    return Fitted(name=name, value=rounded(value), low=low, high=high, prior=prior, least=least, most=most, left=left)


def interval(draws: Floats) -> tuple[float, float] | None:
    """The ends of the 90 % interval of draws, float64[draws]; None without any."""
    if not len(draws):
        return None
    low, high = np.percentile(draws, [5, 95])
    return float(low), float(high)


def rounded(value: float) -> float:
    """A value with six digits, as a file shows it."""
    return float(f"{value:.6g}")
