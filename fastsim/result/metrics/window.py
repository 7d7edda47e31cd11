"""The window of time that latencies count: the whole run without its warm-up and cool-down."""

import re

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError
from fastsim.result.metrics.objectives import UNITS


def parse_exclude(text: str | None, option: str = "--exclude") -> tuple[float, float]:
    """Return warm-up and cool-down, s, from text such as ``60s,30s`` or ``60s``; None means neither.

    ``option`` is named in messages. Raises ConfigError for text that is no time.
    """
    if text is None:
        return 0.0, 0.0
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > 2:
        raise ConfigError(f"{option}: {text!r} is more than a warm-up and a cool-down (e.g. 60s,30s)")
    matches = [re.fullmatch(r"([0-9.]+)\s*([a-z]*)", part.lower()) for part in parts]
    for part, match in zip(parts, matches, strict=True):
        if match is None or match[1].count(".") > 1 or match[1] == ".":
            raise ConfigError(f"{option}: {part!r} is not a time (e.g. 60s)")
        if not match[2]:
            raise ConfigError(f"{option}: {part!r} has no unit; did you mean '{part}s'?")
        if match[2] not in UNITS:
            raise ConfigError(f"{option}: {part!r} has the unknown unit {match[2]!r}; valid: {', '.join(UNITS)}")
    times = [float(match[1]) * UNITS[match[2]] for match in matches if match]
    return times[0], (times[1] if len(times) == 2 else 0.0)


def check_exclude(arrived: NDArray[np.float64], exclude: tuple[float, float], option: str = "--exclude") -> None:
    """Raise ConfigError if warm-up and cool-down, s, leave nothing of the arrivals, float64[n], s, ascending."""
    warm_up, cool_down = exclude
    if not (0 <= warm_up < float("inf") and 0 <= cool_down < float("inf")):
        raise ConfigError(
            f"{option}: warm-up {warm_up:g} s and cool-down {cool_down:g} s must both be 0 or more (e.g. 60s,30s)"
        )
    span = float(arrived[-1] - arrived[0]) if len(arrived) else 0.0
    if warm_up + cool_down > 0 and warm_up + cool_down >= span:
        raise ConfigError(
            f"{option}: a warm-up of {warm_up:g} s and a cool-down of {cool_down:g} s leave nothing of the "
            f"{span:.4g} s in which requests arrive"
        )


def inside(arrived: NDArray[np.float64], exclude: tuple[float, float]) -> NDArray[np.bool_] | None:
    """Return which requests arrive neither in the warm-up nor in the cool-down, bool[n], or None if all of them count.

    ``arrived`` holds float64[n] arrival times, ascending, and ``exclude`` warm-up and cool-down, all in seconds.
    """
    if exclude == (0.0, 0.0) or not len(arrived):
        return None
    kept: NDArray[np.bool_] = (arrived >= arrived[0] + exclude[0]) & (arrived <= arrived[-1] - exclude[1])
    return kept
