"""Metrics are declared once: what is made of the declaration says the same."""

from pathlib import Path

from fastsim.result.metrics.definitions import METRICS

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
