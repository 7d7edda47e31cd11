"""The time that figures count: all of a run, less its warm-up and cool-down."""

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
from .objectives import UNITS


def parse_exclude(text: str | None, place: str = "--exclude") -> tuple[float, float]:
    """Warm-up and cool-down, s, from ``60s,30s`` or ``60s``. Raises ConfigError."""
    if text is None:
        return 0.0, 0.0
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2:
        raise ConfigError(f"{place}: {text!r} is more than a warm-up and a cool-down (e.g. 60s,30s)")
    found = [re.fullmatch(r"([0-9.]+)\s*([a-z]*)", part.lower()) for part in parts]
    for part, one in zip(parts, found, strict=True):
        if one is None or one[1].count(".") > 1 or one[1] == ".":
            raise ConfigError(f"{place}: {part!r} is not a time (e.g. 60s)")
        if one[2] not in UNITS:
            hint = f"valid: {', '.join(UNITS)}" if one[2] else f"did you mean '{part}s'?"
            raise ConfigError(f"{place}: {part!r} has {'no unit' if not one[2] else f'no unit {one[2]!r}'}; {hint}")
    times = [float(one[1]) * UNITS[one[2]] for one in found if one]
    return times[0], (times[1] if len(times) == 2 else 0.0)


def check_exclude(arrived: "NDArray[np.float64]", exclude: tuple[float, float], place: str = "--exclude") -> None:
    """Raise ConfigError when warm-up and cool-down leave nothing of the arrivals (s, ascending)."""
    warm_up, cool_down = exclude
    if not (0 <= warm_up < float("inf") and 0 <= cool_down < float("inf")):
        raise ConfigError(f"{place}: {warm_up:g} s and {cool_down:g} s must both be 0 or more (e.g. 60s,30s)")
    span = float(arrived[-1] - arrived[0]) if len(arrived) else 0.0
    if warm_up + cool_down > 0 and warm_up + cool_down >= span:
        raise ConfigError(f"{place}: {warm_up:g} s and {cool_down:g} s leave nothing of {span:.4g} s of arrivals")


def inside(arrived: NDArray[np.float64], exclude: tuple[float, float]) -> NDArray[np.bool_] | None:
    """bool[n]: which requests arrive neither in the warm-up nor in the cool-down; None where all count."""
    if exclude == (0.0, 0.0) or not len(arrived):
        return None
    kept: NDArray[np.bool_] = (arrived >= arrived[0] + exclude[0]) & (arrived <= arrived[-1] - exclude[1])
    return kept
