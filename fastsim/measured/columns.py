"""Columns of a measured run as a layout has them, and the run that they make."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.measured.measured import Floats, Measured
from fastsim.measured.sending import Lengths, Sending, sent
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.checks import check_lengths
from fastsim.workload.tables import short


@dataclass(frozen=True)
class Columns:
    """What a file has, in its own order; times are in seconds, and NaN where a request has none.

    Attributes
    ----------
    place, layout : as in Measured, and so are ``gaps``, ``duration`` and ``notes``.
    names : of the columns of prompts and outputs in the file, which messages call them.
    num_prompt_tokens, num_output_tokens, ttft, e2e : float64[n].
    finished : bool[n], whether a request did not fail.
    arrived_at, scheduled_at : float64[n], of any clock; None where the file has none.
    shared : for each request the hashes of the blocks of ``block_size`` tokens that it may share with others.
    failed : requests that failed, and that are in none of the columns.
    said : what the file says of how requests were sent.
    """

    place: str
    layout: str
    names: tuple[str, str]
    num_prompt_tokens: Floats
    num_output_tokens: Floats
    ttft: Floats
    e2e: Floats
    finished: NDArray[np.bool_]
    arrived_at: Floats | None = None
    scheduled_at: Floats | None = None
    shared: Sequence[Sequence[int]] | None = None
    block_size: int = 16
    gaps: Floats | None = None
    duration: float | None = None
    failed: int = 0
    said: Sending = field(default_factory=Sending)
    notes: tuple[str, ...] = ()

    def run(self, forced: Sending | None) -> Measured:
        """The run of the requests that finished. Raises WorkloadError where it cannot be replayed.

        ``forced``: how the user wants the requests to be sent, instead of as the file says.
        """
        kept = np.flatnonzero(self.finished)
        failed = self.failed + len(self.finished) - len(kept)
        if not len(kept):
            what = f"all {failed:,} requests failed" if failed > 1 else "the only request failed" if failed else ""
            raise WorkloadError(f"{self.place}: {what or 'no requests'}, so that there is nothing to compare")
        arrived_at = None if self.arrived_at is None else self.arrived_at[kept]
        if arrived_at is not None and not np.isfinite(arrived_at).all():
            row = int(kept[np.flatnonzero(~np.isfinite(arrived_at))[0]])
            raise WorkloadError(
                f"{self.place}: request {row + 1} has no time of arrival; give all of them one, or none"
            )
        first = 0.0
        if arrived_at is not None:
            order = np.argsort(arrived_at, kind="stable")
            kept, first = kept[order], float(arrived_at.min())
            arrived_at = arrived_at[order] - first
        scheduled_at = None if self.scheduled_at is None else self.scheduled_at[kept] - first
        workload, notes = sent(self._lengths(kept), arrived_at, self.said, forced)
        return Measured(
            self.place,
            self.layout,
            workload,
            self.ttft[kept],
            self.e2e[kept],
            arrived_at,
            scheduled_at,
            self.gaps,
            self.duration,
            failed,
            (*self.notes, *notes),
        )

    def _lengths(self, rows: NDArray[np.int64]) -> Lengths:
        prompts, outputs = (
            check_lengths(values[rows], self.place, name, rows)
            for values, name in zip((self.num_prompt_tokens, self.num_output_tokens), self.names, strict=True)
        )
        hashes = None
        if self.shared is not None and any(self.shared):
            hashes = BlockHashes.of([self.shared[row] for row in rows], self.block_size)
        return Lengths(self.place, prompts, outputs, hashes)


def floats(values: object, place: str, name: str) -> Floats:
    """A list of numbers, of which some may be None, as float64[n]. Raises WorkloadError at the first that is none."""
    if not isinstance(values, list):
        raise WorkloadError(f"{place}: {name}: {short(values)} is not a list with a number for each request")
    for row, value in enumerate(values):
        if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
            raise WorkloadError(f"{place}: request {row + 1}: {name}: {short(value)} is not a number (e.g. 0.25)")
    try:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    except OverflowError:
        raise WorkloadError(f"{place}: {name}: holds a number with hundreds of digits (e.g. 0.25)") from None


def positive(values: Floats) -> NDArray[np.bool_]:
    """Where values are above 0, bool[n]; false where there is none."""
    return np.asarray(np.nan_to_num(values, nan=0.0) > 0)
