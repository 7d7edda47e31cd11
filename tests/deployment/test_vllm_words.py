"""vLLM's flags as keys of a deployment: taken, without effect, or refused in one sentence."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from fastsim.deployment.description import Deployment
from fastsim.deployment.vllm import flags, values
from fastsim.deployment.vllm.words import meaning
from fastsim.errors import ConfigError
from fastsim.sweeps.space import Space

DENSE = {"model": "meta-llama/Llama-3.1-8B", "device": "h100"}
EXPERTS = {"model": "mistralai/Mixtral-8x7B-v0.1", "device": "h100"}


def loaded(given: dict[str, Any], *overrides: str) -> Deployment:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Deployment.load(DENSE | given, overrides)


def value(deployment: Deployment, dotted: str) -> Any:
    found: Any = deployment
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


TAKEN: list[tuple[dict[str, Any], str, Any]] = [
    ({"max_num_seqs": 256}, "scheduler.max_num_seqs", 256),
    ({"max-num-seqs": 256}, "scheduler.max_num_seqs", 256),
    ({"max_num_batched_tokens": 8192}, "scheduler.chunk_size", 8192),
    ({"max_num_batched_tokens": 8192}, "scheduler.max_num_batched_tokens", 8192),
    ({"max_num_batched_tokens": "8K"}, "scheduler.chunk_size", 8192),
    ({"num_gpu_blocks_override": 4096}, "scheduler.num_blocks", 4096),
    ({"scheduler": {"num_gpu_blocks_override": 4096}}, "scheduler.num_blocks", 4096),
    ({"block_size": 32}, "scheduler.block_size", 32),
    ({"enable_chunked_prefill": False}, "scheduler.enable_chunked_prefill", False),
    ({"enable_chunked_prefill": None}, "scheduler.enable_chunked_prefill", None),
    ({"enable-prefix-caching": True}, "scheduler.enable_prefix_caching", True),
    ({"scheduling_policy": "priority"}, "scheduler.scheduling_policy", "priority"),
    ({"scheduler": {"scheduling_policy": "fcfs"}}, "scheduler.scheduling_policy", "fcfs"),
    ({"async_scheduling": False}, "scheduler.async_scheduling", False),
    ({"async_scheduling": "auto"}, "scheduler.async_scheduling", None),
    ({"long-prefill-token-threshold": "1k"}, "scheduler.long_prefill_token_threshold", 1000),
    ({"scheduler_reserve_full_isl": False}, "scheduler.scheduler_reserve_full_isl", False),
    ({"tp": 4}, "tensor_parallel_size", 4),
    ({"tensor-parallel-size": 4}, "tensor_parallel_size", 4),
    ({"pp": 2}, "pipeline_parallel_size", 2),
    ({"data_parallel_size": 2}, "num_replicas", 2),
    ({"dtype": "half"}, "dtype", "float16"),
    ({"dtype": "auto"}, "dtype", "bfloat16"),
    ({"kv_cache_dtype": "fp8_e4m3"}, "kv_cache_dtype", "fp8"),
    ({"kv_cache_dtype": "fp8_e5m2"}, "kv_cache_dtype", "fp8"),
    ({"kv_cache_dtype": "auto"}, "kv_cache_dtype", "auto"),
    ({"kv_cache_dtype": "bfloat16"}, "kv_cache_dtype", "bfloat16"),
    ({"quantization": "awq"}, "quantization", "int4_wo"),
    ({"quantization": "gptq_marlin"}, "quantization", "int4_wo"),
    ({"quantization": "modelopt_fp4"}, "quantization", "nvfp4"),
    ({"quantization": "fp8"}, "quantization", "fp8"),
    ({"max_model_len": "32k"}, "max_model_len", 32000),
    ({"max_model_len": "auto"}, "max_model_len", None),
    ({"all2all_backend": "deepep_low_latency"}, "all2all_backend", "deepep"),
    # What is simulated anyway.
    ({"enforce_eager": False}, "enforce_eager", False),
    ({"enforce_eager": True}, "enforce_eager", True),
    ({"compilation_config": {"cudagraph_mode": "NONE"}}, "enforce_eager", True),
    ({"optimization-level": 0}, "enforce_eager", True),
    ({"cpu_offload_gb": 0}, "scheduler.policy", None),
]


@pytest.mark.parametrize(("given", "setting", "expected"), TAKEN)
def test_words_that_are_taken(given: dict[str, Any], setting: str, expected: Any) -> None:
    assert value(loaded(given), setting) == expected


@pytest.mark.parametrize(("given", "setting", "expected"), [case for case in TAKEN if "scheduler" not in case[0]])
def test_the_same_words_with_set(given: dict[str, Any], setting: str, expected: Any) -> None:
    ((name, one),) = given.items()
    assert value(loaded({}, f"{name}={json.dumps(one)}"), setting) == expected


def test_set_wins_over_the_file_in_any_spelling() -> None:
    assert loaded({"tensor_parallel_size": 2}, "tp=4").tensor_parallel_size == 4
    assert loaded({"max_num_seqs": 64}, "scheduler.max_num_seqs=32").scheduler.max_num_seqs == 32
    assert loaded({"scheduler": {"chunk_size": 64}}, "max_num_batched_tokens=1k").scheduler.chunk_size == 1000
    assert loaded({}, "tp=2", "tp=4").tensor_parallel_size == 4


@pytest.mark.parametrize(
    "name", ["swap_space", "port", "max_seq_len_to_capture", "mm-processor-cache-gb", "trust_remote_code"]
)
def test_words_without_effect_are_said(name: str) -> None:
    with pytest.warns(UserWarning, match=f"^{name}: changes nothing that is simulated$"):
        assert Deployment.load(DENSE | {name: 4}) == Deployment.load(DENSE)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_num_partial_prefills": 4}, "several prompts in chunks at once are not simulated"),
        ({"enable_prefix_caching": "yes"}, "scheduler.enable_prefix_caching: 'yes' is not true or false"),
        ({"enable_chunked_prefill": True, "scheduler": {"enable_chunked_prefill": False}}, "contradicts"),
        ({"speculative_config": {"method": "ngram"}}, "speculative decoding is not simulated"),
        ({"cpu_offload_gb": 4.5}, "weights in the memory of the CPU"),
        ({"kv_cache_memory_bytes": "20G"}, "scheduler.num_blocks sets its blocks"),
        ({"dtype": "float32"}, "dtype: 'float32': 32-bit activations are not simulated (valid: bfloat16, float16)"),
        ({"quantization": "compressed-tensors"}, "published in 16 bits; name the config.json of the checkpoint"),
        ({"task": "embed"}, "models that generate nothing are not simulated"),
        ({"scheduler": {"policy": "v1"}}, "'v1' is called vllm_v1"),
        ({"scheduler": {"policy": "priority"}}, "'priority' is a scheduler.scheduling_policy, of policy vllm_v1"),
        ({"scheduler": {"policy": "fcfs"}}, "name how batches are formed (valid: vllm, sarathi, orca"),
        ({"replicas": 3}, "replicas: unknown key; did you mean 'num_replicas'?"),
        ({"mem_fraction_static": 0.8}, "did you mean 'gpu_memory_utilization'?"),
        ({"max_num_seqs": "many"}, "scheduler.max_num_seqs: 'many' is not a positive integer"),
        ({"max_model_len": "32q"}, "max_model_len: '32q' is not a positive integer"),
        ({"tp": 4, "tensor_parallel_size": 2}, "contradicts"),
        ({"tp": 4, "tensor-parallel-size": 2}, "tensor-parallel-size: 2 contradicts tp; keep one of them"),
        ({"max_num_seqs": 4, "scheduler": {"max_num_seqs": 2}}, "contradicts"),
        ({"max_num_batched_tokens": 4, "scheduler": {"chunk_size": 2}}, "contradicts scheduler.chunk_size 2"),
        ({"data_parallel_size": 4, "num_replicas": 2}, "contradicts"),
    ],
)
def test_words_that_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        loaded(given)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["tp=4", "tensor_parallel_size=2"], "--set tensor_parallel_size: 2 contradicts --set tp; keep one of them"),
        (["max-num-seqs=4", "scheduler.max_num_seqs=2"], "contradicts --set max-num-seqs"),
        (["gpu=h100"], "--set gpu: unknown key; did you mean 'device'?"),
        (["tensor_parallel=4"], "did you mean 'tensor_parallel_size'?"),
    ],
)
def test_overrides_that_are_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        loaded({}, *overrides)


def test_two_spellings_that_agree_are_taken() -> None:
    assert loaded({"tp": 4, "tensor_parallel_size": 4}).tensor_parallel_size == 4
    assert loaded({"max_num_seqs": 8, "scheduler": {"max_num_seqs": 8}}).scheduler.max_num_seqs == 8


def test_faults_name_the_line_of_the_word(tmp_path: Path) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("model: llama-2-7b\ndevice: a100\nmax-num-seqs: 0\n")
    with pytest.raises(ConfigError, match=r"d\.yaml:3: scheduler\.max_num_seqs: 0 is not"):
        Deployment.load(file)
    file.write_text("model: llama-2-7b\ndevice: a100\ntp: 2\ntensor_parallel_size: 4\n")
    with pytest.raises(ConfigError, match=r"d\.yaml:4: tensor_parallel_size: 4 contradicts \S+d\.yaml:3: tp; keep"):
        Deployment.load(file)


def test_a_method_is_as_published_where_the_checkpoint_has_one() -> None:
    assert values.quantization("compressed-tensors", "deepseek-v3") is None
    assert values.quantization("awq", "deepseek-v3") is None
    assert values.quantization("awq", "an unknown model") == "int4_wo"


def test_whole_numbers_are_read_as_vllm_reads_them() -> None:
    given = {"1k": 1000, "1K": 1024, "25.6k": 25600, "1.2345k": 1234, "2M": 2 * 1024**2, "1.5K": "1.5K", 7: 7}
    assert {text: values.whole(text) for text in given} == given


def test_spaces_take_the_words_and_point_to_the_names_of_axes(tmp_path: Path) -> None:
    space = {"deployment": DENSE | {"max_num_seqs": 32, "tp": 2}, "axes": {"num_replicas": [1, 2]}}
    configurations = list(Space.load(space).configurations())
    assert {one.resolved.scheduler.max_num_seqs for one in configurations} == {32}
    with pytest.raises(ConfigError, match=r"unknown field; did you mean 'scheduler\.max_num_seqs'"):
        Space.load({"deployment": DENSE, "axes": {"max_num_seqs": [1, 2]}})
    with pytest.raises(ConfigError, match="unknown field; did you mean 'tensor_parallel_size'"):
        Space.load({"deployment": DENSE, "axes": {"tp": [1, 2]}})


def test_no_flag_is_in_two_tables() -> None:
    names = [*flags.TAKEN, *flags.LOST, *flags.UNCHANGED]
    assert len(names) == len(set(names)) > 150
    assert not {name for name in flags.ELSEWHERE if meaning(name, 1, None)}
    assert all(sentence and not sentence.endswith(".") for _, sentence in flags.LOST.values())
