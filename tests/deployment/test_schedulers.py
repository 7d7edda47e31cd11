"""Each scheduling policy is described by one record, and the rest of fastsim asks that record."""

from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

import fastsim
from fastsim.deployment import schedulers
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.schedulers import POLICIES, PolicyName
from fastsim.errors import WorkloadError
from fastsim.workload import Workload

USER = f"{Path(__file__).parents[1] / 'user_policies.py'}:shortest_prompt_first"


def deployment(policy: str, **scheduler: Any) -> Deployment:
    settings = {"policy": policy, **scheduler}
    return Deployment.load({"model": "llama-3-8b", "device": "h100", "max_model_len": 4096, "scheduler": settings})


def stream(gap: float, prompts: list[int]) -> Workload:
    """A request every ``gap`` seconds with two output tokens."""
    return Workload(gap * np.arange(len(prompts), dtype=np.float64), np.array(prompts), np.full(len(prompts), 2))


def test_every_policy_of_a_deployment_file_has_a_record_and_a_kernel() -> None:
    assert list(POLICIES) == list(get_args(PolicyName))
    for name, policy in POLICIES.items():
        kernel = import_module(f"fastsim.kernels.schedulers.{name}")
        assert hasattr(kernel, "run") and hasattr(kernel, "run_stages") == policy.pipelines


@pytest.mark.parametrize("name", [*POLICIES, USER])
def test_only_a_policy_that_cannot_chunk_refuses_prompts_beyond_its_budget(name: str) -> None:
    policy = schedulers.of(name)
    settings = {policy.token_budget: 1000} if policy.token_budget else {}
    workload = stream(0.1, [100, 2000])
    if policy.token_budget and not policy.chunked:
        with pytest.raises(WorkloadError, match=f"request 1: .*set scheduler.{policy.token_budget}=2000"):
            fastsim.simulate(deployment(name, **settings), workload)
    elif name != USER:  # that function never schedules the prompt, which only the run can tell
        assert fastsim.simulate(deployment(name, **settings), workload).requests["finished_at"].null_count == 0


def test_the_verdict_on_a_users_scheduler_speaks_of_its_token_budget() -> None:
    """The function fills batches of 512 tokens with prompts of 500 that come faster than they are served."""
    workload = stream(0.01, [500] * 300)
    result = fastsim.simulate(deployment(USER, max_num_batched_tokens=512), workload, detail=True)
    assert resolve(deployment(USER)).scheduler.token_budget == 4096
    assert 0.9 < result.summary["verdict"]["use"]["tokens"] <= 1


def test_without_chunked_prefill_vllm_v1_refuses_prompts_beyond_its_budget_unless_a_threshold_cuts_them() -> None:
    settings = {"enable_chunked_prefill": False, "max_num_batched_tokens": 1000}
    workload = stream(0.1, [100, 2000])
    assert "longer prompts can never be scheduled" in resolve(deployment("vllm_v1", **settings)).warnings[0]
    with pytest.raises(WorkloadError, match=r"request 1: .*set scheduler\.max_num_batched_tokens=2000"):
        fastsim.simulate(deployment("vllm_v1", **settings), workload)
    cut = deployment("vllm_v1", **settings, long_prefill_token_threshold=64).model_copy(update={"engine": "vllm-0.19"})
    assert fastsim.simulate(cut, workload).requests["finished_at"].null_count == 0
