"""What a deployment must keep to: objectives such as ``ttft:p90<2s``."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError, did_you_mean
from fastsim.metrics import LATENCIES, STATISTICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    """Each objective once."""
    return tuple(dict.fromkeys(one if isinstance(one, Objective) else parse(one, place) for one in texts))


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


def value(objective: Objective, summary: Mapping[str, Any]) -> float | None:
    """The figure that an objective is about, s; None where nothing was measured."""
    found: float | None = summary["latency"].get(objective.metric, {}).get(objective.statistic)
    return found


def met(objective: Objective, summary: Mapping[str, Any]) -> bool | None:
    """Whether a summary keeps to an objective; None where nothing was measured."""
    found = value(objective, summary)
    return None if found is None else found < objective.limit


def missed(objectives: Sequence[Objective], summary: Mapping[str, Any]) -> list[Objective]:
    """Those that a summary does not keep to."""
    return [objective for objective in objectives if met(objective, summary) is False]


def judge(objectives: Sequence[Objective], requests: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """``objectives`` and ``goodput`` of a summary.

    ``requests``: columns of requests.parquet, by name. A request is good when its own latency is below every limit, of
    tbt the mean of its own gaps; one that did not finish is not. What the summary excludes does not count.
    """
    import numpy as np

    from fastsim.summary import inside, ratio

    out = summary.get("excluded", {})
    arrived = requests["arrived_at"]
    exclude = out.get("warm_up_s", 0.0), out.get("cool_down_s", 0.0)
    kept = inside(arrived, exclude)
    if kept is None:
        kept = np.ones(len(arrived), bool)
    number, good, judged = int(kept.sum()), kept & np.isfinite(requests["finished_at"]), {}
    for objective in objectives:
        values = requests["tpot" if objective.metric == "tbt" else objective.metric]
        # A request of one output token has no gap between tokens that could be too long.
        below = np.isnan(values) if objective.metric in ("tbt", "tpot") else np.zeros(len(values), bool)
        below |= values < objective.limit
        good &= below
        judged[str(objective)] = {
            "value": value(objective, summary),
            "limit": objective.limit,
            "met": met(objective, summary),
            "share": ratio(int((below & kept).sum()), number),
        }
    span = summary["totals"]["span_s"]
    if any(exclude) and len(arrived):
        span = max(0.0, float(arrived[-1] - arrived[0]) - sum(exclude))
    rate = ratio(int(good.sum()), span)
    return {"objectives": judged, "goodput": {"share": ratio(int(good.sum()), number), "requests_per_s": rate}}


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
