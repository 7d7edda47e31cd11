"""Reading a result from its folder, and saying in one sentence what is wrong with one that is not whole."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import InputError
from fastsim.result.columns import REQUESTS

# Of the files of a result. 1 had no number; since 2 requests have their breakdown and the summary its details.
FORMAT = 2
AGAIN = "simulate again with --out"


def read(folder: Path) -> tuple[pa.Table, pa.Table | None, dict[str, Any], dict[str, Any]]:
    """Requests, iterations where there are any, summary and config. Raises InputError."""
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {what}; give a folder that `fastsim simulate --out` wrote")
    for name in ("requests.parquet", "config.json", "summary.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no {name}; give a folder that `fastsim simulate --out` wrote")
    config, summary = _json(folder / "config.json"), _json(folder / "summary.json")
    found = config.get("format", 1)
    if not isinstance(found, int) or found > FORMAT:
        raise InputError(
            f"{folder}: is in format {found}, and this fastsim reads up to {FORMAT}; use a newer one, or {AGAIN}"
        )
    for name, parts in (("config.json", (config, "deployment")), ("summary.json", (summary, "latency"))):
        if parts[1] not in parts[0]:
            raise InputError(f"{folder / name}: has no {parts[1]}, so it is of no result; {AGAIN}")
    requests = _table(folder / "requests.parquet")
    if missing := [column.name for column in REQUESTS if column.name not in requests.column_names]:
        raise InputError(f"{folder / 'requests.parquet'}: has no column {missing[0]}, so it is of no result; {AGAIN}")
    iterations = _table(folder / "iterations.parquet") if (folder / "iterations.parquet").exists() else None
    for name, table in (("requests.parquet", requests), ("iterations.parquet", iterations)):
        if table is not None and _origin(table) != config:
            raise InputError(f"{folder}: {name} and config.json are of different simulations; {AGAIN}")
    if summary.get("totals", {}).get("requests") != requests.num_rows:
        raise InputError(f"{folder}: requests.parquet and summary.json are of different simulations; {AGAIN}")
    return requests, iterations, summary, config


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise InputError(f"{path}: cannot be read ({_reason(problem)}); {AGAIN}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no mapping, so it is of no result; {AGAIN}")
    return found


def _table(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as problem:
        raise InputError(f"{path}: cannot be read ({_reason(problem)}); {AGAIN}") from None


def _origin(table: pa.Table) -> Any:
    """The config.json that a table was written with."""
    try:
        return json.loads((table.schema.metadata or {})[b"fastsim"])
    except (KeyError, ValueError):
        return None


def _reason(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


TABLES = ("requests.parquet", "iterations.parquet")


CSV = ("requests.csv", "iterations.csv")


FILES = (*TABLES, *CSV, "config.json", "summary.json")


def _write(table: pa.Table, path: Path) -> None:
    """As Parquet; bytes of floats apart, which compresses, and which is faster than a dictionary of them."""
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    whole = [name for name in table.column_names if name not in floats]
    options: dict[str, Any] = {"use_dictionary": whole, "use_byte_stream_split": floats}
    pq.write_table(table, path, compression="zstd", compression_level=1, **options)


def as_json(value: dict[str, Any]) -> str:
    """Indented, but for lists of numbers, which take a line."""
    text = json.dumps(value, indent=2, allow_nan=False)
    return re.sub(r"\[\n([^\[\]{}\"]*?)\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"
