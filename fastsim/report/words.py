"""Formats the figures of a page as text, and gives them headings."""

import re
from collections.abc import Sequence

from fastsim.result.metrics.definitions import SHARE, metric_of

UNIT = re.compile(r"(?<=.)( per s| s| kwh)$")  # the unit in a key, which the figure shows already
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
    """Return a time in s as text with three digits, in s, ms or µs."""
    if value is None:
        return NOTHING
    if abs(value) < 1e-9 or abs(value) >= 1:
        return f"{number(value if abs(value) >= 1 else 0.0)} s"
    return f"{number(value * 1e3)} ms" if abs(value) >= 1e-3 else f"{number(value * 1e6)} µs"


def number(value: float | None) -> str:
    """Return a number with three digits, or with all digits before the point where there are more."""
    if value is None:
        return NOTHING
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def share(value: float | None) -> str:
    """Return a share of 1 in per cent, with a decimal where it is close to 0 or to 1."""
    if value is None:
        return NOTHING
    if 0.9995 <= value < 1:
        return "> 99.9%"
    close = 0 < abs(value) < 0.1 or 0.99 < value < 1
    return f"{value:.1%}" if close else f"{value:.0%}"


def signed(error: float | None) -> str:
    """Return a signed error, a share of 1, in per cent: +4.2%; ``from 0`` where nothing was measured but 0."""
    if error is None:
        return "from 0"
    return f"{error:+,.0%}" if abs(error) >= 10 else f"{error:+.1%}"


def figure(name: str, value: float | None) -> str:
    """Return a figure of summary.json as text with its unit; ``name`` is its dotted key."""
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
    """Return an interval as text, ``140 to 166 ms``, with the unit once if both ends have the same."""
    low, high = (figure(name, end) for end in ends)
    first, _, unit = low.partition(" ")
    same = first[:1].isdigit() and unit and high.endswith(f" {unit}")
    return f"{first if same else low} to {high}"


def statistic(name: str) -> str:
    """Return the heading of a statistic: P99 for p99, P99.9 for p999.

    Parameters
    ----------
    name : str
        A key of a distribution in summary.json, such as mean, p50 or max.
    """
    return STATISTIC.get(name, name.upper())


def title(key: str) -> str:
    """Return a key as a heading: Mean KV for mean_kv.

    Parameters
    ----------
    key : str
        The last part of a dotted key of summary.json, or a column of requests.parquet.
    """
    text = UNIT.sub("", " ".join(ACRONYMS.get(word, word) for word in key.split("_")))
    return text[:1].upper() + text[1:]


def meaning(name: str) -> str:
    """Return the definition of a figure, which is shown on hover; empty for a key that is no metric."""
    metric = metric_of(name)
    return "" if metric is None else metric.meaning[:1].upper() + metric.meaning[1:]
