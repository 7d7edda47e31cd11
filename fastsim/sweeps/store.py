"""The table of a sweep: a folder of Parquet files that grows as results arrive, and is a valid table at any moment.

The files ``part-*.parquet`` hold a row per configuration, and each is written in one step. ``_sweep.json`` describes
the sweep; readers of Parquet skip names that begin with an underscore or a dot.
"""

import json
import time
import warnings
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import OutputError
from fastsim.files.writing import locked, refuse_file, write_text, writing
from fastsim.result.metrics.cache import COUNTS
from fastsim.result.metrics.definitions import METRICS
from fastsim.sweeps.configuration import Row
from fastsim.version import __version__

SWEEP = "_sweep.json"
# A part is written after a second, later after 2 % of the time so far, so that there are few parts.
EVERY_S, SHARE = 1.0, 0.02
MOST_ROWS = 5000  # of a part
# Columns of the configurations whose summary says how much of the operator times was measured.
# Figures that not every configuration has, such as those of a prefix cache, each with a value of its type.
OPTIONAL = {
    **{f"operator_times.{kind}": 0.0 for kind in ("measured", "modelled", "outside")},
    **{f"cache.{kind}_hit_rate": 0.0 for kind in ("token", "request")},
    **{f"cache.{name}": 0 for name in COUNTS},
}


class Dataset:
    """The table of a sweep, open for writing; no other process can open it until it is closed."""

    def __init__(self, folder: Path, fields: Mapping[str, pa.DataType], about: Mapping[str, Any]) -> None:
        """Open the table in ``folder``, or make it.

        ``fields``: the types of the fields that vary, by name. ``about``: what _sweep.json says of the sweep; its
        ``digest`` tells sweeps apart. Raises OutputError if the folder cannot be written, is being written by another
        process, or holds something else.
        """
        self.folder = folder
        self.done = set[str]()  # digests of the configurations that were in the table when it was opened
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
        self._figures = False  # whether the schema has their columns
        self._part = 0
        self._open = ExitStack()
        self._made = not folder.exists()
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
        """Write the rows that are not written yet, also after an interruption.

        A new folder without a row is removed again after a failure.
        """
        try:
            self.write()
            if self._made and any(failure) and not self.rows:
                with suppress(OSError):
                    for name in (SWEEP, ".lock"):
                        (self.folder / name).unlink(missing_ok=True)
                    self.folder.rmdir()
        finally:
            self._open.close()

    def add(self, rows: Iterable[Row]) -> None:
        """Add rows to the table; they are written about once a second, and less often in a long sweep."""
        self._rows += (fresh := list(rows))
        self.rows += len(fresh)
        self.failed += sum(row["error"] is not None for row in fresh)
        now = time.monotonic()
        if len(self._rows) >= MOST_ROWS or now - self._written > max(EVERY_S, SHARE * (now - self._began)):
            # The columns of figures are not known before the first row that has them.
            if self._figures or any(row["error"] is None for row in self._rows):
                self.write()
            self._written = now

    def finish(self, **more: Any) -> None:
        """Write all rows, and add ``more`` to the description of the sweep, which is complete."""
        self.write()
        self._about |= more
        self._describe()

    def write(self) -> None:
        """Write the rows that are not written yet."""
        if not self._rows:
            return
        first = next((row for row in self._rows if row["error"] is None), None)
        if not self._figures and first is not None:
            for name, value in (first | {name: value for name, value in OPTIONAL.items() if name not in first}).items():
                if name not in self._schema.names:
                    self._schema = self._schema.append(_field(name, value))
            self._figures = True
        path = self.folder / f"part-{self._part:05}.parquet"
        with writing(path) as part:
            pq.write_table(pa.Table.from_pylist(self._rows, schema=self._schema), part)
        self._part += 1
        self._rows = []

    def _describe(self) -> None:
        write_text(self.folder / SWEEP, json.dumps(self._about, indent=2) + "\n")

    def _resume(self) -> None:
        """Read which configurations are done, and put damaged parts aside.

        Raises OutputError if the folder holds something else.
        """
        for left in self.folder.glob(f".{SWEEP}.*"):  # of a process that was killed while it wrote this file
            left.unlink()
        if not (self.folder / SWEEP).exists():
            if others := sorted(path.name for path in self.folder.iterdir() if path.name != ".lock"):
                raise OutputError(f"{self.folder}: holds {others[0]} and no sweep; name a new or an empty folder")
            return
        for left in self.folder.glob(".part-*"):
            left.unlink()
        if not any(self.folder.glob("*part-*")):
            return  # an earlier sweep ended without a single row
        self._check()
        for path in sorted(self.folder.glob("part-*.parquet")):
            self._part = max(self._part, int(path.stem.removeprefix("part-")) + 1)
            try:
                with pq.ParquetFile(path.absolute()) as file:
                    rows, schema = file.read(columns=["digest", "error"]), file.schema_arrow
            except (OSError, pa.ArrowException, KeyError) as problem:
                aside = path.with_name(f"_damaged-{path.name}")
                path.replace(aside)
                reason = str(problem).splitlines()[0]
                warnings.warn(
                    f"{path}: is damaged ({reason}); it is now {aside.name}, and its rows are computed again",
                    stacklevel=2,
                )
                continue
            self.done.update(map(str, rows["digest"].to_pylist()))
            self.rows += len(rows)
            self.failed += len(rows) - rows["error"].null_count
            if len(schema) > len(self._schema) and not self._figures:
                self._schema, self._figures = schema, True

    def _check(self) -> None:
        """Raise OutputError if the folder holds another sweep, or one of another version of fastsim."""
        path = self.folder / SWEEP
        try:
            about = json.loads(path.read_text())
            digest, version = about["digest"], about["fastsim"]
        except (ValueError, KeyError, TypeError):
            raise OutputError(f"{path}: cannot be read; name another folder, or remove this one") from None
        if version != __version__:
            raise OutputError(
                f"{self.folder}: holds a sweep by fastsim {version}, and this is {__version__}; name another folder"
            )
        if digest != self._about["digest"]:
            raise OutputError(
                f"{self.folder}: holds another sweep ({about.get('space', 'unknown')} as it was then: "
                f"{about.get('combinations', '?')} combinations of {', '.join(about.get('varied', ()))}); "
                "name another folder"
            )


def column_type(values: Iterable[Any]) -> pa.DataType:
    """The Arrow type of the column of a field that takes these values."""
    kinds = {type(value) for value in values} - {type(None)}
    if kinds <= {bool}:
        return pa.bool_()
    if kinds <= {int}:
        return pa.int64()
    return pa.float64() if kinds <= {int, float} else pa.string()


def _field(name: str, value: Any) -> "pa.Field[Any]":
    """The column of a figure, with its unit and meaning in the metadata."""
    kind = pa.int64() if isinstance(value, int) else pa.float64()
    metric = next((each for each in METRICS if name == each.name or name.startswith(f"{each.name}.")), None)
    if metric is None:
        return pa.field(name, kind)
    return pa.field(name, kind, metadata={"unit": metric.unit, "meaning": metric.meaning})
