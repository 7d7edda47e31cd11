"""``tables:DIR``: operator times that a user gives, one Parquet file per operator and meta.json."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fastsim.errors import ConfigError, TableError
from fastsim.files.documents import parse_json, read_text, short
from fastsim.files.parquet import read_parquet

from .times import LAYER_OPERATORS, Floats, OperatorTimes

# A grid with more entries than this (1 GiB) comes from a mistyped row.
MAX_ENTRIES = 1 << 27

OPTIONAL = ("post_attention_layernorm",)

META = {
    "kv_cache_prediction_granularity": 64,
    "attention_decode_batching_overhead_fraction_effective": 0.1,
    "attention_prefill_batching_overhead_fraction_effective": 0.1,
    "nccl_cpu_launch_overhead_ms": 0.02,
    "nccl_cpu_skew_overhead_per_device_ms": 0.0,
}


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / "meta.json"
    try:
        meta = parse_json(read_text(path), str(path)).values
    except ConfigError as problem:
        raise TableError(f"{problem}; tables:DIR needs an object such as {json.dumps(META)}") from None
    for key, example in META.items():
        if key not in meta:
            raise TableError(f"{path}: {key}: missing; a valid value is {example}")
        value = meta[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
            raise TableError(f"{path}: {key}: {short(value)} is not a number from 0 up (e.g. {example})")
    step = meta["kv_cache_prediction_granularity"]
    if step != step // 1 or step < 1:
        raise TableError(f"{path}: kv_cache_prediction_granularity: {step!r} is not a positive integer (e.g. 64)")
    return dict(meta)


def _read(path: Path, shapes: dict[str, int], why: str = "") -> tuple[list[np.ndarray], Floats]:
    """The shape columns (int64, each with its smallest valid value) and ``ms`` of one operator's file."""
    if not path.exists():
        raise TableError(f"{path}: not there, but {why or 'every tables:DIR needs it'}")
    table = read_parquet(path, TableError)
    for name in (*shapes, "ms"):
        if name not in table.column_names:
            have = ", ".join(table.column_names)
            raise TableError(f"{path}: column {name!r} is missing; it needs {', '.join(shapes)}, ms and has {have}")
    columns = []
    for name, least in shapes.items():
        column = table[name]
        if not pa.types.is_integer(column.type):
            raise TableError(f"{path}: {name}: type {column.type} is not an integer type (e.g. int64)")
        if column.null_count:
            raise TableError(f"{path}: {name}: {column.null_count} rows are empty; give an integer from {least} up")
        values = column.to_numpy().astype(np.int64)
        if values.size and values.min() < least:
            raise TableError(f"{path}: {name}: {values.min()} is below {least}, the least valid value")
        columns.append(values)
    if not table.num_rows:
        raise TableError(f"{path}: has no rows; give at least one of {', '.join(shapes)}, ms")
    if not (pa.types.is_floating(table["ms"].type) or pa.types.is_integer(table["ms"].type)):
        raise TableError(f"{path}: ms: type {table['ms'].type} is not a number type (e.g. double)")
    ms = table["ms"].to_numpy().astype(np.float64)
    wrong = np.flatnonzero(~((ms >= 0) & np.isfinite(ms)))
    if wrong.size:
        at = ", ".join(f"{name} {values[wrong[0]]}" for name, values in zip(shapes, columns, strict=True))
        raise TableError(f"{path}: ms: {ms[wrong[0]]} at {at} is not a time; give milliseconds from 0 up")
    return columns, ms


def _dense(path: Path, indices: list[np.ndarray], ms: Floats) -> Floats:
    shape = tuple(int(index.max()) + 1 for index in indices)
    if math.prod(shape) > MAX_ENTRIES:
        raise TableError(f"{path}: a grid of {' x '.join(map(str, shape))} is too large; at most {MAX_ENTRIES} entries")
    out = np.full(shape, np.nan)
    out[tuple(indices)] = ms
    if np.count_nonzero(~np.isnan(out)) < ms.size:
        raise TableError(f"{path}: has several rows for one shape; give one row each")
    return out


def _read_tokens(path: Path, why: str = "") -> Floats:
    indices, ms = _read(path, {"num_tokens": 1}, why)
    return _dense(path, indices, ms)


def _on_step(path: Path, kv: np.ndarray, step: int) -> np.ndarray:
    off = kv[kv % step != 0]
    if off.size:
        raise TableError(f"{path}: kv_cache_size: {off[0]} is not a multiple of {step}, the granularity in meta.json")
    return kv // step


def read_tables(folder: Path, tensor_parallel_size: int, pipeline_parallel_size: int) -> OperatorTimes:
    """Read the operator times of ``tables:DIR``.

    There is one Parquet file per operator, with columns ``num_tokens, ms``; for attn_decode ``batch_size,
    kv_cache_size, ms``; for attn_prefill ``kv_cache_size, prefill_chunk_size_squared, ms``. post_attention_layernorm
    may be absent (models with one norm per layer); all_reduce is needed with tensor parallelism only, send_recv with
    pipeline parallelism only. Raises TableError for anything missing or impossible.
    """
    if not folder.is_dir():
        raise TableError(
            f"predictor.source: tables:{folder}: no such folder; give one with meta.json and a Parquet per operator"
        )
    meta = _read_meta(folder)
    measured = meta.get("predictor", {}).get("num_tensor_parallel_workers", tensor_parallel_size)
    if measured != tensor_parallel_size:
        raise TableError(
            f"{folder / 'meta.json'}: predictor.num_tensor_parallel_workers: {measured} differs from "
            f"tensor_parallel_size {tensor_parallel_size}; give tables of {tensor_parallel_size} GPUs"
        )
    step = int(meta["kv_cache_prediction_granularity"])
    names = [name for name in LAYER_OPERATORS if name not in OPTIONAL or (folder / f"{name}.parquet").exists()]
    tokens = {name: _read_tokens(folder / f"{name}.parquet") for name in names}
    if tensor_parallel_size > 1:
        why = f"tensor_parallel_size {tensor_parallel_size} needs it"
        tokens["all_reduce"] = _read_tokens(folder / "all_reduce.parquet", why)
    if pipeline_parallel_size > 1:
        why = f"pipeline_parallel_size {pipeline_parallel_size} needs it"
        tokens["send_recv"] = _read_tokens(folder / "send_recv.parquet", why)

    path = folder / "attn_decode.parquet"
    (batch, kv), ms = _read(path, {"batch_size": 1, "kv_cache_size": 0})
    decode = _dense(path, [batch, _on_step(path, kv, step)], ms)
    path = folder / "attn_prefill.parquet"
    (kv, squared), ms = _read(path, {"kv_cache_size": 0, "prefill_chunk_size_squared": 1})
    chunk = np.rint(np.sqrt(squared)).astype(np.int64)
    if (chunk * chunk != squared).any():
        odd = squared[chunk * chunk != squared][0]
        raise TableError(f"{path}: prefill_chunk_size_squared: {odd} is not a square; give tokens * tokens")
    prefill = _dense(path, [_on_step(path, kv, step), chunk], ms)
    return OperatorTimes(
        tokens=tokens,
        decode=decode,
        prefill=prefill,
        kv_step=step,
        decode_overhead=float(meta["attention_decode_batching_overhead_fraction_effective"]),
        prefill_overhead=float(meta["attention_prefill_batching_overhead_fraction_effective"]),
        launch_ms=float(meta["nccl_cpu_launch_overhead_ms"]),
        skew_ms=float(meta["nccl_cpu_skew_overhead_per_device_ms"]),
    )


def digest(folder: Path) -> str:
    """SHA-256 over names and bytes of the files of a ``tables:DIR``."""
    total = hashlib.sha256()
    for path in sorted([*folder.glob("*.parquet"), folder / "meta.json"]):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
