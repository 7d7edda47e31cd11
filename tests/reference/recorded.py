"""The folders of recorded runs: a case holds requests.parquet, and a folder for each release that ran it.

The folder of a run has config.json and expected_*.parquet. Times are integers, in microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from pyarrow import parquet

Rows = list[dict[str, Any]]


class _Request(Protocol):
    @property
    def id(self) -> int: ...


class Scheduled(Protocol):
    """A request in a batch."""

    @property
    def request(self) -> _Request: ...
    @property
    def num_tokens(self) -> int: ...
    @property
    def num_computed_before(self) -> int: ...


def runs_of(case: Path) -> list[Path]:
    """One folder for each release that ran a case."""
    return sorted(path.parent for path in case.glob("v*/config.json"))


def rows_of(path: Path) -> Rows:
    rows: Rows = parquet.read_table(path).to_pylist()
    return rows


def expected(run: Path) -> tuple[Rows, Rows, Rows]:
    """Steps, scheduled requests by step and place in the batch, and requests."""
    scheduled = rows_of(run / "expected_scheduled.parquet")
    scheduled.sort(key=lambda row: (row["step"], row["position"]))
    return rows_of(run / "expected_steps.parquet"), scheduled, rows_of(run / "expected_requests.parquet")


def scheduled_rows(batches: Iterable[Sequence[Scheduled]]) -> Rows:
    """The members of batches in the columns of expected_scheduled."""
    return [
        {
            "request_id": member.request.id,
            "step": step,
            "num_scheduled_tokens": member.num_tokens,
            "num_computed_before": member.num_computed_before,
            "position": position,
        }
        for step, members in enumerate(batches)
        for position, member in enumerate(members)
    ]


def nanoseconds(members: Sequence[Scheduled], constant: int, per_token: int, per_request: int, per_context: int) -> int:
    """The time of a batch by the clock of the recordings; context tokens are computed before or in this batch."""
    num_tokens = sum(member.num_tokens for member in members)
    context = sum(member.num_computed_before + member.num_tokens for member in members)
    return constant + per_token * num_tokens + per_request * len(members) + per_context * context
