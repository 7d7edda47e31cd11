"""Measured rows on disk. They are written in pieces, each of which appears whole or not at all.

DIR/piece-00001.parquet has the rows that forests learn from, in the table that predictors/measurements/records.py
declares. DIR/other/piece-00001.parquet has the other rows of the same piece: families without a forest, throttled rows,
and skipped cases with their reason. DIR/profile.json has the options and the machine.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fastsim.errors import OutputError, TableError
from fastsim.files.writing import locked, refuse_file, write_text, writing

from .case import SHAPES, Case, Measured, Skipped

if TYPE_CHECKING:
    import pyarrow as pa

ASKED = "profile.json"
TIMES = {"low_ms": float, "high_ms": float, "repeats": int, "graph": bool, "clock_mhz": float, "temperature_c": float}
COLUMNS = tuple(dict.fromkeys(name for names in SHAPES.values() for name in names))
# What may not change within a profile, and what messages call it.
SAME = {"name": "the device", "system": "--system", "model": "--model", "tensor_parallel_sizes": "--tp"}
SAME |= {"precisions": "--precision", "seed": "--seed", "torch": "PyTorch"}


class Row(NamedTuple):
    """A case and its outcome."""

    case: Case
    outcome: Measured | Skipped

    @property
    def learnt(self) -> bool:
        """Whether a forest learns from this row."""
        from fastsim.predictors.families import FAMILIES

        return self.case.family in FAMILIES and isinstance(self.outcome, Measured) and not self.throttled

    @property
    def throttled(self) -> bool:
        """Whether the device was throttled during the measurement."""
        return isinstance(self.outcome, Measured) and "throttled" in self.outcome.flags.split(",")


class Store:
    """The folder of one profile. ``rows``: all rows that are in it, in order."""

    def __init__(self, folder: Path, asked: Mapping[str, Any]) -> None:
        """Open the folder, or create it. ``asked``: the options, which include those of ``SAME``; JSON must hold them.

        Raises OutputError if the folder cannot be written or is of another profile, TableError for a damaged piece.
        """
        self.folder, self.asked = folder, dict(asked)
        before = _before(folder)
        if before is None:
            _begin(folder, self.asked)
        elif different := next((key for key in SAME if before.get(key) != self.asked.get(key)), None):
            raise OutputError(
                f"{folder}: was begun with {SAME[different]} {before.get(different)!r}, not "
                f"{self.asked.get(different)!r}; name another folder for --out"
            )
        self.rows = [row for path in self._pieces() for row in _rows(path)]

    def _pieces(self) -> list[Path]:
        return [*sorted((self.folder / "other").glob("piece-*.parquet")), *sorted(self.folder.glob("piece-*.parquet"))]

    def write(self, rows: list[Row], machine: Mapping[str, Any]) -> None:
        """Write ``rows`` as one piece, with the present state of the machine."""
        numbers = [int(path.stem.removeprefix("piece-")) for path in self._pieces()]
        name = f"piece-{max(numbers, default=0) + 1:05}.parquet"
        for folder, chosen in ((self.folder / "other", False), (self.folder, True)):
            if part := [row for row in rows if row.learnt is chosen]:
                _write(folder / name, part, self.asked, machine)
        self.rows += rows


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock the folder against a second profile. Raises OutputError if another one holds the lock."""
    refuse_file(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / ".lock", wait=False) as mine:
            if not mine:
                raise OutputError(f"{folder}: another fastsim profile is writing there; name another folder for --out")
            yield
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be written ({problem.strerror}); name a folder that can") from None


def _before(folder: Path) -> dict[str, Any] | None:
    path = folder / ASKED
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except FileNotFoundError:
        if any(folder.glob("*.parquet")):
            raise OutputError(f"{folder}: holds Parquet files but no {ASKED}; name a new folder for --out") from None
        return None
    except (OSError, ValueError):
        raise OutputError(f"{path}: not the JSON that fastsim profile wrote; name a new folder for --out") from None


def _begin(folder: Path, asked: dict[str, Any]) -> None:
    write_text(folder / ASKED, json.dumps(asked, indent=1) + "\n")


def _write(path: Path, rows: list[Row], asked: dict[str, Any], machine: Mapping[str, Any]) -> None:
    import pyarrow.parquet as pq

    with writing(path) as part:
        table = _table(rows, asked, machine)
        pq.write_table(table, part)


def _table(rows: list[Row], asked: dict[str, Any], machine: Mapping[str, Any]) -> "pa.Table":
    import pyarrow as pa

    where = f"{machine['name']}, driver {machine.get('driver', 'none')}, torch {machine['torch']}"
    values: dict[str, list[Any]] = {
        "family": [row.case.family for row in rows],
        "device": [asked["system"]] * len(rows),
        "precision": [row.case.precision for row in rows],
        "framework": [row.case.backend for row in rows],
        "version": [str(machine["torch"])] * len(rows),
        "provenance": [where] * len(rows),
        "seed": [asked["seed"]] * len(rows),
    }
    for name in COLUMNS:
        sizes = (dict(zip(SHAPES[row.case.family], row.case.shape, strict=True)) for row in rows)
        values[name] = [size.get(name) for size in sizes]
    for name in ("ms", *TIMES, "flags"):
        values[name] = [getattr(row.outcome, name, None) for row in rows]
    values["reason"] = [getattr(row.outcome, "reason", None) for row in rows]
    kinds = {int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    types = {name: kinds[kind] for name, kind in TIMES.items()} | dict.fromkeys(("ms",), pa.float64())
    types |= dict.fromkeys((*COLUMNS, "seed"), pa.int64())
    arrays = {name: pa.array(column, types.get(name, pa.string())) for name, column in values.items()}
    about = {"machine": json.dumps(dict(machine)), "profile": json.dumps(asked)}
    return pa.table(arrays).replace_schema_metadata(about)


def _rows(path: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        listed = pq.read_table(path).to_pylist()
        return [_row(one) for one in listed]
    except (OSError, pa.ArrowInvalid, KeyError, TypeError) as problem:
        reason = str(problem).splitlines()[0]
        raise TableError(f"{path}: not a piece that fastsim profile wrote ({reason}); remove it") from None


def _row(values: dict[str, Any]) -> Row:
    shape = tuple(values[name] for name in SHAPES[values["family"]])
    case = Case(values["family"], values["precision"], shape, values["framework"])
    if values["ms"] is None:
        return Row(case, Skipped(values["reason"]))
    return Row(case, Measured(**{name: values[name] for name in Measured._fields}))
