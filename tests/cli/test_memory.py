"""What `fastsim memory` prints, also for GPUs and models that have no operator times."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.errors import ConfigError


def ran(*settings: str) -> str:
    overrides = [word for setting in settings for word in ("--set", setting)]
    result = CliRunner().invoke(cli, ["memory", *overrides], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_memory_of_the_default() -> None:
    assert ran().splitlines() == [
        "meta-llama/Meta-Llama-3-8B on h100, TP 1, PP 1: 72.85 GiB of a GPU (0.92 of 79.18)",
        "",
        "stage  layers    weights  to work in   KV cache  KV bytes of a token",
        "    0      32  14.96 GiB    2.86 GiB  55.02 GiB              131,072",
        "",
        "KV cache of a replica: 450,736 tokens, 55.02 requests of 8,192 tokens (28,170 blocks of 16)",
    ]


def test_every_stage_has_a_row() -> None:
    two = json.loads(ran_json("model=deepseek-v3", "tensor_parallel_size=8", "pipeline_parallel_size=2"))
    assert [stage["layers"] for stage in two["stages"]] == [31, 30]
    for stage in two["stages"]:
        held = stage["weights_gib"] + stage["reserve_gib"] + stage["states_gib"] + stage["free_gib"]
        assert held == pytest.approx(two["usable_gib"], abs=1e-6)
    assert two["gpus"] == 16 and two["concurrency"] == pytest.approx(two["kv_tokens"] / 163_840)


def ran_json(*settings: str) -> str:
    overrides = [word for setting in settings for word in ("--set", setting)]
    return CliRunner().invoke(cli, ["memory", "--json", *overrides], catch_exceptions=False).stdout


def test_a_gpu_without_operator_times_has_its_memory_answered() -> None:
    for device in ("a10g", "l4", "mi300x"):
        assert f"on {device}" in ran(f"device={device}", "max_model_len=4096")


def test_windows_hold_more_tokens_than_blocks_of_all_layers() -> None:
    windowed = json.loads(ran_json("model=google/gemma-3-27b-it", "max_model_len=131072"))
    all_layers = windowed["stages"][0]["free_gib"] * 2**30 / windowed["stages"][0]["kv_bytes_per_token"]
    assert windowed["kv_tokens"] > 131072 > all_layers  # 52 of 62 layers keep 1,024 tokens and those of a chunk


def test_states_of_linear_mixers_leave_room_for_the_kv_cache() -> None:
    hybrid = ("model=Qwen/Qwen3-Next-80B-A3B-Instruct", "tensor_parallel_size=4", "max_model_len=32768")
    (few,) = json.loads(ran_json(*hybrid, "scheduler.max_num_seqs=128"))["stages"]
    (many,) = json.loads(ran_json(*hybrid, "scheduler.max_num_seqs=2048"))["stages"]
    # 36 layers keep a float32 or bf16 state of 128 x 128 for each of 32 heads, and the tokens of a convolution.
    assert few["states_gib"] == pytest.approx(128 * 36 * (32 * 128 * 128 * 2) / 4 / 2**30, rel=0.15)
    assert many["states_gib"] == pytest.approx(0.9 * many["free_gib"], rel=1e-3) and many["free_gib"] > 0


@pytest.mark.parametrize("command", ["memory", "explain", "launch"])
def test_what_shows_one_kind_of_replica_refuses_pools(command: str, tmp_path: Path) -> None:
    described = tmp_path / "pools.yaml"
    pools = "[{name: a, num_replicas: 1}, {name: b, device: h200, num_replicas: 1}]"
    described.write_text(f"model: llama-3-8b\ndevice: h100\npools: {pools}\n")
    refused = CliRunner().invoke(cli, [command, str(described)])
    assert isinstance(refused.exception, ConfigError) and str(refused.exception).startswith("pools: ")
