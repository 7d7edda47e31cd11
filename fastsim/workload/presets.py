"""Presets: the descriptions of workloads in data/workloads."""

from functools import cache
from pathlib import Path

from fastsim.files import DATA

FOLDER = DATA / "workloads"


@cache
def presets() -> tuple[str, ...]:
    """Return the names of the presets in alphabetical order."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def preset_file(name: str) -> Path:
    """Return the path of the description of a preset."""
    return FOLDER / f"{name}.yaml"
