"""Recorded runs of the unmodified scheduler of a vLLM release: their settings, their requests, and every step.

A folder of a case holds requests.parquet, and a folder for each release with config.json and expected_*.parquet. Times
are integers, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from reference.recorded import Rows, nanoseconds, rows_of, scheduled_rows
from reference.vllm_v1.engine import Outcome
from reference.vllm_v1.releases import RELEASES, Release
from reference.vllm_v1.state import Decision, Member, Request, Settings

SAME_NAME = (
    "policy",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "block_size",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "long_prefill_token_threshold",
    "async_scheduling",
    "scheduler_reserve_full_isl",
)


@dataclass(frozen=True)
class Clock:
    """The time of a batch on any stage: coefficients in ns, times in whole microseconds."""

    constant: int
    per_token: int = 0
    per_sequence: int = 0
    per_context_token: int = 0  # computed before or in this batch

    def __call__(self, stage: int, members: Sequence[Member]) -> int:
        ns = nanoseconds(members, self.constant, self.per_token, self.per_sequence, self.per_context_token)
        return ns // 1000


class Recording(NamedTuple):
    """What was given to a release."""

    requests: list[Request]
    settings: Settings
    release: Release
    clock: Clock


def read(run: Path) -> Recording:
    config = json.loads((run / "config.json").read_text())
    settings = Settings(
        num_blocks=config["num_gpu_blocks"] - 1,  # one is the null block
        num_stages=config["pipeline_parallel_size"],
        watermark=config.get("watermark", 0.0),
        empty_step_sleep=config["empty_step_sleep_us"],
        **{name: config[name] for name in SAME_NAME},
    )
    requests = [
        Request(
            arrived_at=row["arrived_at_us"],
            num_prompt_tokens=row["num_prompt_tokens"],
            num_output_tokens=row["num_output_tokens"],
            max_tokens=row["max_tokens"],
            ends_by_stop=row["ends_by_stop"],
            priority=row["priority"],
            block_hashes=row["prefix_hashes"],
        )
        for row in rows_of(run.parent / "requests.parquet")
    ]
    clock = Clock(*(config[f"clock_{letter}_ns"] for letter in "abcd"))
    return Recording(requests, settings, RELEASES[config["version"].rpartition(".")[0]], clock)


def as_recorded(outcome: Outcome) -> tuple[Rows, Rows, Rows]:
    """An outcome in the columns of a recording."""
    steps = [step_row(number, decision) for number, decision in enumerate(outcome.decisions)]
    scheduled = scheduled_rows(decision.members for decision in outcome.decisions)
    return steps, scheduled, [request_row(request) for request in outcome.requests]


def step_row(number: int, decision: Decision) -> dict[str, Any]:
    return {
        "step": number,
        "start_us": decision.started_at,
        "end_us": decision.ended_at,
        "start_lag_us": decision.started_at - decision.scheduled_at,
        "update_lag_us": decision.updated_at - decision.ended_at,
        "updates_before": decision.num_updates_before,
        "num_reqs": len(decision.members),
        "num_tokens": decision.num_tokens,
        "new_ids": [admission.request_id for admission in decision.admitted],
        "new_cached": [admission.num_cached_tokens for admission in decision.admitted],
        "resumed_ids": [admission.request_id for admission in decision.resumed],
        "resumed_cached": [admission.num_cached_tokens for admission in decision.resumed],
        "preempted_ids": sorted(decision.preempted),
        "free_blocks": decision.num_free_blocks,
        "num_running": decision.num_running,
        "num_waiting": decision.num_waiting,
    }


def request_row(request: Request) -> dict[str, Any]:
    return {
        "request_id": request.id,
        "admitted_us": request.admitted_at,
        "first_token_us": request.first_token_at,
        "finished_us": request.finished_at,
        "num_preemptions": request.num_preemptions,
        "num_cached_tokens": request.num_cached_tokens,
        "num_output_tokens": request.num_outputs,
        "finish_reason": request.finish_reason,
    }
