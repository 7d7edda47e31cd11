"""Metrics of the golden runs, compared with those that Vidur defines the same way, from its requests and batches.

Needs the folder shared/ beside the checkout; without it the tests are skipped.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulation.test_golden import CASES, columns, replay

from fastsim.result.metrics.definitions import QUANTILES

pytestmark = pytest.mark.skipif(not CASES, reason="needs shared/golden beside the checkout")
NAMES = (
    "arrived_at",
    "scheduled_at",
    "prefill_completed_at",
    "completed_at",
    "scheduling_delay",
    "execution_time",
    "model_execution_time",
    "preempted_time",
    "num_restarts",
    "num_prefill_tokens",
    "num_decode_tokens",
)


def vidurs(case: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Return Vidur's request metrics by the names of fastsim, from its formulas (metrics_store.py)."""
    table = dict(zip(NAMES, columns(case / "expected_requests.parquet", *NAMES), strict=True))
    arrived, scheduled, prefilled, completed = (table[name] for name in NAMES[:4])
    num_output_tokens, num_prompt_tokens = table["num_decode_tokens"], table["num_prefill_tokens"]
    e2e, service = completed - arrived, table["execution_time"] + table["preempted_time"]
    return {
        "latency.e2e": e2e,
        "latency.ttft": prefilled - arrived,
        "latency.scheduling_delay": table["scheduling_delay"],
        "request.e2e_per_token": e2e / num_output_tokens,
        "request.execution": table["execution_time"],
        "request.execution_per_token": table["execution_time"] / num_output_tokens,
        "request.model_execution": table["model_execution_time"],
        "request.preempted": table["preempted_time"],
        "request.service": service,
        "request.service_per_token": service / num_output_tokens,
        "request.prefill": prefilled - scheduled,
        "request.prefill_per_token": (prefilled - scheduled) / num_prompt_tokens,
        "request.decode_per_token": (completed - prefilled) / num_output_tokens,
        "request.inter_arrival": np.diff(arrived),
        "request.prompt_tokens": num_prompt_tokens,
        "request.output_tokens": num_output_tokens,
        "request.tokens": num_prompt_tokens + num_output_tokens,
        "request.prompt_to_output": num_prompt_tokens / num_output_tokens,
        "request.restarts": table["num_restarts"],
    }


def compare(case: Path) -> int:
    summary = replay(case).summary
    compared = 0
    for name, values in vidurs(case).items():
        section, key = name.split(".")
        figures = summary[section][key]
        wanted = {
            "mean": values.mean(),
            "min": values.min(),
            "max": values.max(),
            **{quantile: np.quantile(values, share) for quantile, share in QUANTILES.items()},
        }
        for figure, value in wanted.items():
            assert figures[figure] == pytest.approx(value, rel=0, abs=1e-9), (case.name, name, figure)
            compared += 1
    replica, stage, size, tokens, prefill, seconds, end = columns(
        case / "expected_stages.parquet",
        *("replica_id", "stage_id", "size", "total_tokens", "num_prefill_tokens", "execution_time", "end"),
    )
    first = stage == 0
    for key, sizes in (("size", size), ("tokens", tokens), ("prefill_tokens", prefill)):
        figures, values = summary["batch"][key], sizes[first]
        assert figures["mean"] == pytest.approx(values.mean(), rel=1e-12), (case.name, key)
        for figure, share in QUANTILES.items():
            exact = np.quantile(values, share, method="inverted_cdf")
            assert figures[figure] <= exact < figures[figure] * (1 + 1 / 128) + 0.5, (case.name, key, figure)
        compared += len(figures)
    assert summary["batch"]["seconds"]["mean"] == pytest.approx(seconds.mean(), rel=0, abs=1e-9)
    (arrived,) = columns(case / "requests.parquet", "arrived_at")
    span = end.max() - arrived.min()
    theirs = json.loads((case / "expected_utilisation.json").read_text())
    for r, row in enumerate(summary["replicas"]):
        # Vidur writes the figures of a replica under the next replica's number, and does not weight averages by time.
        name = f"replica_{r or len(summary['replicas'])}_memory_usage"
        assert row["peak_kv"] * 100 == pytest.approx(theirs[name][f"{name}_max"], rel=0, abs=1e-9), (case.name, r)
        compared += 1
        for s, busy in enumerate(row["busy"]):
            assert busy == pytest.approx(seconds[(replica == r) & (stage == s)].sum() / span, rel=0, abs=1e-9)
            compared += 1
    parts = summary["breakdown"]["mean"]
    assert sum(parts.values()) == pytest.approx(summary["latency"]["e2e"]["mean"], rel=0, abs=1e-9)
    return compared


def test_metrics_of_every_golden_run_are_vidurs() -> None:
    compared = sum(compare(case) for case in CASES)
    print(f"{compared} figures of {len(CASES)} golden runs agree")
    assert len(CASES) >= 17
