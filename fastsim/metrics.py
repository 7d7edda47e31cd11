"""Every metric, declared once: the catalog, the README, summary.json and the report are made of it."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

# The figures of a distribution: None where it is no quantile.
STATISTICS: dict[str, float | None] = {
    "mean": None,
    "min": None,
    "max": None,
    "p50": 0.5,
    "p75": 0.75,
    "p90": 0.9,
    "p95": 0.95,
    "p99": 0.99,
    "p999": 0.999,
}
QUANTILES = {name: share for name, share in STATISTICS.items() if share is not None}


class Metric(NamedTuple):
    """``name``: the dotted key in summary.json. ``kind``: a distribution has the figures of STATISTICS below it."""

    name: str
    unit: str
    meaning: str
    kind: str = "scalar"

    @property
    def key(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]


LATENCIES = (
    Metric("latency.ttft", "s", "time to first token: arrival to the end of the prefill", "distribution"),
    Metric("latency.tbt", "s", "time between two output tokens of a request (quantiles within 0.8 %)", "distribution"),
    Metric("latency.tpot", "s", "time per output token after the first, by request", "distribution"),
    Metric("latency.e2e", "s", "end to end: arrival to last token", "distribution"),
    Metric("latency.scheduling_delay", "s", "arrival to first batch", "distribution"),
)

# Parts of summary.json that are no figures of the deployment.
APART = ("definitions", "warnings", "replicates", "series", "timing")


def flatten(summary: Mapping[str, Any]) -> dict[str, float | int | None]:
    """The figures of a summary by dotted key (``latency.ttft.p99``); None where nothing was measured."""
    return {
        name: value for section in summary if section not in APART for name, value in _leaves(section, summary[section])
    }


def _leaves(name: str, value: Any) -> Iterator[tuple[str, float | int | None]]:
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(f"{name}.{key}", part)
    elif value is None or isinstance(value, bool | int | float):
        yield name, int(value) if isinstance(value, bool) else value
