"""When batches of an asynchronous pipeline start (vllm_v1), and how a run without progress ends."""

from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.errors import StuckError
from fastsim.workload import Workload

AFFINE = {"constant_ns": 10_000_000}


def deployment(**fields: Any) -> fastsim.Deployment:
    return fastsim.Deployment.load({"model": "meta-llama/Meta-Llama-3-8B", "device": "h100", **fields})


def decode_starts(described: fastsim.Deployment) -> tuple[list[float], list[float]]:
    """The starts of the batches of a request on the first stage, and their ends on the last, s."""
    workload = Workload(np.array([0.0]), np.array([20]), np.array([9]))
    rows = fastsim.simulate(described, workload, iterations=True).iterations
    assert rows is not None
    stage, last = rows["stage_id"].to_numpy(), described.pipeline_parallel_size - 1
    return rows["start"].to_numpy()[stage == 0].tolist(), rows["end"].to_numpy()[stage == last].tolist()


@pytest.mark.parametrize("engine", ["vllm-0.19", "vllm-0.33"])
@pytest.mark.parametrize("predictor", [{"source": "default"}, {"source": "affine", "affine": AFFINE}])
def test_a_token_is_decoded_once_the_one_before_it_has_left_the_pipeline(
    engine: str, predictor: dict[str, Any]
) -> None:
    described = deployment(engine=engine, pipeline_parallel_size=2, predictor=predictor)
    assert fastsim.resolve(described).scheduler.async_scheduling
    starts, ends = decode_starts(described)
    assert len(starts) == 9
    assert all(start >= end for start, end in zip(starts[1:], ends[:-1], strict=True))


def test_ticks_are_the_clock_of_the_recordings_where_no_batch_waits_for_tokens() -> None:
    predictor = {"source": "affine", "affine": {**AFFINE, "tick_s": 2**-20}}
    described = deployment(engine="vllm-0.19", pipeline_parallel_size=2, predictor=predictor)
    starts, ends = decode_starts(described)
    assert starts[2] == ends[0] < ends[1]
    [said] = fastsim.resolve(described).warnings
    assert said.startswith("predictor.affine.tick_s: with ticks, no batch waits until the tokens that it computes")


def test_a_run_in_which_requests_preempt_each_other_for_ever_ends_in_a_sentence() -> None:
    """Neither prompt is ever computed: each takes the blocks of the other, which do not suffice for both."""
    scheduler = {
        "num_blocks": 4,
        "scheduling_policy": "priority",
        "enable_prefix_caching": False,
        "long_prefill_token_threshold": 8,
    }
    predictor = {"source": "affine", "affine": AFFINE}
    described = deployment(engine="vllm-0.15", scheduler=scheduler, predictor=predictor, max_model_len=64)
    workload = Workload(np.array([0.0, 0.0]), np.array([35, 35]), np.array([19, 19]))
    said = (
        r"^replica 0: at .* s, requests have preempted each other 61 times since any was given a token, and would go on"
    )
    with pytest.raises(StuckError, match=said):
        fastsim.simulate(described, workload)
    in_order = fastsim.Deployment.load(described, ["scheduler.scheduling_policy=fcfs"])
    assert np.isfinite(fastsim.simulate(in_order, workload).column("finished_at")).all()
