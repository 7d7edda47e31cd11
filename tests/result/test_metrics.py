"""Metrics are declared once, and the manual, headings and lists of headline figures follow the declaration."""

from pathlib import Path

import pytest

from fastsim.cli.terminal import compare, search
from fastsim.deployment.description import Deployment
from fastsim.report import comparison, headline
from fastsim.report import search as search_page
from fastsim.result.kinds import hardware
from fastsim.result.metrics.definitions import HEADLINES, METRICS, metric_of

MANUAL = Path(__file__).resolve().parents[2] / "fastsim" / "manual" / "results.md"


def overview() -> str:
    """Return the table of the manual, which has a row per section of summary.json."""
    rows = ["| summary.json | |", "|---|---|"]
    sections = dict.fromkeys(metric.name.partition(".")[0] for metric in METRICS)
    for section in sections:
        metrics = [metric for metric in METRICS if metric.name.partition(".")[0] == section]
        keys = ", ".join(metric.key for metric in metrics)
        rows.append(f"| `{section}` | {metrics[0].meaning if keys == section else keys} |")
    return "\n".join(rows)


def test_the_readme_lists_the_declared_metrics() -> None:
    assert overview() in MANUAL.read_text()


def test_names_are_unique_and_have_a_meaning() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    kinds = {"distribution", "scalar", "share", "group", "by replica", "by tenant", "series"}
    assert {metric.kind for metric in METRICS} == kinds
    assert all(metric.meaning and not metric.meaning.endswith(".") for metric in METRICS)


@pytest.mark.parametrize(
    "names",
    [
        compare.FIGURES,
        (*search.SETTINGS, *search.FIGURES),
        comparison.ROWS,
        headline.KEY_FIGURES,
        search_page.SETTINGS,
        search_page.FIGURES,
    ],
    ids=("terminal compare", "terminal search", "page of several", "page of one", "search settings", "search figures"),
)
def test_every_headline_figure_is_declared(names: tuple[str, ...]) -> None:
    assert set(names) <= HEADLINES.keys()
    labels = [HEADLINES[name].label for name in names]
    assert len(set(labels)) == len(labels)


def test_headings_have_the_units_of_summary_json() -> None:
    of_metrics = [headline for name, headline in HEADLINES.items() if metric_of(name)]
    others = [headline for headline in HEADLINES.values() if headline not in of_metrics]
    assert all(headline.name.split(".")[0] in ("scheduler", "workload", headline.name) for headline in others)
    assert HEADLINES["latency.ttft.p90"].heading == "TTFT P90, s"
    assert HEADLINES["throughput.requests_per_s"].heading == "Throughput, requests/s"
    assert HEADLINES["cost.gpus"].heading == "GPUs"
    assert all(headline.better == "lower" for headline in of_metrics if headline.unit == "s")


def test_pools_are_described_with_what_they_leave_to_the_deployment() -> None:
    given = Deployment.load(
        {"model": "llama-3-8b", "device": "h100", "pools": [{"name": "a"}, {"name": "b", "tensor_parallel_size": 2}]}
    )
    assert hardware(given.model_dump(), 3) == (
        "a: 1 x h100 (TP 1, PP 1, 1 replica) + b: 2 x h100 (TP 2, PP 1, 1 replica)"
    )
