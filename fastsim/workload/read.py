"""Reads workloads from CSV, Parquet and JSONL files with fastsim's column names or Vidur's."""

import sys
from contextlib import suppress
from difflib import get_close_matches
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError, did_you_mean
from fastsim.files.documents import unreadable
from fastsim.files.memory import check_memory
from fastsim.workload.presets import presets
from fastsim.workload.workload import COLUMNS, Workload, check_lengths, check_replicas, check_times

if TYPE_CHECKING:
    import pyarrow as pa

# The names of each column: fastsim's own, then Vidur's.
NAMES = {
    "arrived_at": ("arrived_at",),
    "num_prompt_tokens": ("num_prompt_tokens", "num_prefill_tokens"),
    "num_output_tokens": ("num_output_tokens", "num_decode_tokens"),
    "replica_id": ("replica_id",),
}
SUFFIXES = (".csv", ".parquet", ".jsonl")
HEAD = 65_536  # bytes that are read to find out what a file is
JSON_LINE = 2**24  # characters of the longest line that is read
PER_ROW, PER_BYTE = 60, {".csv": 3, ".jsonl": 1}  # bytes of memory while a row of Parquet, or a byte of text, is read
LISTED = 12  # columns that a message lists


def requests(path: str) -> Workload:
    """Read the workload in a file; ``-`` is CSV on standard input.

    Columns other than arrived_at, num_prompt_tokens, num_output_tokens and replica_id are ignored. Raises WorkloadError
    with the file, the row (data rows count from 1), the column, the value and a valid value.
    """
    place, table = _table(path)
    names = [_find(table, column, place) for column in COLUMNS]
    times = check_times(_numbers(table, names[0], place), place, names[0])
    prompts, outputs = (check_lengths(_numbers(table, name, place), place, name) for name in names[1:])
    replicas = None
    if "replica_id" in table.column_names:
        replicas = check_replicas(_numbers(table, "replica_id", place), place, "replica_id")
    return Workload(times, prompts, outputs, replicas, place)


def lengths(path: str) -> NDArray[np.int64]:
    """Read prompt and output tokens, int64[2, num_requests], from a file that may lack arrival times."""
    place, table = _table(path)
    names = [_find(table, column, place) for column in COLUMNS[1:]]
    return np.stack([check_lengths(_numbers(table, name, place), place, name) for name in names])


def times(path: str) -> NDArray[np.float64]:
    """Read arrival times, float64[num_requests], s, from a file that may lack lengths."""
    place, table = _table(path)
    name = _find(table, "arrived_at", place)
    return check_times(_numbers(table, name, place), place, name)


def _table(path: str) -> tuple[str, "pa.Table"]:
    """Read a table with at least one row; return what messages call the file, and the table."""
    import pyarrow as pa

    data = sys.stdin.buffer.read() if path == "-" else None
    place = path if data is None else "standard input"
    suffix = Path(path).suffix.lower() if data is None else ".csv"
    head = _head(path) if data is None else data[:HEAD]
    if suffix not in SUFFIXES:
        raise WorkloadError(
            f"{place}: the name ends in {suffix!r}, not in {', '.join(SUFFIXES)} (requests) or .yaml (a description)"
        )
    if not head.strip():
        raise WorkloadError(f"{place}: empty; a header and a row per request are expected ({','.join(COLUMNS)})")
    if suffix != ".parquet" and b"\0" in head:
        hint = "Parquet: name it .parquet" if head.startswith(b"PAR1") else f"binary, not text as {suffix} is"
        raise WorkloadError(f"{place}: {hint}")
    if data is None and suffix in PER_BYTE:
        size = Path(path).stat().st_size
        check_memory(size, f"{place}: {size:,} bytes", PER_BYTE[suffix])
    try:
        if suffix == ".parquet":
            table = _parquet(path, head)
        else:
            table = _jsonl(path) if suffix == ".jsonl" else _csv(place, data)
        names = table.column_names
    except UnicodeDecodeError:
        raise WorkloadError(f"{place}: not a text file in UTF-8") from None
    except (pa.ArrowException, OSError) as problem:
        reason = str(problem).splitlines()[0].rstrip(".")
        raise WorkloadError(f"{place}: cannot be read as {suffix[1:]} ({reason})") from None
    if not table.num_rows:
        raise WorkloadError(f"{place}: no requests, only a header ({_listed(names)}); add rows (e.g. 0.0,512,128)")
    return place, table


def _head(path: str) -> bytes:
    try:
        if why := unreadable(Path(path)):
            raise WorkloadError(f"{path}: {why}" + (" (e.g. requests.csv)" if "folder" in why else ""))
        with Path(path).open("rb") as file:
            return file.read(HEAD)
    except FileNotFoundError:
        if Path(path).suffix:
            raise WorkloadError(f"{path}: no such file") from None
        raise WorkloadError(f"{path}: neither a file nor a preset; {did_you_mean(path, presets())}") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise WorkloadError(f"{path!r}: cannot be read: {reason}") from None


def _parquet(path: str, head: bytes) -> "pa.Table":
    import pyarrow.parquet as pq

    if not head.startswith(b"PAR1"):
        raise WorkloadError(f"{path}: not a Parquet file in spite of its name; name a text file .csv or .jsonl")
    with Path(path).open("rb") as file:
        file.seek(-4, 2)
        if file.read() != b"PAR1" or file.tell() < 12:
            raise WorkloadError(f"{path}: a truncated Parquet file (its end is missing); copy or write it again")
    with pq.ParquetFile(Path(path).absolute()) as parquet:
        number = parquet.metadata.num_rows
        check_memory(number, f"{path}: {number:,} rows", PER_ROW)
        wanted = {name for names in NAMES.values() for name in names}
        found = parquet.schema_arrow.names
        # Without any wanted column, read all of them: the message lists what there is.
        return parquet.read(columns=[name for name in found if name in wanted] or None)


def _csv(place: str, data: bytes | None) -> "pa.Table":
    """Read CSV. Only an empty cell counts as missing: nan is a number, and NA and 0x10 are text."""
    import pyarrow as pa
    from pyarrow import csv

    def convert(kind: pa.DataType | None) -> csv.ConvertOptions:
        kinds = {name: kind for names in NAMES.values() for name in names} if kind else {}
        return csv.ConvertOptions(null_values=[""], strings_can_be_null=True, column_types=kinds)

    def source() -> Any:
        # A relative name with a colon would be the address of a file system.
        return Path(place).absolute() if data is None else BytesIO(data)

    try:
        # As integers pyarrow would read hexadecimal ones too.
        return _with_integers(csv.read_csv(source(), convert_options=convert(pa.float64())))
    except pa.ArrowInvalid:
        uneven: list[Any] = []

        def note(row: Any) -> Literal["skip"]:
            uneven.append(row)
            return "skip"

        (Path(place).read_bytes() if data is None else data).decode()  # rows that are noted must be text
        # Row numbers are known only when a single thread reads.
        reading, parsing = csv.ReadOptions(use_threads=False), csv.ParseOptions(invalid_row_handler=note)
        table = csv.read_csv(source(), reading, parsing, convert(None))
        if not uneven:
            return _without_hexadecimals(table, csv.read_csv(source(), convert_options=convert(pa.string())))
        raise WorkloadError(
            f"{place}: data row {uneven[0].number - 1}: {uneven[0].actual_columns} cells, where the header has "
            f"{uneven[0].expected_columns}: {_short(uneven[0].text)}"
        ) from None


def _with_integers(table: "pa.Table") -> "pa.Table":
    """Return the table with columns of whole numbers as integers, which messages show as they are written."""
    import pyarrow as pa

    for index, name in enumerate(table.column_names):
        if name not in NAMES["arrived_at"] and pa.types.is_float64(table.schema.types[index]):
            with suppress(pa.ArrowInvalid):
                table = table.set_column(index, name, table.column(index).cast(pa.int64()))
    return table


def _without_hexadecimals(table: "pa.Table", texts: "pa.Table") -> "pa.Table":
    """Return the table with the columns of texts in place of those of integers that are not decimal."""
    import pyarrow as pa

    for index, name in enumerate(table.column_names):
        if pa.types.is_integer(table.schema.types[index]) and pa.types.is_string(texts.schema.types[index]):
            try:
                texts.column(index).cast(pa.float64())
            except pa.ArrowInvalid:
                table = table.set_column(index, name, texts.column(index))
    return table


def _jsonl(path: str) -> "pa.Table":
    """Read JSON lines, one at a time: a parser of whole files would build columns, of any depth, that are ignored."""
    import pyarrow as pa

    wanted = {name for names in NAMES.values() for name in names}
    columns: dict[str, list[int | float | None]] = {}
    ignored: dict[str, None] = {}
    with Path(path).open(encoding="utf-8-sig") as file:
        number = rows = 0
        while line := file.readline(JSON_LINE + 1):
            number += 1
            if not line.strip():
                continue
            values = _object(line, f"{path}:{number}")
            for name in (name for name in values if name in wanted):
                if name not in columns:
                    columns[name] = [None] * rows
                columns[name].append(_number(values[name], f"{path}:{number}: {name}"))
            rows += 1
            for column in columns.values():
                if len(column) < rows:
                    column.append(None)
            if len(ignored) <= LISTED:
                ignored |= dict.fromkeys(islice((name for name in values if name not in wanted), LISTED + 1))
    table = {name: pa.array(column) for name, column in columns.items()}
    return pa.table(table | {name: pa.nulls(rows) for name in ignored})


def _object(line: str, place: str) -> dict[str, Any]:
    """Return the object in a line. Raises WorkloadError for anything else."""
    import json

    try:
        if len(line) > JSON_LINE:
            raise ValueError
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise WorkloadError(f"{place}: not valid JSON: {_short(line)}") from None
    if not isinstance(values, dict):
        raise WorkloadError(f"{place}: {_short(line)} is not an object (e.g. {_OBJECT})")
    return values


def _number(value: Any, place: str) -> int | float:
    if isinstance(value, int | float) and not isinstance(value, bool) and (value != value or abs(value) < 2**63):
        return value
    raise WorkloadError(f"{place}: {_short(value)} is not a number (e.g. 512)")


_OBJECT = '{"arrived_at": 0.0, "num_prompt_tokens": 512, "num_output_tokens": 128}'


def _find(table: "pa.Table", column: str, place: str) -> str:
    """Return the name that a column has in a file. Raises WorkloadError when it has none."""
    found = table.column_names
    for name in NAMES[column]:
        if found.count(name) > 1:
            raise WorkloadError(f"{place}: column {name} is there {found.count(name)} times; keep one")
        if name in found:
            return name
    near = [match for name in NAMES[column] for match in get_close_matches(name, found, n=1, cutoff=0.7)]
    hint = f"; rename {near[0]!r}?" if near else ""
    if column == "arrived_at" and not near:
        hint = "; lengths alone can be drawn from, with lengths: {kind: trace, file: ...} in a description"
    raise WorkloadError(f"{place}: column {' or '.join(NAMES[column])} is missing from {_listed(found)}{hint}")


def _listed(names: list[str]) -> str:
    return ", ".join(map(_short, names[:LISTED])) + (", ..." if len(names) > LISTED else "")


def _numbers(table: "pa.Table", name: str, place: str) -> NDArray[Any]:
    """Return a column as numbers. Raises WorkloadError at the first cell that is not a number."""
    import pyarrow as pa

    column = table[name]
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if column.null_count and (numeric or pa.types.is_null(kind)):
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise WorkloadError(f"{place}: data row {row + 1}: {name}: an empty cell is not a number (e.g. 512)")
    if numeric:
        numbers: NDArray[Any] = column.to_numpy()
        return numbers
    raise _not_a_number(column, name, place)


def _not_a_number(column: Any, name: str, place: str) -> WorkloadError:
    """Return the error for the first cell that is not a number."""
    import pyarrow as pa

    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return WorkloadError(f"{place}: column {name}: values of type {column.type} are not numbers (e.g. 512)")
    first = 0  # in Parquet, all cells may be numbers that are stored as text
    for row, cell in enumerate(column.to_pylist()):
        try:
            pa.scalar("empty" if cell is None else cell.strip()).cast(pa.float64())
        except pa.ArrowInvalid:
            first = row
            break
    text = column[first].as_py()
    shown = "an empty cell" if text is None else _short(text)
    return WorkloadError(f"{place}: data row {first + 1}: {name}: {shown} is not a number (e.g. 512)")


def _short(value: Any) -> str:
    text = repr(value[:100].strip() if isinstance(value, str) else value)
    return text if len(text) <= 60 else text[:57] + "..."
