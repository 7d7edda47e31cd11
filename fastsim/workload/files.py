"""Reads a file of requests, in whatever format and layout it is, into a table."""

import sys
from pathlib import Path

from fastsim.errors import WorkloadError, did_you_mean, first_line
from fastsim.files.documents import unreadable
from fastsim.files.memory import check_memory
from fastsim.workload import csv_files, json_files, parquet_files
from fastsim.workload.presets import presets
from fastsim.workload.tables import Table, listed
from fastsim.workload.workload import COLUMNS

SUFFIXES = (".csv", ".parquet", ".jsonl", ".json")
HEAD = 65_536  # bytes that are read to find out what a file is
PER_BYTE = {".csv": 3, ".jsonl": 3, ".json": 12}  # bytes of memory while a byte of text is read


def read(path: str) -> Table:
    """Read the file; ``-`` is CSV on standard input. Raises WorkloadError unless it has at least one request."""
    import pyarrow as pa

    data = sys.stdin.buffer.read() if path == "-" else None
    place = path if data is None else "standard input"
    suffix = Path(path).suffix.lower() if data is None else ".csv"
    head = _head(path) if data is None else data[:HEAD]
    _check(path, place, suffix, head, data is None)
    try:
        match suffix:
            case ".parquet":
                table = parquet_files.read(path, head)
            case ".csv":
                table = csv_files.read(place, head, data)
            case _:
                table = json_files.read(path, suffix)
    except UnicodeDecodeError:
        raise WorkloadError(f"{place}: not a text file in UTF-8") from None
    except (pa.ArrowException, OSError) as problem:
        reason = first_line(problem).rstrip(".")
        raise WorkloadError(f"{place}: cannot be read as {suffix[1:]} ({reason})") from None
    if not table.columns.num_rows:
        if table.failed:
            raise WorkloadError(f"{place}: all {table.failed:,} requests failed, so none is left to simulate")
        names = listed(table.names)
        raise WorkloadError(f"{place}: no requests, only a header ({names}); add rows (e.g. 0.0,512,128)")
    return table


def _check(path: str, place: str, suffix: str, head: bytes, is_file: bool) -> None:
    """Raise WorkloadError if a file is not of the kind that its name says, and TooLargeError if it is too large."""
    if suffix not in SUFFIXES:
        raise WorkloadError(
            f"{place}: the name ends in {suffix!r}, not in {', '.join(SUFFIXES)} (requests) or .yaml (a description)"
        )
    if not head.strip():
        raise WorkloadError(f"{place}: empty; a header and a row per request are expected ({','.join(COLUMNS)})")
    if suffix != ".parquet" and b"\0" in head:
        hint = "Parquet: name it .parquet" if head.startswith(b"PAR1") else f"binary, not text as {suffix} is"
        raise WorkloadError(f"{place}: {hint}")
    if is_file and suffix in PER_BYTE:
        size = Path(path).stat().st_size
        check_memory(size, f"{place}: {size:,} bytes", PER_BYTE[suffix])


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
