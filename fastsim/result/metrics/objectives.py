"""What a deployment must keep to: objectives such as ``ttft:p90<2s``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError, did_you_mean
from fastsim.result.metrics.definitions import LATENCIES, STATISTICS

if TYPE_CHECKING:
    pass

UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}  # s
FORM = re.compile(
    r"\s*([a-z_0-9]+)\s*(?::\s*([a-z_0-9.]+)\s*)?(<=?|>=?|=)\s*([-+0-9.e]+?)\s*([a-zµ/%]*)\s*", re.IGNORECASE
)
EXAMPLE = "e.g. ttft:p90<2s"


@dataclass(frozen=True, slots=True)
class Objective:
    """``statistic`` of the latency ``metric`` stays below ``limit`` s."""

    metric: str
    statistic: str
    limit: float

    def __str__(self) -> str:
        unit = "s" if self.limit >= 1 else "ms" if self.limit >= 1e-3 else "us"
        return f"{self.metric}:{self.statistic}<{self.limit / UNITS[unit]:.12g}{unit}"


# Vidur's: what it holds a capacity and its search to.
DEFAULTS = (
    Objective("scheduling_delay", "p99", 5.0),
    Objective("ttft", "p90", 2.0),
    Objective("tbt", "p99", 0.2),
)


def parse(text: str, place: str = "objective") -> Objective:
    """An objective from ``metric:statistic<limit``, the limit with its unit: ``ttft:p90<2s``, ``tbt:p99<200ms``.

    ``place``: where it stands, for the message. Raises ConfigError with the nearest spelling that is valid.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"{place}: {text!r} is not metric:statistic<limit ({EXAMPLE})")
    metric, statistic, sign, number, unit = (part and part.lower() for part in found.groups())
    names = [latency.key for latency in LATENCIES]
    metric = "tbt" if metric == "itl" else metric
    if metric not in names:
        raise ConfigError(f"{place}: {text!r}: no metric {metric!r}; {did_you_mean(metric, names)}")
    if statistic is None:
        raise ConfigError(f"{place}: {text!r} names no statistic; did you mean '{metric}:p99{sign}{number}{unit}'?")
    statistic = "p999" if statistic == "p99.9" else statistic
    if statistic not in STATISTICS:
        raise ConfigError(f"{place}: {text!r}: no statistic {statistic!r}; {_near(statistic)}")
    if not sign.startswith("<"):
        raise ConfigError(f"{place}: {text!r}: a latency stays below its limit; write < ({EXAMPLE})")
    try:
        limit = float(number)
    except ValueError:
        raise ConfigError(f"{place}: {text!r}: {number!r} is not a number ({EXAMPLE})") from None
    if not unit:
        raise ConfigError(f"{place}: {text!r}: the limit has no unit; did you mean '{number}{_guess(limit)}'?")
    unit = {"µs": "us", "sec": "s", "m": "min"}.get(unit, unit)
    if unit not in UNITS:
        raise ConfigError(f"{place}: {text!r}: no unit {unit!r}; valid: {', '.join(UNITS)}")
    if not 0 < limit * UNITS[unit] < float("inf"):
        raise ConfigError(f"{place}: {text!r}: the limit must be above 0 ({EXAMPLE})")
    return Objective(metric, statistic, limit * UNITS[unit])


def parse_all(texts: Sequence[str | Objective], place: str = "objective") -> tuple[Objective, ...]:
    """Objectives, parsed where they are text, each of them once; ``place``: as in ``parse``. Raises ConfigError."""
    return tuple(dict.fromkeys(one if isinstance(one, Objective) else parse(one, place) for one in texts))


def value(objective: Objective, summary: Mapping[str, Any]) -> float | None:
    """The figure that an objective is about, s; None where nothing was measured."""
    found: float | None = summary["latency"].get(objective.metric, {}).get(objective.statistic)
    return found


def holds(objective: Objective, figure: float | None) -> bool | None:
    """Whether a figure, s, is below the limit of an objective; None where nothing was measured."""
    return None if figure is None else figure < objective.limit


def met(objective: Objective, summary: Mapping[str, Any]) -> bool | None:
    """Whether a summary meets an objective; None where nothing was measured."""
    return holds(objective, value(objective, summary))


def missed(objectives: Sequence[Objective], summary: Mapping[str, Any]) -> list[Objective]:
    """The objectives that a summary does not meet."""
    return [objective for objective in objectives if met(objective, summary) is False]


def _guess(limit: float) -> str:
    """The unit that a bare number most likely has."""
    return "s" if limit < 20 else "ms"


def _near(statistic: str) -> str:
    """did_you_mean for statistics: by number, for a percentile."""
    digits = re.fullmatch(r"p?(\d+(?:\.\d+)?)", statistic)
    if digits is None:
        return did_you_mean(statistic, STATISTICS)
    wanted = float(digits[1])
    nearest = min(STATISTICS.items(), key=lambda item: abs((item[1] or 0.0) * 100 - wanted))[0]
    return f"did you mean {nearest!r}? (valid: {', '.join(STATISTICS)})"
