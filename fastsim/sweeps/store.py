"""The table of a sweep: a folder of Parquet files that grows as results come, and is valid at any moment.

``part-*.parquet`` hold a row per configuration; they appear whole or not at all. ``_sweep.json`` says what the sweep
is; readers of Parquet skip names that begin with an underscore or a dot.
"""

import json
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import OutputError
from fastsim.files.writing import locked, refuse_file, write_text, writing
from fastsim.result.metrics.definitions import METRICS
from fastsim.sweeps.batches import Row
from fastsim.version import __version__

SWEEP = "_sweep.json"
EVERY_S, SHARE = 1.0, 0.02  # a part is written after a second, later after 2 % of the time so far: parts stay few
MOST_ROWS = 5000  # of a part
# Of configurations whose operator times say how much of them was measured.
SOMETIMES = tuple(f"operator_times.{kind}" for kind in ("measured", "modelled", "outside"))


class Dataset:
    """An open folder; nobody else can open it until it is closed."""

    def __init__(self, folder: Path, fields: Mapping[str, pa.DataType], about: Mapping[str, Any]) -> None:
        """``fields``: the fields that vary, and their types. ``about``: what the sweep is; ``digest`` tells it apart.

        Raises OutputError when the folder cannot be written, is in use, or holds something else.
        """
        self.folder, self.done = folder, set[str]()  # digests that are in the files when they are opened
        self.rows = self.failed = 0
        self._began = self._written = time.monotonic()
        self._about = {"fastsim": __version__, **about}
        self._rows: list[Row] = []
        self._names = tuple(fields)
        self._schema = pa.schema(
            [
                *(pa.field(name, kind, metadata={"meaning": "varied"}) for name, kind in fields.items()),
                pa.field("digest", pa.string(), metadata={"meaning": "of deployment, workload and version of fastsim"}),
                pa.field("error", pa.string(), metadata={"meaning": "why there are no figures"}),
            ],
            metadata={"fastsim": json.dumps(self._about)},
        )
        self._figures = False  # whether the schema has them
        self._part = 0
        self._open = ExitStack()
        refuse_file(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not self._open.enter_context(locked(folder / ".lock", wait=False)):
                raise OutputError(f"{folder}: another sweep is writing into it; wait for it, or name another folder")
            self._resume()
            self._describe()
        except OSError as problem:
            self._open.close()
            raise OutputError(f"{folder}: cannot be written ({problem.strerror}); name another folder") from None
        except OutputError:
            self._open.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        """Write what is left, also when the sweep was interrupted."""
        try:
            self._write()
        finally:
            self._open.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows; write them when it is time."""
        self._rows += (fresh := list(rows))
        self.rows += len(fresh)
        self.failed += sum(row["error"] is not None for row in fresh)
        now = time.monotonic()
        if len(self._rows) >= MOST_ROWS or now - self._written > max(EVERY_S, SHARE * (now - self._began)):
            # Without figures nobody knows their columns yet.
            if self._figures or any(row["error"] is None for row in self._rows):
                self._write()
            self._written = now

    def finish(self, **more: Any) -> None:
        """Say that the sweep is complete, and more about it."""
        self._write()
        self._about |= more
        self._describe()

    def _write(self) -> None:
        if not self._rows:
            return
        figures = next((row for row in self._rows if row["error"] is None), None)
        if not self._figures and figures is not None:
            for name in dict.fromkeys((*figures, *SOMETIMES)):
                if name not in self._schema.names:
                    self._schema = self._schema.append(_field(name, figures.get(name)))
            self._figures = True
        path = self.folder / f"part-{self._part:05}.parquet"
        with writing(path) as part:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), part)
        self._part += 1
        self._rows = []

    def _describe(self) -> None:
        write_text(self.folder / SWEEP, json.dumps(self._about, indent=2) + "\n")

    def _resume(self) -> None:
        """Find out what is done. Raises OutputError when the folder holds something else."""
        if not (self.folder / SWEEP).exists():
            if others := sorted(path.name for path in self.folder.iterdir() if path.name != ".lock"):
                raise OutputError(f"{self.folder}: holds {others[0]} and no sweep; name a new or an empty folder")
            return
        for left in [*self.folder.glob(".part-*"), *self.folder.glob(f".{SWEEP}.*")]:
            left.unlink()
        if not any(self.folder.glob("*part-*")):
            return  # a sweep that came to nothing
        self._check()
        for path in sorted(self.folder.glob("part-*.parquet")):
            self._part = max(self._part, int(path.stem.removeprefix("part-")) + 1)
            try:
                with pq.ParquetFile(path) as file:
                    found, schema = file.read(columns=["digest", "error"]), file.schema_arrow
            except (OSError, pa.ArrowException, KeyError) as problem:
                aside = path.with_name(f"_damaged-{path.name}")
                path.replace(aside)
                reason = str(problem).splitlines()[0]
                warnings.warn(f"{path}: damaged ({reason}); now {aside.name}, and computed again", stacklevel=2)
                continue
            self.done.update(map(str, found["digest"].to_pylist()))
            self.rows += len(found)
            self.failed += len(found) - found["error"].null_count
            if len(schema) > len(self._schema) and not self._figures:
                self._schema, self._figures = schema, True

    def _check(self) -> None:
        path = self.folder / SWEEP
        try:
            found = json.loads(path.read_text())
            digest, version = found["digest"], found["fastsim"]
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{path}: cannot be read; name another folder, or remove this one") from None
        if version != __version__:
            raise OutputError(
                f"{self.folder}: holds a sweep by fastsim {version}, and this is {__version__}; name another folder"
            )
        if digest != self._about["digest"]:
            raise OutputError(
                f"{self.folder}: holds another sweep ({found.get('space', 'unknown')} as it was then: "
                f"{found.get('combinations', '?')} combinations of {', '.join(found.get('varied', ()))}); "
                "name another folder"
            )


def column_type(values: Iterable[Any]) -> pa.DataType:
    """The Arrow type of a field that takes these values."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {bool}:
        return pa.bool_()
    if kinds <= {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _field(name: str, value: Any) -> "pa.Field[Any]":
    """A figure's column, with its unit and meaning."""
    kind = pa.int64() if isinstance(value, int) else pa.float64()
    metric = next((one for one in METRICS if name == one.name or name.startswith(f"{one.name}.")), None)
    if metric is None:
        return pa.field(name, kind)
    return pa.field(name, kind, metadata={"unit": metric.unit, "meaning": metric.meaning})
