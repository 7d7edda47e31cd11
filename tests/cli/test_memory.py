"""What `fastsim memory` prints, also for GPUs and models that have no operator times."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fastsim.cli import cli


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


POOLS = """model: llama-3-8b
device: h100
pools:
  - {name: prompts, role: prefill, num_replicas: 2}
  - {name: tokens, role: decode, device: h200, tensor_parallel_size: 2}
kv_transfer: {link_gb_s: 50}
"""


@pytest.mark.parametrize("command", ["memory", "explain"])
def test_each_pool_is_shown_as_the_deployment_that_it_is(command: str, tmp_path: Path) -> None:
    described = tmp_path / "pools.yaml"
    described.write_text(POOLS)

    def shown(*words: str) -> Any:
        done = CliRunner().invoke(cli, [command, *words, "--json"], catch_exceptions=False)
        return json.loads(done.stdout)

    prefill, decode = ("--prefill", "512@0"), ("--decode", "128@2048")
    prompts, tokens = shown(str(described))["pools"]
    assert [pool.pop(name) for name in ("name", "role", "num_replicas") for pool in (prompts, tokens)] == [
        *("prompts", "tokens", "prefill", "decode"),
        *(2, 1),
    ]
    plain = ["--set", "model=llama-3-8b", "--set", "num_replicas=2"]
    other = [*plain[:2], "--set", "device=h200", "--set", "tp=2"]
    alone = [shown(*plain, *(prefill if command == "explain" else ()))]
    alone.append(shown(*other, *(decode if command == "explain" else ())))
    for pool, one in zip((prompts, tokens), alone, strict=True):
        assert {k: v for k, v in pool.items() if k != "deployment"} == {
            k: v for k, v in one.items() if k != "deployment"
        }
    if command == "explain":
        assert [pool["name"] for pool in shown(str(described), *decode)["pools"]] == ["tokens"]
    text = CliRunner().invoke(cli, [command, str(described)], catch_exceptions=False).stdout
    assert "prompts, 2 replicas of role prefill: meta-llama/Meta-Llama-3-8B" in " ".join(text.split())
    assert "tokens, 1 replica of role decode: " in text
