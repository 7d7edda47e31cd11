"""Ranks of a replica that step together: what they need, what they share, and the flags that start them."""

from __future__ import annotations

import re

import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.launch.launch import launch
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError

RANKS = ["model=qwen3-30b-a3b", "device=h100", "data_parallel_size=4", "enable_expert_parallel=true"]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["data_parallel_size=3"],
            "data_parallel_size: 3: 3 ranks do not divide the 128 experts of Qwen/Qwen3-30B-A3B",
        ),
        (
            ["data_parallel_size=3", "tp=2"],
            "3 ranks of 2 GPUs do not divide the 128 experts of Qwen/Qwen3-30B-A3B (valid: 1",
        ),
        (["data_parallel_size=5", "enable_expert_parallel=false"], "do not divide the expert intermediate size 768"),
        (["scheduler.policy=sarathi"], "policy sarathi has no ranks that step together (valid: 1; vllm_v1 has them)"),
        (["engine=sglang-0.5.23"], "policy sglang has no ranks that step together (valid: 1; vllm_v1 has them)"),
        (["pp=2"], "ranks with pipeline stages are not simulated (valid: pipeline_parallel_size 1)"),
        (["router.policy=prefix_aware"], "'prefix_aware' does not look into replicas of 4 ranks (valid: round_robin"),
        (
            ["data_parallel_size=1", "data_parallel_balancer=external"],
            "'external' needs ranks (e.g. data_parallel_size: 2)",
        ),
    ],
)
def test_ranks_that_cannot_be(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        resolve(Deployment.load(None, [*RANKS, *overrides]))


def test_a_model_without_experts_has_replicas_instead() -> None:
    dense = resolve(Deployment.load(None, ["model=llama-3-8b", "data_parallel_size=2"]))
    assert (dense.data_parallel_size, dense.num_replicas) == (1, 2)
    with pytest.raises(ConfigError, match="only experts make ranks step together"):
        resolve(Deployment(model="llama-3-8b", device="h100", data_parallel_size=2))


def test_ranks_share_the_experts_and_nothing_else() -> None:
    alone, ranks = (resolve(Deployment.load(None, [*RANKS, f"data_parallel_size={size}"])) for size in (1, 4))
    assert ranks.num_gpus == 4 * alone.num_gpus
    experts, shared = alone.operators.all_experts[0], ranks.operators.all_experts[0]
    assert shared.weight_bytes() == experts.weight_bytes() / 4
    assert shared.flops(8) == experts.flops(8)  # of the tokens of four ranks a quarter
    assert ranks.operators.kv_bytes_per_token() == alone.operators.kv_bytes_per_token()
    assert ranks.memory.weights_gib < alone.memory.weights_gib / 2
    assert ranks.operators.gemms == alone.operators.gemms


def test_ranks_of_deepseek_split_no_heads() -> None:
    """With a latent cache each GPU has all heads of its own requests, and so as many tokens as it has memory for."""
    ranks = resolve(Deployment.load(None, ["model=deepseek-v3", "device=h200", "dp=8", "enable_expert_parallel=true"]))
    split = resolve(Deployment.load(None, ["model=deepseek-v3", "device=h200", "tp=8", "enable_expert_parallel=true"]))
    assert ranks.operators.attention.heads == 8 * split.operators.attention.heads
    assert ranks.operators.kv_bytes_per_token() == split.operators.kv_bytes_per_token()
    assert ranks.memory.kv_gib < split.memory.kv_gib  # attention is not split


def test_commands_have_the_flags_of_ranks() -> None:
    command = launch(Deployment.load(None, [*RANKS, "engine=vllm-0.19"]))
    assert ("--data-parallel-size", "4") in command.flags
    external = launch(Deployment.load(None, [*RANKS, "engine=vllm-0.19", "data_parallel_balancer=external"]))
    assert any("--data-parallel-rank" in note for note in external.notes)
