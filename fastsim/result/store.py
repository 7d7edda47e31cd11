"""The files of a result: reading a folder, with one sentence about what is wrong with it, and writing tables."""

import json
import math
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastsim.errors import InputError, first_line
from fastsim.files.documents import short, unreadable
from fastsim.files.parquet import read_parquet

FORMAT = 3  # of a result's files; since 3 their digest covers all figures
AGAIN = "simulate again with --out"
TABLES = ("requests.parquet", "iterations.parquet")
CSV = ("requests.csv", "iterations.csv")
FILES = (*TABLES, *CSV, "config.json", "summary.json")


def read_folder(folder: Path) -> tuple[pa.Table, pa.Table | None, dict[str, Any], dict[str, Any]]:
    """Return the table of requests, that of iterations or None, the summary and the config of a result.

    Raises InputError if a file is missing, damaged, in another format, of another simulation than the rest,
    or changed since it was written.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder}: {what}; give a folder that `fastsim simulate --out` wrote")
    for name in ("requests.parquet", "config.json", "summary.json"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no {name}; give a folder that `fastsim simulate --out` wrote")
    config, summary = _json(folder / "config.json"), _json(folder / "summary.json")
    digests = {"config.json": config.pop("digest", None), "summary.json": summary.pop("digest", None)}
    version = config.get("format", 1)
    if version != FORMAT:
        raise InputError(f"{folder}: is in format {short(version)}, and this fastsim reads format {FORMAT}; {AGAIN}")
    requests = read_parquet(folder / "requests.parquet", InputError, AGAIN)
    digests["requests.parquet"] = _digest(requests)
    iterations = None
    if (folder / "iterations.parquet").exists():
        iterations = read_parquet(folder / "iterations.parquet", InputError, AGAIN)
        digests["iterations.parquet"] = _digest(iterations)
    for name, digest in digests.items():
        if digest != digests["config.json"]:
            raise InputError(f"{folder}: {name} and config.json come from different simulations; {AGAIN}")
    if not _are_times(summary.get("timing")) or digest_of(requests, iterations, summary, config) != digest:
        raise InputError(f"{folder}: its files were changed after fastsim wrote them; {AGAIN}")
    return requests, iterations, summary, config


def digest_of(requests: pa.Table, iterations: pa.Table | None, summary: dict[str, Any], config: dict[str, Any]) -> str:
    """Return the SHA-256, as hex, of a result except for its timing: equal for equal results."""
    figures = {name: section for name, section in summary.items() if name != "timing"}
    hashed = sha256(json.dumps([config, figures]).encode())
    for table in (requests, iterations):
        if table is not None:
            for name, column in zip(table.column_names, table.columns, strict=True):
                hashed.update(f"{name}:{column.type}:{len(column)}:".encode())
                if pa.types.is_string(column.type):  # as the names of tenants are
                    encoded = column.cast("large_string").combine_chunks().dictionary_encode()
                    hashed.update(json.dumps(encoded.dictionary.to_pylist()).encode())
                    hashed.update(np.ascontiguousarray(encoded.indices.to_numpy(zero_copy_only=False)).data)
                elif pa.types.is_primitive(column.type):  # as all others are
                    hashed.update(np.ascontiguousarray(column.to_numpy()).data)
    return hashed.hexdigest()


def _are_times(timing: Any) -> bool:
    if not isinstance(timing, dict) or set(timing) != {"tables_s", "kernel_s", "write_s", "total_s"}:
        return False
    return all(type(time) is float and math.isfinite(time) for time in timing.values())


def _json(path: Path) -> dict[str, Any]:
    """Return the mapping in a JSON file."""
    try:
        if why := unreadable(path):
            raise InputError(f"{path}: {why}; {AGAIN}")
        contents = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise InputError(f"{path}: cannot be read ({first_line(problem)}); {AGAIN}") from None
    if not isinstance(contents, dict):
        raise InputError(f"{path}: holds no mapping, so it does not belong to a result; {AGAIN}")
    return contents


def _digest(table: pa.Table) -> str | None:
    """Return the digest of the result that a table was written with, or None if it carries none."""
    digest = (table.schema.metadata or {}).get(b"fastsim_digest")
    return None if digest is None else digest.decode(errors="replace")


def write_parquet(table: pa.Table, path: Path, digest: str) -> None:
    """Write a table as Parquet, with the digest of its result.

    Floats are stored as byte streams, which compress well and write faster than a dictionary.
    """
    import pyarrow.parquet as pq

    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"fastsim_digest": digest.encode()})
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    others = [name for name in table.column_names if name not in floats]
    options: dict[str, Any] = {"use_dictionary": others, "use_byte_stream_split": floats}
    pq.write_table(table, path, compression="zstd", compression_level=1, **options)


def as_json(value: dict[str, Any]) -> str:
    """Return ``value`` as indented JSON in which each list of numbers takes one line. Raises ValueError for NaN."""
    text = json.dumps(value, indent=2, allow_nan=False)
    return re.sub(r"\[\n([^\[\]{}\"]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"
