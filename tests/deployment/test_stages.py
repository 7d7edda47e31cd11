"""Pipelines whose stages have different numbers of layers: how they are cut, their memory and their times."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastsim.deployment import stages
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.sizes import GIB
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.build import build_cost
from fastsim.predictors.explain import explain
from fastsim.predictors.times.iteration import typical


def resolved(*settings: str, **fields: Any) -> Resolved:
    return resolve(Deployment.load(fields, settings))


# vLLM starts all four (pull request 6115); the order of the stages is that of get_pp_indices.
@pytest.mark.parametrize(
    ("num_layers", "num_stages", "layers"),
    [
        (61, 2, (31, 30)),
        (94, 4, (23, 24, 24, 23)),
        (126, 4, (31, 32, 32, 31)),
        (28, 3, (9, 10, 9)),
        (32, 4, (8, 8, 8, 8)),
        (31, 4, (8, 8, 8, 7)),
        (5, 1, (5,)),
    ],
)
def test_layers_are_cut_as_vllm_cuts_them(num_layers: int, num_stages: int, layers: tuple[int, ...]) -> None:
    assert stages.cut(num_layers, num_stages) == layers


@given(st.integers(1, 200), st.integers(1, 200))
def test_every_layer_has_one_stage(num_layers: int, num_stages: int) -> None:
    num_stages = min(num_stages, num_layers)
    layers = stages.cut(num_layers, num_stages)
    assert len(layers) == num_stages and max(layers) - min(layers) <= 1
    assert [layer for stage in stages.ranges(layers) for layer in stage] == list(range(num_layers))


@pytest.mark.parametrize(
    ("model", "device", "tp", "pp", "fullest"),
    [
        ("deepseek-ai/DeepSeek-V3", "h100", 8, 2, 30),  # of 31 and 30, but the first three have no experts
        ("Qwen/Qwen3-235B-A22B", "h100", 4, 4, 24),
        ("meta-llama/Llama-3.1-405B", "a100", 8, 4, 32),
        ("Qwen/Qwen2.5-7B", "l40s", 1, 3, 10),
    ],
)
def test_the_fullest_stage_bounds_the_blocks(model: str, device: str, tp: int, pp: int, fullest: int) -> None:
    sizes = {"tensor_parallel_size": tp, "pipeline_parallel_size": pp, "max_model_len": 8192}
    one = resolved(model=model, device=device, **sizes)
    layer = one.operators.kv_bytes_per_token() // one.model.num_layers
    assert one.memory.block_bytes == fullest * layer * one.scheduler.block_size
    total = one.memory.weights_gib + one.memory.kv_gib + one.memory.reserve_gib
    assert total <= one.device.torch_memory_gib * one.gpu_memory_utilization < total + 2 * one.memory.block_bytes / GIB


def test_given_layers_are_taken() -> None:
    fields: dict[str, Any] = {"model": "Qwen/Qwen2.5-7B", "device": "h100", "max_model_len": 8192}
    one = resolved(**fields, pipeline_layers=[4, 12, 12])
    assert one.pipeline_layers == (4, 12, 12) and one.pipeline_parallel_size == one.gpus_per_replica == 3
    assert resolve(one.deployment).deployment == one.deployment
    assert resolved("pipeline_layers=4,12,12", **fields).pipeline_layers == (4, 12, 12)
    as_cut = resolved(**fields, pipeline_parallel_size=3)
    assert as_cut.memory.num_blocks > one.memory.num_blocks  # 10 layers at most, not 12


def test_a_stage_with_more_layers_takes_longer() -> None:
    fields: dict[str, Any] = {"model": "Qwen/Qwen2.5-7B", "device": "h100", "max_model_len": 8192}
    one = resolved(**fields, pipeline_layers=[4, 12, 12])
    shares = build_cost(one).cost.shares
    assert shares == pytest.approx(np.array([4, 12, 12]) / (28 / 3))
    # All stages together take as long as they do in any cut, but for sending activations.
    whole = {"pipeline_parallel_size": 4}
    equal = resolved(**fields, **whole)
    assert (build_cost(equal).cost.shares == 1).all()
    mine, other = (explain(cut, typical(one)) for cut in (one, equal))
    sent = {found["deployment"]["pipeline_parallel_size"]: _ms(found, "send_recv") for found in (mine, other)}
    assert mine["total_ms"] - sent[3] == pytest.approx(other["total_ms"] - sent[4], rel=1e-9)


def _ms(found: dict[str, Any], name: str) -> float:
    return float(sum(row["ms"] for row in found["operators"] if row["name"] == name))


def test_the_first_layers_of_a_model_of_experts_are_faster() -> None:
    fields: dict[str, Any] = {"model": "deepseek-ai/DeepSeek-V2-Lite", "device": "h100", "max_model_len": 8192}
    one = resolved(**fields, pipeline_parallel_size=3)  # 27 layers, the first of them without experts
    first, second, third = build_cost(one).cost.shares
    assert first < second == third and first + second + third == pytest.approx(3)


def test_dense_models_are_split_over_nodes() -> None:
    fields: dict[str, Any] = {"model": "meta-llama/Llama-3.1-405B", "device": "h100", "max_model_len": 16384}
    wide = resolved(**fields, tensor_parallel_size=16)
    assert wide.num_gpus == 16 and wide.memory.weights_gib == pytest.approx(405.8e9 * 2 / 16 / GIB, rel=0.02)
    # The 8 KV heads are held twice: TP 16 keeps as many bytes of a token as TP 8.
    deep = resolved(**fields, tensor_parallel_size=8, pipeline_parallel_size=2)
    assert wide.memory.block_bytes == 2 * deep.memory.block_bytes
    # All-reduces cross the network, so that the same GPUs run fewer iterations than as a pipeline of two nodes.
    assert explain(wide, typical(wide))["total_ms"] > explain(deep, typical(wide))["total_ms"] / 2
