"""Forests that were trained on this machine, from aiconfigurator-core (``aic``) or a user's ``profile:DIR``."""

import hashlib
import json
import warnings
from dataclasses import asdict
from pathlib import Path

from fastsim.files.writing import atomic_folder
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.predictors.chip import Chip


def folder() -> Path:
    """The folder of trained forests, next to the compiled kernels."""
    return CACHE_FOLDER.parents[1] / "forests"


def _digest(source: str, system: str, chip: Chip) -> str:
    from fastsim.predictors.measurements import aiconfigurator

    total = hashlib.sha256(json.dumps([source.partition(":")[0], system, asdict(chip)]).encode())
    read, here = Path(aiconfigurator.__file__).parent, Path(__file__).parent
    for code in [
        *sorted(here.glob("*.py")),
        *sorted(read.glob("*.py")),
        here.parent / "families.py",
        here.parent / "chip.py",
    ]:
        total.update(code.read_bytes())
    if source == "aic":
        aiconfigurator.find_system(system)
        aiconfigurator.data_folder()  # raises unless the pinned version is installed
        total.update(aiconfigurator.VERSION.encode())
    else:
        rows = Path(source.partition(":")[2]).expanduser()
        for path in sorted([*rows.glob("*.parquet"), *rows.glob("other/*.parquet")]):
            total.update(str(path.relative_to(rows)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()[:32]


def root(source: str, system: str, chip: Chip) -> Path:
    """The folder with the forests of ``system`` for ``forest.load``; they are trained first if they are not there
    yet.

    ``source``: aic or profile:DIR. Training takes half a minute to two minutes. Several processes may ask at once:
    the folder appears whole or not at all. Raises TableError and CatalogError as the source does.
    """
    final = folder() / _digest(source, system, chip)
    if (final / system).is_dir():
        return final
    from .train import train_all, train_profile

    warnings.warn(f"predictor.source: {source}: training forests of {system}, once", stacklevel=2)
    with atomic_folder(final) as part:  # where another process was first, its folder stays: it holds the same
        if source == "aic":
            cards = list(train_all(system, part / system, quick=True, points=True))
        else:
            rows = Path(source.partition(":")[2]).expanduser()
            cards = list(train_profile(rows, system, chip, part / system, quick=True))
        assert cards
    return final
