"""Experts in DeepGEMM's grouped product, whose rows vLLM pads: which releases run it, and what was published."""

from typing import Any

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.explain import explain
from fastsim.predictors.sources import sources_of
from fastsim.predictors.times.device_forests import Sources
from fastsim.predictors.times.iteration import Iteration


def deployed(engine: str | None = "vllm-0.12", **fields: Any) -> Resolved:
    """MiniMax-M2 as it is stored, in fp8 with a scale per block, on four H100."""
    given: dict[str, Any] = {"model": "MiniMaxAI/MiniMax-M2", "device": "h100", "tensor_parallel_size": 4}
    scheduler = {"max_num_seqs": 128} if engine else {"policy": "sarathi", "max_num_seqs": 128, "chunk_size": 2048}
    given |= {"engine": engine, "max_model_len": 8192, "sampling": "greedy", "scheduler": scheduler}
    return resolve(Deployment.load(given | fields))


def pads(resolved: Resolved) -> bool:
    sources = sources_of(resolved)
    return all(map(sources.pads_experts, sources.operators.all_experts))


@pytest.mark.parametrize(
    ("fields", "padded"),
    [
        ({}, True),
        ({"engine": "vllm-0.15", "device": "h200"}, True),
        ({"enable_expert_parallel": True, "tensor_parallel_size": 8}, True),  # which splits no expert
        ({"tensor_parallel_size": 2, "data_parallel_size": 2}, True),
        ({"engine": "vllm-0.11"}, False),
        ({"engine": "vllm-0.16"}, False),
        ({"engine": None}, False),
        ({"engine": "sglang-0.5.10", "scheduler": {}}, False),
        ({"device": "b200"}, False),
        ({"tensor_parallel_size": 8}, False),
        ({"model": "Qwen/Qwen3-30B-A3B", "quantization": "fp8"}, False),
        ({"enable_expert_parallel": True, "all2all_backend": "deepep", "data_parallel_size": 2}, False),
    ],
)
def test_releases_and_layouts_that_pad_experts(fields: dict[str, Any], padded: bool) -> None:
    assert pads(deployed(**fields)) == padded


def experts_ms(sources: Sources, tokens: np.ndarray) -> np.ndarray:
    (experts,) = sources.operators.all_experts
    return sources.experts_ms(experts, tokens)


def test_a_small_batch_takes_as_long_as_a_larger_one() -> None:
    tokens = np.array([1.0, 2, 4, 8, 16, 32, 64, 128, 512, 2048, 8192])
    ms = experts_ms(sources_of(deployed()), tokens)
    assert (np.diff(ms) > 0).all()
    assert ms[5] < 1.05 * ms[0], "32 tokens reach more experts, which are all padded anyway"
    other = experts_ms(sources_of(deployed("vllm-0.16")), tokens)
    assert ms[0] > 4 * other[0]
    assert 0.7 < ms[-1] / other[-1] < 1.3, "where experts have rows enough, kernels are alike"
    half = experts_ms(sources_of(deployed(tensor_parallel_size=2, device="h200")), tokens)
    assert (half < 2 * ms).all() and half[0] > ms[0], "twice as much of each expert is twice the products, not the rows"
    spread = experts_ms(sources_of(deployed(enable_expert_parallel=True)), tokens)
    assert 0.6 * ms[0] < spread[0] < ms[0], "a quarter of the experts as a whole are as many products, of fewer rows"


@pytest.mark.parametrize(("engine", "tpot_ms"), [("vllm-0.12", 32.21), ("vllm-0.11", 16.39)])
def test_minimax_m2_takes_what_was_published_with_and_without(engine: str, tpot_ms: float) -> None:
    """vllm-project/recipes#112: 10 requests at a time, of about 2,060 and 960 tokens, with and without DeepGEMM."""
    explained = explain(deployed(engine), Iteration(decodes=((10, 2540),)))
    assert explained["total_ms"] == pytest.approx(tpot_ms, rel=0.1)


def test_its_time_is_known_as_a_formula_and_the_run_says_why_it_is_long() -> None:
    resolved = deployed()
    explained = explain(resolved, Iteration(decodes=((10, 2540),)))
    (row,) = (one for one in explained["operators"] if one["name"] == "moe_experts")
    assert row["how"] == "modelled" and row["low_ms"] < row["ms"] < row["high_ms"]
    assert "moe" in explained["provenance"]["modelled"] and not any(
        name.startswith("moe") for name in explained["provenance"]["forests"]
    )
    (note,) = (one for one in explained["warnings"] if "DeepGEMM" in one)
    assert "VLLM_MOE_USE_DEEP_GEMM=0" in note
    assert not any(
        "DeepGEMM" in one for one in explain(deployed("vllm-0.16"), Iteration(decodes=((1, 9),)))["warnings"]
    )
