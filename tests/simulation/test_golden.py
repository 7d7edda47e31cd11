"""Golden runs of Vidur, replayed with their own operator times, take the same steps at the same times.

Needs the folder shared/ beside the checkout; without it the tests are skipped.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.result.columns import BREAKDOWN
from fastsim.workload import Workload

GOLDEN = Path(__file__).resolve().parents[3] / "shared" / "golden"
CASES = sorted(path.parent for path in GOLDEN.glob("*/config.json"))
ROUTER = {"round_robin": "round_robin", "random": "pinned", "lor": "least_waiting"}
TOLERANCE = 1e-9  # s
pytestmark = pytest.mark.skipif(not CASES, reason="needs shared/golden beside the checkout")


def deployment_of(case: Path) -> Deployment:
    config = json.loads((case / "config.json").read_text())
    vidur = config["scheduler_config"]
    scheduler: dict[str, Any] = {
        "policy": config["scheduler"],
        "max_num_seqs": int(vidur["batch_size_cap"]),
        "block_size": int(vidur["block_size"]),
        "watermark": vidur["watermark_blocks_fraction"],
        "num_blocks": int(config["num_blocks"]),
    }
    for field, vidur_field in (("max_num_batched_tokens", "max_tokens_in_batch"), ("chunk_size", "chunk_size")):
        if vidur_field in vidur:
            scheduler[field] = int(vidur[vidur_field])
    if "max_waiting_iters" in vidur:
        scheduler["max_waiting_iters"] = int(vidur["max_waiting_iters"])
    return Deployment.load(
        {
            "model": config["model"],
            "device": config["device"],
            "node": config["network_device"],
            "tensor_parallel_size": config["tp"],
            "pipeline_parallel_size": config["pp"],
            "num_replicas": config["num_replicas"],
            "router": {"policy": ROUTER[config["global_scheduler"]]},
            "max_model_len": int(config["max_tokens"]),
            "gpu_memory_utilization": round(1 - config["memory_margin_fraction"], 6),
            "memory": {"planner": "vidur"},
            "scheduler": scheduler,
            "predictor": {"source": f"tables:{(case / config['tables']).resolve()}", "compose": "vidur"},
        }
    )


def columns(path: Path, *names: str) -> list[np.ndarray[Any, Any]]:
    table = pq.read_table(path, columns=list(names))
    return [table[name].to_numpy() for name in names]


def replay(case: Path) -> fastsim.Result:
    arrived, prompts, outputs = columns(
        case / "requests.parquet", "arrived_at", "num_prefill_tokens", "num_decode_tokens"
    )
    (replicas,) = columns(case / "expected_requests.parquet", "replica_id")
    stream = Workload(arrived, prompts, outputs, replicas.astype(np.int32), case.name)
    return fastsim.simulate(deployment_of(case), stream, iterations=True)


def in_order(rows: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    matrix = np.array([row.astype(float) for row in rows])
    return matrix[:, np.lexsort((matrix[2], matrix[1], matrix[0]))]


def compare(case: Path) -> None:
    result = replay(case)
    requests, stages = case / "expected_requests.parquet", case / "expected_stages.parquet"
    (ids,) = columns(requests, "request_id")
    assert (ids == np.arange(len(ids))).all()
    names = {
        "scheduled_at": "scheduled_at",
        "first_token_at": "prefill_completed_at",
        "finished_at": "completed_at",
        "execution_time": "execution_time",
        "preempted_time": "preempted_time",
    }
    for name, vidur_name in names.items():
        (expected,) = columns(requests, vidur_name)
        np.testing.assert_allclose(result.column(name), expected, rtol=0, atol=TOLERANCE, err_msg=name)
    (restarts,) = columns(requests, "num_restarts")
    np.testing.assert_array_equal(result.column("num_restarts"), restarts)
    parts = [result.column(part.name) for part in BREAKDOWN]
    np.testing.assert_allclose(np.sum(parts, axis=0), result.column("e2e"), rtol=0, atol=TOLERANCE)
    assert np.min(parts) > -TOLERANCE
    table = result.iterations
    assert table is not None
    common = ["replica_id", "stage_id", "start", "end"]
    rows = in_order([table[n].to_numpy() for n in (*common, "num_seqs", "num_tokens", "num_prefill_tokens")])
    expected_rows = in_order(columns(stages, *common, "size", "total_tokens", "num_prefill_tokens"))
    integers = [0, 1, 4, 5, 6]
    np.testing.assert_array_equal(rows[integers], expected_rows[integers])
    np.testing.assert_allclose(rows[2:4], expected_rows[2:4], rtol=0, atol=TOLERANCE)


def test_every_golden_run_is_the_same_step_for_step() -> None:
    for case in CASES:
        compare(case)
    print(f"{len(CASES)} golden runs identical")
    assert len(CASES) >= 17
