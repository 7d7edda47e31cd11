"""Metrics are declared once: what is made of the declaration says the same."""

from pathlib import Path

import pytest

from fastsim.cli.terminal import compare, search
from fastsim.report import comparison, headline
from fastsim.report import search as search_page
from fastsim.result.metrics.definitions import HEADLINES, METRICS, metric_of

README = Path(__file__).resolve().parents[2] / "README.md"


def overview() -> str:
    """The table of the README: a row per section of summary.json."""
    rows = ["| summary.json | |", "|---|---|"]
    sections = dict.fromkeys(metric.name.partition(".")[0] for metric in METRICS)
    for section in sections:
        found = [metric for metric in METRICS if metric.name.partition(".")[0] == section]
        keys = ", ".join(metric.key for metric in found)
        rows.append(f"| `{section}` | {found[0].meaning if keys == section else keys} |")
    return "\n".join(rows)


def test_the_readme_lists_what_is_declared() -> None:
    assert overview() in README.read_text()


def test_names_are_unique_and_meant() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.kind for metric in METRICS} == {"distribution", "scalar", "share", "group", "by replica", "series"}
    assert all(metric.meaning and not metric.meaning.endswith(".") for metric in METRICS)


@pytest.mark.parametrize(
    "names",
    [compare.FIGURES, search.COLUMNS, comparison.ROWS, headline.KEY_FIGURES, search_page.SETTINGS, search_page.FIGURES],
    ids=("terminal compare", "terminal search", "page of several", "page of one", "search settings", "search figures"),
)
def test_whatever_is_shown_as_a_headline_is_declared(names: tuple[str, ...]) -> None:
    assert set(names) <= HEADLINES.keys()
    labels = [HEADLINES[name].label for name in names]
    assert len(set(labels)) == len(labels)


def test_headings_have_the_units_of_summary_json() -> None:
    of_metrics = [one for name, one in HEADLINES.items() if metric_of(name)]
    assert all(one.name.split(".")[0] in ("scheduler", one.name) for one in HEADLINES.values() if one not in of_metrics)
    assert HEADLINES["latency.ttft.p90"].heading == "TTFT P90, s"
    assert HEADLINES["throughput.requests_per_s"].heading == "Throughput, requests/s"
    assert HEADLINES["cost.gpus"].heading == "GPUs"
    assert all(one.better == "lower" for one in of_metrics if one.unit == "s")
