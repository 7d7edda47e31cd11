"""Measured operator times in one declared table, whatever source they come from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fastsim.errors import TableError
from fastsim.predictors.chip import PRECISIONS, Floats
from fastsim.predictors.families import FAMILIES

SHAPE_COLUMNS = tuple(dict.fromkeys(column for family in FAMILIES.values() for column in family.columns))

# Each row is one operator of one shape on one GPU. Shape columns that the family does not have are null.
_FIELDS: list[Any] = [
    pa.field("family", pa.string(), nullable=False),  # a key of families.FAMILIES
    pa.field("device", pa.string(), nullable=False),  # the system that it ran on, e.g. h100_sxm
    pa.field("precision", pa.string(), nullable=False),  # a key of chip.PRECISIONS; for attention, of the KV cache
    pa.field("framework", pa.string(), nullable=False),
    pa.field("version", pa.string(), nullable=False),
    *(pa.field(name, pa.int64()) for name in SHAPE_COLUMNS),
    pa.field("ms", pa.float64(), nullable=False),
    pa.field("provenance", pa.string(), nullable=False),  # file, commit or run
]
SCHEMA = pa.schema(_FIELDS)


@dataclass(frozen=True, slots=True)
class Records:
    """Times of one family, device and precision: ``shape`` float64[rows, columns], ``ms`` float64[rows].

    ``frameworks``: those in which the times were measured, each with its version.
    """

    family: str
    device: str
    precision: str
    frameworks: tuple[str, ...]
    shape: Floats
    ms: Floats
    provenance: str


def checked(records: Records) -> Records:
    """The same rows in order of shape. Raises TableError for an impossible time or shape, or when no row is left."""
    source = f"{records.provenance}: {records.family} {records.precision}"
    if not len(records.ms):
        raise TableError(f"{source}: no rows for device {records.device!r}; give a source that measured some")
    names = FAMILIES[records.family].columns
    wrong = np.flatnonzero(~((records.ms > 0) & np.isfinite(records.ms)))
    if wrong.size:
        shape = ", ".join(f"{n} {v:g}" for n, v in zip(names, records.shape[wrong[0]], strict=True))
        raise TableError(f"{source}: ms: {records.ms[wrong[0]]} at {shape} is not a time; give milliseconds above 0")
    low = np.flatnonzero(~(records.shape >= 1).all(axis=0))
    if low.size:
        name, value = names[low[0]], np.min(records.shape[:, low[0]])
        raise TableError(f"{source}: {name}: {value:g} is not a positive integer (e.g. 128)")
    order = np.lexsort(records.shape.T[::-1])
    sorted_shape, sorted_ms = records.shape[order], records.ms[order]
    first = np.append(True, (np.diff(sorted_shape, axis=0) != 0).any(axis=1))
    # Several measurements of one shape count as their geometric mean.
    group = np.cumsum(first) - 1
    count = np.bincount(group)
    ms = np.where(count == 1, sorted_ms[first], np.exp(np.bincount(group, np.log(sorted_ms)) / count))
    return Records(
        records.family,
        records.device,
        records.precision,
        records.frameworks,
        sorted_shape[first],
        ms,
        records.provenance,
    )


def from_table(table: pa.Table, source: str) -> list[Records]:
    """Checked records of the declared table, by device, family and precision; ``place`` begins every error message."""
    for field in SCHEMA:
        if field.name in SHAPE_COLUMNS and field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
        if field.name not in table.column_names:
            needed = ", ".join(name for name in SCHEMA.names if name not in SHAPE_COLUMNS)
            raise TableError(f"{source}: column {field.name!r} is missing; the table needs {needed} and shape columns")
    try:
        table = table.select(SCHEMA.names).cast(pa.schema([pa.field(f.name, f.type) for f in SCHEMA]))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as problem:
        raise TableError(f"{source}: {str(problem).splitlines()[0]}; give the types of the declared table") from None
    if not table.num_rows:
        raise TableError(f"{source}: has no rows; give at least one measured operator")
    columns = {name: np.array(table[name].to_pylist(), dtype=object) for name in ("device", "family", "precision")}
    keys = sorted(set(zip(*columns.values(), strict=True)), key=str)
    out = []
    for device, family, precision in keys:
        if family not in FAMILIES:
            raise TableError(f"{source}: family: {family!r} is not one of {', '.join(FAMILIES)}")
        if precision not in PRECISIONS:
            raise TableError(f"{source}: precision: {precision!r} is not one of {', '.join(PRECISIONS)}")
        rows = table.filter(
            (columns["device"] == device) & (columns["family"] == family) & (columns["precision"] == precision)
        )
        for name in FAMILIES[family].columns:
            if empty := rows[name].null_count:
                raise TableError(f"{source}: {name}: empty in {empty} rows of {family}; give an integer")
        shape = np.column_stack([rows[name].to_numpy().astype(np.float64) for name in FAMILIES[family].columns])
        pairs = zip(rows["framework"].to_pylist(), rows["version"].to_pylist(), strict=True)
        frameworks = tuple(sorted({f"{framework} {version}".strip() for framework, version in pairs}))
        ms = rows["ms"].to_numpy(zero_copy_only=False).astype(np.float64)
        out.append(checked(Records(family, device, precision, frameworks, shape, ms, source)))
    return out
