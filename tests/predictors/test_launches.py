"""Eager mode: the host launches every kernel by itself."""

import numpy as np
import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.build import build_cost
from fastsim.predictors.times.launches import launches_ms, num_kernels

AWQ = {"model": "Qwen/Qwen3-14B", "device": "a100", "quantization": "int4_wo", "engine": "vllm-0.9"}


def of(*settings: str, **fields: object) -> Resolved:
    return resolve(Deployment.load({**AWQ, "max_model_len": 16384, **fields}, settings))


def test_kernels_are_those_of_all_layers() -> None:
    graphs, eager = of(), of(enforce_eager=True)
    # Of each of 40 layers: 4 GEMMs, 2 of attention, 2 norms, rope and the norms of queries and keys, and the MLP's own.
    assert num_kernels(eager.operators) == 40 * 12 + 3
    assert launches_ms(graphs) == 0 and launches_ms(eager) == pytest.approx(483 * 41e-3)
    assert launches_ms(of("pipeline_parallel_size=2", enforce_eager=True)) == pytest.approx(483 * 41e-3 / 2)
    assert launches_ms(of("tensor_parallel_size=2", enforce_eager=True)) == pytest.approx((483 + 80) * 41e-3)


def test_a_step_takes_its_launches_at_the_least_and_is_not_padded() -> None:
    graphs, eager = (build_cost(one).cost.fastsim for one in (of(), of(enforce_eager=True)))
    np.testing.assert_allclose(eager.least_ms[1:], 483 * 41e-3)
    np.testing.assert_array_equal(eager.host_ms, graphs.host_ms)
    assert not graphs.least_ms.any() and graphs.token_ms[3] == graphs.token_ms[4]
    assert eager.token_ms[57] < graphs.token_ms[57] == graphs.token_ms[64]
    asynchronous = build_cost(of("engine=vllm-0.15", enforce_eager=True)).cost.fastsim
    assert asynchronous.least_ms[10] == pytest.approx(483 * 41e-3 + 0.7 + 0.2)


def test_without_graphs_their_memory_holds_kv_blocks() -> None:
    settings = ("engine=vllm-0.33", "max_model_len=8192")
    assert of(*settings, enforce_eager=True).memory.num_blocks > of(*settings).memory.num_blocks


def test_decodes_beside_prompts_are_slow_where_vllm_runs_flash_attention_2() -> None:
    def mixed(*settings: str) -> float:
        given = {"model": "llama-3.1-8b", "device": "a100", "max_model_len": 2048}
        return build_cost(resolve(Deployment.load(given, settings))).cost.fastsim.mixed

    assert mixed() == 2.2 and mixed("device=h100") == mixed("scheduler.policy=sarathi") == 1.0
    assert mixed("engine=sglang-0.5.23") == mixed("model=llama-2-7b") == 1.0  # as many KV heads as query heads
