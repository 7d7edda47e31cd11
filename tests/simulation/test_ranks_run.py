"""A deployment whose ranks step together, from its description to its result."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsim import Deployment, load_workload, resolve, simulate, simulate_many
from fastsim.report.timeline.timeline import timeline
from fastsim.result.result import Result
from fastsim.workload import Workload

RANKS = [
    "model=qwen3-30b-a3b",
    "device=h100",
    "engine=vllm-0.19",
    "data_parallel_size=4",
    "enable_expert_parallel=true",
]


@cache
def workload() -> Workload:
    return load_workload("chat", rate=20.0, num_requests=120, seed=3)


@cache
def run(*overrides: str) -> Result:
    return simulate(Deployment.load(None, [*RANKS, *overrides]), workload(), iterations=True)


def columns(result: Result, table: str = "requests") -> dict[str, Any]:
    found = getattr(result, table)
    return {name: found[name].to_numpy() for name in found.column_names}


def test_every_token_comes_out_and_every_rank_has_its_row() -> None:
    result = run("num_replicas=2")
    requests, entries = columns(result), result.summary["replicas"]
    assert np.isfinite(requests["finished_at"]).all()
    assert [(entry["replica"], entry["rank"]) for entry in entries] == [(r, k) for r in range(2) for k in range(4)]
    served = np.bincount(4 * requests["replica_id"] + requests["rank"], minlength=8)
    assert [entry["requests"] for entry in entries] == served.tolist() and served.min() > 0
    assert result.summary["cost"]["gpus"] == 8
    assert result.requests.column_names[1:3] == ["replica_id", "rank"]


def test_batches_of_ranks_start_and_end_together() -> None:
    iterations = columns(run(), "iterations")
    assert set(iterations["rank"]) == {0, 1, 2, 3} and set(iterations["replica_id"]) == {0}
    starts, numbers = np.unique(iterations["start"], return_counts=True)
    assert numbers.max() == 4
    for start in starts[numbers > 1]:
        assert len(set(iterations["end"][iterations["start"] == start])) == 1


def test_a_timeline_has_a_track_for_each_rank(tmp_path: Path) -> None:
    run("num_replicas=2").save(tmp_path / "run")
    timeline(tmp_path / "run", tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    names = [event["args"]["name"] for event in events if event["name"] == "process_name"]
    assert names == [f"replica {replica}, rank {rank}" for replica in range(2) for rank in range(4)]
    ends: dict[int, float] = {}
    for event in sorted((e for e in events if e.get("cat") == "batch"), key=lambda e: e["ts"]):
        assert event["ts"] >= ends.get(event["pid"], 0.0) - 1e-3  # those of a rank follow one another
        ends[event["pid"]] = event["ts"] + event["dur"]


def test_gaps_between_tokens_are_those_of_the_requests() -> None:
    result = run()
    requests, tbt = columns(result), result.summary["latency"]["tbt"]
    gaps = (requests["num_output_tokens"] - 1).sum()
    spread = (requests["finished_at"] - requests["first_token_at"]).sum()
    assert tbt["mean"] == pytest.approx(spread / gaps, rel=1e-9)


def test_the_parts_of_a_request_add_up() -> None:
    requests = columns(run())
    parts = sum(requests[name] for name in requests if name in PARTS)
    np.testing.assert_allclose(parts, requests["e2e"], rtol=1e-9, atol=1e-9)


PARTS = [
    *("front_end", "routing_wait", "queue_wait", "launch_wait", "prefill_compute", "chunk_wait", "decode_compute"),
    *("decode_wait", "preemption", "pipeline_bubble", "host_overhead"),
]


def test_several_runs_at_once_are_the_same() -> None:
    job = resolve(Deployment.load(None, RANKS)), workload()
    (other,) = simulate_many([job], detail=True)
    summary = {name: value for name, value in run().summary.items() if name not in ("timing", "warnings")}
    assert other.summary is not None
    assert {name: other.summary[name] for name in summary} == summary


def test_a_workload_may_name_ranks() -> None:
    ids = np.arange(120, dtype=np.int32) % 8
    overrides = [*RANKS, "num_replicas=2", "data_parallel_balancer=external", "router.policy=pinned"]
    result = simulate(Deployment.load(None, overrides), replace(workload(), replica_id=ids))
    requests = columns(result)
    assert (4 * requests["replica_id"] + requests["rank"]).tolist() == ids.tolist()


def test_skewed_experts_make_steps_longer() -> None:
    even, skewed = (columns(run(f"moe_imbalance={times}")) for times in (1, 2))
    assert skewed["tpot"][~np.isnan(skewed["tpot"])].mean() > even["tpot"][~np.isnan(even["tpot"])].mean()
