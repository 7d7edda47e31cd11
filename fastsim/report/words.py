"""Figures in words: seconds, shares, dollars and counts as a reader wants them."""

import re
from collections.abc import Sequence

from fastsim.result.metrics.definitions import SHARE, metric_of

UNIT = re.compile(r"(?<=.)( per s| s| kwh)$")  # of a key: its figure names the unit
NOTHING = "–"
STATISTIC = {"p999": "P99.9", "mean": "mean", "min": "min", "max": "max"}
ACRONYMS = {
    "ttft": "TTFT",
    "tbt": "TBT",
    "tpot": "TPOT",
    "e2e": "E2E",
    "kv": "KV",
    "mfu": "MFU",
    "mbu": "MBU",
    "gpu": "GPU",
    "gpus": "GPUs",
}


def seconds(value: float | None) -> str:
    """Three digits, in the unit that suits."""
    if value is None:
        return NOTHING
    if abs(value) < 1e-9 or abs(value) >= 1:
        return f"{number(value if abs(value) >= 1 else 0.0)} s"
    return f"{number(value * 1e3)} ms" if abs(value) >= 1e-3 else f"{number(value * 1e6)} µs"


def number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None:
        return NOTHING
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    """A share of one in per cent, a decimal where it tells something from nothing or from all."""
    if value is None:
        return NOTHING
    if 0.9995 <= value < 1:
        return "> 99.9%"
    close = 0 < abs(value) < 0.1 or 0.99 < value < 1
    return f"{value:.1%}" if close else f"{value:.0%}"


def figure(name: str, value: float | None) -> str:
    """The value of a metric of summary.json, by its dotted key."""
    metric = metric_of(name)
    if value is None or metric is None:
        return number(value)
    if metric.kind == SHARE or (metric.name == "operator_times"):
        return share(value)
    match metric.unit:
        case "s" | "s/token":
            return seconds(value) + metric.unit[1:]
        case "$":
            return f"${value:,.2f}"
        case "" | "requests" | "tokens" | "batches" | "GPUs":
            return number(value)
        case unit:
            return f"{number(value)} {unit}"


def interval(name: str, ends: Sequence[float]) -> str:
    """``140 to 166 ms``: the unit once, where both ends have it."""
    low, high = (figure(name, end) for end in ends)
    first, _, unit = low.partition(" ")
    once = first[:1].isdigit() and unit and high.endswith(f" {unit}")
    return f"{first if once else low} to {high}"


def statistic(name: str) -> str:
    """p99 as P99, p999 as P99.9."""
    return STATISTIC.get(name, name.upper())


def title(key: str) -> str:
    """A key as a heading: mean_kv as Mean KV."""
    words = [ACRONYMS.get(word, word) for word in key.split("_")]
    text = UNIT.sub("", " ".join(words))
    return text[:1].upper() + text[1:]


def meaning(name: str) -> str:
    """What a figure is, for a reader who hovers over it."""
    metric = metric_of(name)
    return "" if metric is None else metric.meaning[:1].upper() + metric.meaning[1:]
