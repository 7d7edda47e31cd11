"""A result in a line, and as a table of HTML: what Python prompts and notebooks show of it."""

from collections.abc import Mapping
from html import escape
from typing import Any

HEADLINES = {"ttft": "TTFT", "tbt": "TBT", "tpot": "TPOT", "e2e": "E2E"}
STATISTICS = ("mean", "p50", "p90", "p99")


def line(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What was simulated, and its mean latencies."""
    means = (f"{word} {_ms(summary['latency'][name]['mean'])}" for name, word in HEADLINES.items() if name != "tbt")
    return f"{_subject(summary, config)}: mean {', '.join(means)}; {_throughput(summary)}"


def html(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """What was simulated, its latencies as a table, and its throughput."""
    head = "".join(f"<th>{statistic}</th>" for statistic in STATISTICS)
    rows = "".join(
        f"<tr><th>{word}</th>"
        + "".join(f"<td>{_ms(summary['latency'][name][key])}</td>" for key in STATISTICS)
        + "</tr>"
        for name, word in HEADLINES.items()
    )
    return (
        f"<p>{escape(_subject(summary, config))}</p><table><tr><th></th>{head}</tr>{rows}</table>"
        f"<p>{_throughput(summary)}</p>"
    )


def _subject(summary: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    deployment, gpus = config["deployment"], summary["cost"]["gpus"]
    return f"{summary['totals']['requests']:,} requests to {deployment['model']} on {gpus} x {deployment['device']}"


def _throughput(summary: Mapping[str, Any]) -> str:
    return f"{summary['throughput']['output_tokens_per_s']:,.0f} output tokens/s"


def _ms(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1e3 * seconds:,.1f} ms"
