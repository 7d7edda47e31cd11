"""Recorded runs of the unmodified scheduler of an SGLang release: their settings, their requests, and every batch.

A folder of a case holds requests.parquet, and a folder for each release with config.json and expected_*.parquet. Times
are integers, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from reference.recorded import Rows, rows_of, scheduled_rows
from reference.sglang.clock import Clock
from reference.sglang.loop import Outcome
from reference.sglang.releases import RELEASES, Release
from reference.sglang.state import Batch, Request, Settings

SAME_NAME = (
    "max_total_num_tokens",
    "page_size",
    "schedule_policy",
    "chunked_prefill_size",
    "max_prefill_tokens",
    "max_running_requests",
    "schedule_conservativeness",
    "enable_mixed_chunk",
    "disable_radix_cache",
    "ignore_eos",
)
MODES = ("prefill", "decode", "mixed")


class Recording(NamedTuple):
    """What was given to a release."""

    requests: list[Request]
    settings: Settings
    release: Release
    clock: Clock
    features: list[str]


def read(run: Path) -> Recording:
    config = json.loads((run / "config.json").read_text())
    settings = Settings(disable_overlap_schedule=not config["overlap"], **{name: config[name] for name in SAME_NAME})
    requests = [
        Request(
            arrived_at=row["arrived_at_us"],
            num_prompt_tokens=row["num_prompt_tokens"],
            num_output_tokens=row["num_output_tokens"],
            max_tokens=row["max_tokens"],
            ends_by_stop=row["ends_by_stop"],
            tokens=tokens_of(row["seg_ids"], row["seg_lens"]),
        )
        for row in rows_of(run.parent / "requests.parquet")
    ]
    clock = Clock(*(config[f"clock_{letter}_ns"] for letter in "abcd"))
    release = RELEASES[config["version"].removesuffix(".post1")]
    return Recording(requests, settings, release, clock, config["features"])


def tokens_of(segments: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Prompt and outputs: the beginnings of segments, each of which has tokens of its own."""
    pairs = zip(segments, lengths, strict=True)
    return [segment * 2**20 + offset for segment, length in pairs for offset in range(length)]


def as_recorded(outcome: Outcome) -> tuple[Rows, Rows, Rows]:
    """An outcome in the columns of a recording."""
    steps = [step_row(number, batch) for number, batch in enumerate(outcome.batches)]
    scheduled = scheduled_rows(batch.members for batch in outcome.batches)
    return steps, scheduled, [request_row(request) for request in outcome.requests]


def step_row(number: int, batch: Batch) -> dict[str, Any]:
    return {
        "step": number,
        "mode": MODES.index(batch.mode),
        "processed_before": batch.num_results_before,
        "start_us": batch.started_at,
        "end_us": batch.ended_at,
        "num_reqs": len(batch.members),
        "num_tokens": batch.num_tokens,
        "retracted_ids": batch.retracted,
        "aborted_ids": [],  # a request that fits by itself is never given up
        "chunked_id": -1 if batch.chunked is None else batch.chunked.id,
        "free_tokens": batch.num_free,
        "evictable_tokens": batch.num_evictable,
        "num_running": batch.num_running,
        "num_waiting": batch.num_waiting,
        "batch_is_full": int(batch.is_full),
        "idle_passes_before": batch.num_idle_passes,
        "new_token_ratio": batch.new_token_ratio,
        "start_lag_us": batch.started_at - batch.scheduled_at,
        "update_lag_us": batch.updated_at - batch.ended_at,
    }


def request_row(request: Request) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "admitted_us": request.admitted_at,
        "first_token_us": request.first_token_at,
        "finished_us": request.finished_at,
        "num_retractions": request.num_retractions,
        "num_cached_tokens": request.num_cached_tokens,
        "num_output_tokens": request.num_outputs,
        "finish_reason": request.finish_reason,
    }
