"""Reads workloads from files, in fastsim's own columns and in the layouts that others publish."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload import files
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.checks import (
    MAX_TOKENS,
    Rows,
    check_lengths,
    check_limits,
    check_priorities,
    check_replicas,
    check_sessions,
    check_stops,
    check_think_times,
    check_times,
    refuse,
)
from fastsim.workload.columns import as_numbers, dates, is_number, is_text, numbers, some, truths
from fastsim.workload.layouts import OWN, SHAREGPT, UNITS, VIDUR
from fastsim.workload.origin import Origin
from fastsim.workload.tables import Table
from fastsim.workload.workload import COLUMNS, Workload

MANY, FAST = 1000, 1000.0  # from so many requests on, so many per second make the unit of a layout doubtful
SLOW = 10.0  # s between two arrivals on average, beyond which the unit of our own columns is doubtful


def requests(path: str, unit: str | None = None) -> Workload:
    """Read the workload in a file; ``-`` is CSV on standard input.

    ``unit`` is that of the times, one of UNITS; by default that of the layout. Requests without output are left out,
    and in published layouts those without prompt. Columns that the layout does not have are ignored, except
    replica_id. Raises WorkloadError with the file, the row (data rows count from 1), the column, the value and a valid
    value.
    """
    table = files.read(path)
    layout, place = table.layout, table.place
    names = [table.find(column) for column in COLUMNS]
    rows, origin = _complete(table, *names[1:])
    sessions, think = _sessions(table, rows)
    times = _times(table, names[0], unit, rows, may_lack=think is not None)
    order = None
    if layout not in (OWN, VIDUR) and not (times[1:] >= times[:-1]).all():
        order = np.argsort(times, kind="stable")
        rows = order if rows is None else rows[order]
        times = times[order]
    times = check_times(times, place, names[0], rows, may_lack=think is not None)
    prompts, outputs = (check_lengths(numbers(table, name, rows), place, name, rows) for name in names[1:])
    replicas = None
    if "replica_id" in table.columns.column_names:
        replicas = check_replicas(numbers(table, "replica_id", rows), place, "replica_id", rows)
    _ask_for_unit(table, times, names[0], unit)
    hashes = _hashes(table, prompts, rows)
    known = times if think is None else times[~np.isnan(times)]
    gap = _doubtful_gap(known) if unit is None and layout in (OWN, VIDUR) else 0.0
    origin = replace(origin, sorted=order is not None, hashed=hashes is not None, mean_gap=gap)
    users = _users(times, sessions, think)
    sent = _priorities(table, rows), _tenants(table, rows), *_ends(table, outputs, rows)
    workload = Workload(times, prompts, outputs, replicas, place, hashes, origin, sessions, think, users, *sent)
    if table.recorded is not None:
        digest, earlier = table.recorded
        if digest in (workload.digest, replace(workload, replica_id=None, block_hashes=None).digest):
            return replace(workload, origin=earlier)
    return workload


def lengths(path: str) -> tuple[NDArray[np.int64], Origin]:
    """Read prompt and output tokens, int64[2, num_requests], from a file that may lack arrival times."""
    table = files.read(path)
    names = [table.find(column) for column in COLUMNS[1:]]
    rows, origin = _complete(table, *names)
    both = np.stack([check_lengths(numbers(table, name, rows), table.place, name, rows) for name in names])
    return both, origin


def times(path: str, unit: str | None = None) -> NDArray[np.float64]:
    """Read arrival times, float64[num_requests], s, from a file that may lack lengths."""
    table = files.read(path)
    name = table.find("arrived_at")
    found = _times(table, name, unit, None)
    if table.layout not in (OWN, VIDUR):
        found = np.sort(found)
    _ask_for_unit(table, found, name, unit)
    return check_times(found, table.place, name)


def _complete(table: Table, prompt: str, output: str) -> tuple[Rows, Origin]:
    """The rows of requests that can be simulated, int64[n], or None if these are all; and how many others there are.

    Raises WorkloadError if there is none.
    """
    layout, columns = table.layout, table.columns
    kept = np.ones(columns.num_rows, bool)
    if layout.error in columns.column_names:
        kept &= ~columns[layout.error].fill_null(False).to_numpy().astype(bool)
    if layout.measured:
        kept &= ~columns[output].is_null().to_numpy()
    kept &= _not_zero(columns[output])
    with_output = int(np.count_nonzero(kept))
    if layout not in (OWN, VIDUR):
        kept &= _not_zero(columns[prompt])
    number = int(np.count_nonzero(kept))
    if not number:
        raise WorkloadError(
            f"{table.place}: {output}: none of the {len(kept):,} requests has an output; give at least one"
        )
    failed, empty = table.failed + len(kept) - with_output, with_output - number
    origin = Origin(layout.name, without_output=failed, without_prompt=empty, estimated=layout is SHAREGPT)
    return (None if number == len(kept) else np.flatnonzero(kept)), origin


def _not_zero(column: Any) -> NDArray[np.bool_]:
    """Where a column of numbers is not 0, bool[n]; bool[1] where it holds anything else."""
    if not is_number(column.type):
        return np.ones(1, bool)
    return np.asarray((column.fill_null(1) if column.null_count else column).to_numpy() != 0)


def _sessions(table: Table, rows: Rows) -> tuple[NDArray[np.int64] | None, NDArray[np.float64] | None]:
    """The sessions, int64[n], and think times, float64[n], s, of some rows; None where the file has none."""
    names, sessions, think = table.columns.column_names, None, None
    if "session_id" in names:
        column = table.columns["session_id"]
        column = (column if rows is None else column.take(rows)).combine_chunks()
        if is_text(column.type):
            column = column.dictionary_encode().indices
        alone = column.is_null().to_numpy(zero_copy_only=False)  # requests of no session
        values = as_numbers(column.fill_null(0) if alone.any() else column, table.place, "session_id", rows)
        sessions = check_sessions(values, table.place, "session_id", rows)
        if alone.any():
            sessions = np.where(alone, sessions.min() - np.cumsum(alone), sessions)
    if _has(table, "think_time"):
        column = some(table, "think_time", rows, may_lack=True)
        think = check_think_times(as_numbers(column, table.place, "think_time", rows), table.place, "think_time", rows)
    return sessions, think


def _priorities(table: Table, rows: Rows) -> NDArray[np.int32] | None:
    """The priorities of some rows, int32[n], of which empty ones are 0; None where the file has none."""
    if not _has(table, "priority"):
        return None
    values = as_numbers(some(table, "priority", rows, may_lack=True), table.place, "priority", rows)
    return check_priorities(np.where(np.isnan(values), 0, values), table.place, "priority", rows)


def _ends(
    table: Table, outputs: NDArray[np.int64], rows: Rows
) -> tuple[NDArray[np.int64] | None, NDArray[np.bool_] | None]:
    """The limits of the outputs of some rows, int64[n], and whether these end by a stop token, bool[n].

    None where the file has none; an empty cell is what the lack of the column means, see Workload.
    """
    limits = values = stops = None
    if _has(table, "max_tokens"):
        values = as_numbers(some(table, "max_tokens", rows, may_lack=True), table.place, "max_tokens", rows)
    if _has(table, "ends_by_stop"):
        column = some(table, "ends_by_stop", rows, may_lack=True)
        above = np.zeros(len(outputs), bool) if values is None else values > outputs
        stops = check_stops(truths(column, above, table.place, "ends_by_stop", rows), table.place, "ends_by_stop", rows)
    if values is not None:
        unlimited = outputs if stops is None else np.where(stops, MAX_TOKENS, outputs)
        values = np.where(np.isnan(values), unlimited, values) if values.dtype.kind == "f" else values
        limits = check_limits(values, outputs, table.place, "max_tokens", rows)
    return limits, stops


def _has(table: Table, name: str) -> bool:
    """Whether a file has values in a column."""
    names = table.columns.column_names
    return name in names and table.columns[name].null_count < table.columns.num_rows


def _tenants(table: Table, rows: Rows) -> NDArray[np.str_] | None:
    """The names of tenants of some rows, str[n], which may be empty; None where the file has none."""
    if not _has(table, "tenant"):
        return None
    column = table.columns["tenant"]
    if not (is_text(column.type) or is_number(column.type)):
        raise WorkloadError(f"{table.place}: column tenant: {column.type} is no text (e.g. interactive)")
    names = (column if rows is None else column.take(rows)).cast("string").fill_null("")
    return np.array(names.to_pylist(), np.str_)


def _users(
    times: NDArray[np.float64], sessions: NDArray[np.int64] | None, think: NDArray[np.float64] | None
) -> int | None:
    """The users of a closed loop, as many as requests arrive by themselves; None where the file is no closed loop."""
    if think is None or sessions is not None or not np.isnan(times).any():
        return None
    return int(np.count_nonzero(~np.isnan(times)))


def _times(table: Table, name: str, unit: str | None, rows: Rows, may_lack: bool = False) -> NDArray[np.float64]:
    """The arrival times of some rows, float64[n], s, in their order. Dates and clocks count from the earliest.

    ``may_lack``: an empty cell becomes NaN.
    """
    import pyarrow as pa

    layout, place = table.layout, table.place
    column = some(table, name, rows, may_lack)
    if is_text(column.type):
        column = dates(column, place, name, rows)
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("ms"))
    if pa.types.is_timestamp(column.type):
        if unit is not None:
            raise WorkloadError(f"{place}: {name} holds dates, so unit {unit} does not apply; leave it out")
        ticks = column.cast(pa.int64()).to_numpy()
        seconds: NDArray[np.float64] = (ticks - ticks.min()).astype(np.float64)
        seconds /= UNITS[column.type.unit]
        return seconds
    values = as_numbers(column, place, name, rows)
    if not (unit or layout.unit):
        raise WorkloadError(f"{place}: {name}: {values[0].item()!r} may be in any unit; say --unit s, ms, us or ns")
    if layout.clock:
        refuse(~np.isfinite(values), values, place, name, "a time (e.g. 0.25)", rows)
        values = values - values.min()
    scale = UNITS[unit or layout.unit]
    return np.asarray(values if scale == 1 else values / scale, np.float64)


def _ask_for_unit(table: Table, times: NDArray[np.float64], name: str, unit: str | None) -> None:
    """Raise WorkloadError where requests arrive so fast that a layout's unit is doubtful, and the user gave none."""
    layout, number, span = table.layout, len(times), float(times[-1] - times[0])
    small = layout.unit in ("ms", "us", "ns") and not layout.clock
    if unit is None and small and number >= MANY and 0 < span < number / FAST:
        raise WorkloadError(
            f"{table.place}: {name}: {number:,} requests arrive in {span:.3g} s if the unit is {layout.unit}, as "
            f"{layout.name} has it; say --unit s if these are seconds, and --unit {layout.unit} if they are not"
        )


def _doubtful_gap(times: NDArray[np.float64]) -> float:
    """The mean gap between arrivals, s, if it is so long that their unit may be another; else 0."""
    gap = float(times[-1] - times[0]) / max(1, len(times) - 1)
    return gap if gap > SLOW and len(times) > 2 else 0.0


def _hashes(table: Table, prompts: NDArray[np.int64], rows: Rows) -> BlockHashes | None:
    """The hashes of the full blocks of some rows; None if the file has none. Raises WorkloadError."""
    layout = table.layout
    if layout.hashes not in table.columns.column_names:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table.columns[layout.hashes].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # of no chunks
        column = pa.concat_arrays(column.chunks)
    lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    values = column.flatten() if lists else column
    if not (lists and pa.types.is_integer(values.type)) or values.null_count:
        raise WorkloadError(
            f"{table.place}: column {layout.hashes}: {column.type} is no list of whole numbers (e.g. [46])"
        )
    flat = values.to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    counts = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    hashes = BlockHashes(flat, offsets, table.block_size or layout.block_size)
    if rows is not None:
        hashes = hashes.take(rows)
    if layout in (OWN, VIDUR):
        return hashes
    hashes = hashes.at_most(prompts // hashes.block_size)  # the last block of a prompt may not be full
    return hashes if layout.chained else hashes.chained()
