"""Metrics are declared once: what is made of the declaration says the same."""

from pathlib import Path

from fastsim.result.metrics.definitions import METRICS, overview

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_readme_lists_what_is_declared() -> None:
    assert overview() in README.read_text()


def test_names_are_unique_and_meant() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert {metric.kind for metric in METRICS} == {"distribution", "scalar", "share", "group", "by replica", "series"}
    assert all(metric.meaning and not metric.meaning.endswith(".") for metric in METRICS)
