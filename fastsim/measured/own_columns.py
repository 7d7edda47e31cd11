"""Measured runs in fastsim's own columns, as in requests.parquet of a result."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fastsim.errors import WorkloadError
from fastsim.measured.measured import Floats, Measured
from fastsim.measured.sending import Lengths, Sending, sent
from fastsim.workload import read as workload_files
from fastsim.workload.columns import as_numbers
from fastsim.workload.layouts import OWN
from fastsim.workload.workload import COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

MARKS = COLUMNS
TIMES = "ttft or first_token_at, and e2e, finished_at or tpot"


def read(table: "pa.Table", path: Path, forced: Sending | None) -> Measured:
    """The run that a table holds. Raises WorkloadError where it lacks what is needed.

    The workload is read as every file of requests is, sessions, hashes of blocks and priorities included.
    """
    place = str(path)
    arrived_at, outputs = (numbers(table, name, place) for name in ("arrived_at", "num_output_tokens"))
    ttft, e2e = _latencies(table, place, arrived_at, outputs)
    with_output = outputs != 0
    workload = workload_files.requests(place)
    if workload.num_requests != np.count_nonzero(with_output):
        raise WorkloadError(f"{place}: num_output_tokens: some are no numbers; give every request a number (e.g. 128)")
    known = ~(np.isnan(ttft) & np.isnan(e2e))
    if not (known & with_output).any():
        raise WorkloadError(f"{place}: all {len(known):,} requests failed, so that there is nothing to compare")
    if not known[with_output].all():
        workload = workload.take(np.flatnonzero(known[with_output]))
    kept = np.flatnonzero(with_output & known)
    notes: list[str] = []
    if forced is not None:
        lengths = Lengths(place, workload.num_prompt_tokens, workload.num_output_tokens, workload.block_hashes)
        workload, notes = sent(lengths, None, Sending(), forced)
    scheduled_at = _given(table, "scheduled_at", place)[kept]
    return Measured(
        place,
        OWN.name,
        workload,
        ttft[kept],
        e2e[kept],
        None if np.isnan(arrived_at[kept]).any() else arrived_at[kept],
        None if np.isnan(scheduled_at).any() else scheduled_at,
        failed=len(known) - len(kept),
        notes=tuple(notes),
    )


def _latencies(table: "pa.Table", place: str, arrived_at: Floats, outputs: Floats) -> tuple[Floats, Floats]:
    """TTFT and E2E, float64[n] each, s, by whichever columns tell them; NaN where none does."""
    ttft, e2e, tpot = (_given(table, name, place) for name in ("ttft", "e2e", "tpot"))
    first, last = (_given(table, name, place) - arrived_at for name in ("first_token_at", "finished_at"))
    ttft = np.where(np.isnan(ttft), first, ttft)
    e2e = np.where(np.isnan(e2e), last, e2e)
    if "tpot" in table.column_names:
        decode = np.where(outputs == 1, 0.0, tpot * (outputs - 1))
        e2e = np.where(np.isnan(e2e), ttft + decode, e2e)
    if np.isnan(ttft).all() and np.isnan(e2e).all():
        raise WorkloadError(f"{place}: has no measured times; give columns {TIMES}, in seconds")
    return ttft, e2e


def _given(table: "pa.Table", name: str, place: str) -> Floats:
    """A column as below; all NaN where the table has none of that name."""
    return numbers(table, name, place) if name in table.column_names else np.full(table.num_rows, np.nan)


def numbers(table: "pa.Table", name: str, place: str) -> Floats:
    """A column as float64[n], NaN where it is empty. Raises WorkloadError where it holds anything but numbers."""
    return np.asarray(as_numbers(table[name], place, name, None), np.float64)
