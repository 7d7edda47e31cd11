"""``profile:DIR``: operator times measured by fastsim's own profiler, in Parquet files of the declared table."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fastsim.errors import TableError
from fastsim.files.parquet import read_parquet

from .records import Records, checked, from_table


def read(folder: Path, device: str) -> list[Records]:
    """Checked records of every Parquet file in ``folder`` that were measured on ``device``, by family and precision.

    Raises TableError for a folder without such files, a file with another schema, and impossible values.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise TableError(f"profile:{folder}: no Parquet files there; give the folder that fastsim profile wrote")
    tables = []
    for path in paths:
        tables.append((path, read_parquet(path, TableError)))
    measured = [records for path, table in tables for records in from_table(table, str(path))]
    own = [records for records in measured if records.device == device]
    if not own:
        have = ", ".join(sorted({records.device for records in measured}))
        raise TableError(f"profile:{folder}: no rows for device {device!r}; it has {have}")
    grouped: dict[tuple[str, str], list[Records]] = {}
    for records in own:
        grouped.setdefault((records.family, records.precision), []).append(records)
    return [_joined(grouped[key], f"profile:{folder}") for key in sorted(grouped)]


def _joined(parts: list[Records], source: str) -> Records:
    """The rows of several files together."""
    if len(parts) == 1:
        return parts[0]
    frameworks = tuple(sorted({name for part in parts for name in part.frameworks}))
    shape, ms = (np.concatenate([getattr(part, name) for part in parts]) for name in ("shape", "ms"))
    return checked(replace(parts[0], frameworks=frameworks, shape=shape, ms=ms, provenance=source))
