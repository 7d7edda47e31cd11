"""Descriptions of workloads that come with fastsim: data/workloads."""

from functools import cache
from pathlib import Path

from fastsim.files import DATA

FOLDER = DATA / "workloads"


@cache
def presets() -> tuple[str, ...]:
    """Names that ``workload.load`` knows, in alphabetical order."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def preset_file(name: str) -> Path:
    """Where the description of a preset is."""
    return FOLDER / f"{name}.yaml"
