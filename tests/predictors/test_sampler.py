"""How tokens are drawn, and what that takes."""

import json
from pathlib import Path

import numpy as np
import pytest

from fastsim.catalog import sampling
from fastsim.catalog.load import load_model
from fastsim.deployment import engine_times
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError
from fastsim.predictors.times.sampler import sampler_ms


def took(*settings: str, sequences: int = 100) -> float:
    resolved = resolve(Deployment.load({"model": "llama-3.1-8b", "device": "h100"}, settings))
    return float(sampler_ms(resolved, np.array([0, sequences]))[1])


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("llama-2-70b", True),
        ("meta-llama/Llama-3.1-8B-Instruct", True),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", True),  # a checkpoint of it
        ("Qwen/Qwen3-14B", True),
        ("Qwen/Qwen2.5-7B-Instruct", True),
        ("Qwen/Qwen2.5-7B", False),
        ("mixtral-8x7b", False),
        ("openai/gpt-oss-120b", False),
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", True),
    ],
)
def test_models_ask_as_their_generation_config_does(model: str, expected: bool) -> None:
    assert load_model(model).asks_top_k_top_p is expected
    given = {"model": model, "device": "b200", "tensor_parallel_size": 4, "max_model_len": 2048}
    resolved = resolve(Deployment.load(given))
    assert resolved.sampling == resolved.deployment.sampling == ("top_k_top_p" if expected else "random")


def test_the_list_names_models_of_the_catalog() -> None:
    assert all(load_model(name).name == name for name in sampling._listed())


def test_a_file_beside_config_json_counts(tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
    config |= {"num_attention_heads": 32, "vocab_size": 128256, "max_position_embeddings": 8192, "hidden_act": "silu"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for said, expected in ({}, False), ({"top_p": 0.9}, True), ({"top_p": 1.0, "top_k": 0}, False):
        (tmp_path / sampling.BESIDE).write_text(json.dumps(said))
        assert load_model(tmp_path).asks_top_k_top_p is expected
    (tmp_path / sampling.BESIDE).unlink()
    assert not load_model(tmp_path).asks_top_k_top_p


def test_the_time_is_that_of_the_release_the_vocabulary_and_the_memory() -> None:
    sorted_ms = 128_256 / 128_000 * (0.27 + 15.5e-3 * 100)
    assert took("engine=vllm-0.15") == pytest.approx(sorted_ms)
    assert took("engine=vllm-0.16") == took("engine=vllm-0.15") > 3 * took("engine=vllm-0.17") > 6 * took()
    slow = took("engine=vllm-0.15", "device=a100") - 0.27 * 128_256 / 128_000
    assert slow == pytest.approx((sorted_ms - 0.27 * 128_256 / 128_000) * 3350 / 2039)
    assert took("engine=vllm-0.15", sequences=0) == 0
    small = took("engine=vllm-0.15", "model=llama-2-7b")
    assert small == pytest.approx(sorted_ms * 32_000 / 128_256)
    assert took("engine=vllm-0.15", "tensor_parallel_size=8") == pytest.approx(sorted_ms)


def test_only_top_k_and_top_p_of_an_engine_take_time() -> None:
    assert took("engine=vllm-0.15", "sampling=greedy") == took("engine=vllm-0.15", "sampling=random") == 0
    assert took("scheduler.policy=sarathi", "sampling=top_k_top_p") == 0
    assert took("model=mixtral-8x7b", "tensor_parallel_size=2") == 0
    assert took("model=mixtral-8x7b", "tensor_parallel_size=2", "sampling=top_k_top_p") > 0


def test_flags_of_vllm_say_how_tokens_are_drawn() -> None:
    def of(**flags: object) -> str | None:
        return Deployment.load({"model": "llama-3.1-8b", "device": "h100", **flags}).sampling

    assert of(generation_config="auto") is None and of(generation_config="vllm") == "random"
    assert of(override_generation_config={"temperature": 0}) == "greedy"
    assert of(override_generation_config='{"top_k": 40}') == "top_k_top_p"
    assert of(override_generation_config={"max_new_tokens": 20}) is None
    with pytest.raises(ConfigError, match="override_generation_config: 'x' is no JSON object"):
        of(override_generation_config="x")


def test_every_release_has_every_coefficient_and_its_source() -> None:
    for release in ("vllm-0.8", "vllm-0.16", "vllm-0.33", "sglang-0.5.10", "sglang-0.5.23"):
        times = engine_times.of(release)
        assert all(getattr(times, name) >= 0 for name in engine_times.coefficients())
        assert set(times.sources) == {"host", "eager", "sampler", "front_end"} and all(times.sources.values())
    assert {"host_ms_per_step", "sampler_us_per_sequence", "front_end_ms"} <= set(engine_times.coefficients())
