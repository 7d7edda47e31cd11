"""Writes workloads to files in fastsim's own columns. A file appears whole or not at all."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fastsim.errors import OutputError
from fastsim.files.writing import writing
from fastsim.workload.files import SUFFIXES
from fastsim.workload.layouts import MORE
from fastsim.workload.workload import COLUMNS, Workload

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

HASHES = "block_hashes.list.element"  # what Parquet calls the values of the lists
SMALL = 2**32  # hashes that differ by less, as those that number the blocks do, are written as differences
ROWS = 65_536  # rows that are turned into text at once


def save(workload: Workload, path: str | Path) -> None:
    """Write CSV, Parquet or JSONL, depending on the suffix; ``-`` is CSV on standard output. Times read back exactly.

    CSV has no lists, so it lacks the hashes of blocks.

    Raises OutputError with the file and the reason; an existing file then stays as it was.
    """
    if str(path) == "-":
        _csv(workload, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(path)
    writers = dict(zip(SUFFIXES[:3], (_csv, _parquet, _jsonl), strict=True))
    if path.suffix.lower() not in writers:
        raise OutputError(f"{path}: the name ends in {path.suffix!r}, not in {', '.join(writers)}")
    with writing(path) as part, part.open("wb") as file:
        writers[path.suffix.lower()](workload, file)


def _names(workload: Workload) -> list[str]:
    return [*COLUMNS, *(name for name in MORE if getattr(workload, name) is not None)]


def _columns(workload: Workload) -> "pa.Table":
    """The columns as a table, where times that are not known are empty."""
    import pyarrow as pa

    return pa.table({name: pa.array(getattr(workload, name), from_pandas=True) for name in _names(workload)})


def _csv(workload: Workload, file: IO[bytes]) -> None:
    from pyarrow import csv

    columns = _columns(workload)
    file.write((",".join(columns.column_names) + "\n").encode())
    csv.write_csv(columns, file, csv.WriteOptions(include_header=False))


def _parquet(workload: Workload, file: IO[bytes]) -> None:
    from pyarrow import LargeListArray, field, parquet

    columns, names, hashes = _columns(workload), _names(workload), workload.block_hashes
    encodings = {name: "BYTE_STREAM_SPLIT" for name in names if getattr(workload, name).dtype.kind == "f"}
    if hashes is not None:
        if len(hashes.values) and int(hashes.values.max()) - int(hashes.values.min()) < SMALL:
            encodings[HASHES] = "DELTA_BINARY_PACKED"
        lists = LargeListArray.from_arrays(hashes.offsets, hashes.values)
        size = {"block_size": str(hashes.block_size)}
        columns = columns.append_column(field("block_hashes", lists.type, metadata=size), lists)
        names = [*names, HASHES]
    parquet.write_table(
        columns,
        file,
        # Numbers of tokens are written as few bits each, by a dictionary, and hardly get smaller by compression.
        compression=dict.fromkeys(names, "zstd") | dict.fromkeys(COLUMNS[1:], "none"),
        use_dictionary=[name for name in names if name not in encodings],
        column_encoding=encodings,
    )


def _jsonl(workload: Workload, file: IO[bytes]) -> None:
    names, hashes = _names(workload), workload.block_hashes
    keys = [f'"{name}": %s' for name in names]
    if hashes is not None:
        keys += [f'"block_size": {hashes.block_size}', '"block_hashes": %r']
    line = "{" + ", ".join(keys) + "}\n"
    for rows in _slices(workload.num_requests):
        cells: list[list[Any]] = [_as_json(getattr(workload, name)[rows]) for name in names]
        if hashes is not None:
            cells.append([hashes[request].tolist() for request in range(*rows.indices(workload.num_requests))])
        file.write("".join(line % values for values in zip(*cells, strict=True)).encode())


def _as_json(values: "NDArray[Any]") -> list[Any]:
    """Values as JSON has them; times that are not known are null."""
    if values.dtype.kind == "U":
        return [json.dumps(name) for name in values.tolist()]
    if values.dtype.kind == "b":
        return ["true" if value else "false" for value in values]
    cells: list[Any] = values.tolist()
    return ["null" if value != value else value for value in cells] if values.dtype.kind == "f" else cells


def _slices(number: int) -> Iterator[slice]:
    return (slice(first, first + ROWS) for first in range(0, number, ROWS))
