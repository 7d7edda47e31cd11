"""`fastsim explain`: every operator of an iteration, summing up to what the kernel charges."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsim.cli.terminal.explain import show
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.kernels._jit import kernel
from fastsim.kernels.cost import batch_ms, prefill_chunk_ms, stage_seconds
from fastsim.kernels.state import (
    DECODE_KV,
    LONGEST_KV,
    NUM_DECODES,
    NUM_FEATURES,
    NUM_PREFILLS,
    NUM_SAMPLED,
    NUM_SEQS,
    NUM_TOKENS,
)
from fastsim.kernels.tables import Cost, Longs
from fastsim.predictors.build import build_cost
from fastsim.predictors.explain import explain
from fastsim.predictors.tables import cache
from fastsim.predictors.times.iteration import Iteration, check, read, typical

ROOT = Path(__file__).resolve().parents[2]
MODELS: list[tuple[str, tuple[str, ...]]] = [
    ("meta-llama/Llama-3.1-8B", ()),
    ("Qwen/Qwen3-32B", ("tensor_parallel_size=2", "pipeline_parallel_size=4")),
    ("mistralai/Mistral-7B-v0.1", ("device=a100",)),
    ("mistralai/Mixtral-8x7B-v0.1", ("tensor_parallel_size=4",)),
    ("Qwen/Qwen3-30B-A3B", ("tensor_parallel_size=2", "enable_expert_parallel=true", "moe_imbalance=1.3")),
    ("Qwen/Qwen3-30B-A3B", ("tensor_parallel_size=2", "enable_expert_parallel=true", "all2all_backend=deepep")),
    ("deepseek-ai/DeepSeek-V2-Lite", ("pipeline_parallel_size=3",)),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "kernels" / "x")


def resolved(model: str = "meta-llama/Llama-3.1-8B", *settings: str) -> Resolved:
    described = {"model": model, "device": "h100", "max_model_len": 8192, "scheduler": {"policy": "vllm"}}
    return resolve(Deployment.load(described, settings))


def charged_ms(cost: Cost, iteration: Iteration) -> float:
    """The kernel's own sum over the stages."""
    features = np.zeros(NUM_FEATURES, np.int64)
    features[NUM_TOKENS], features[NUM_SEQS] = iteration.num_tokens, iteration.num_seqs
    features[NUM_DECODES], features[NUM_PREFILLS] = iteration.num_decodes, len(iteration.chunks)
    features[DECODE_KV] = sum(number * kv for number, kv in iteration.decodes)
    features[LONGEST_KV] = max([kv for _, kv in iteration.decodes], default=0)
    features[NUM_SAMPLED] = iteration.num_seqs
    return float(_charged_ms(cost, features, np.array(iteration.chunks, np.int64).reshape(-1, 2)))


@kernel  # parts of a kernel have no way in from Python
def _charged_ms(cost: Cost, features: Longs, chunks: Longs) -> float:
    prefill, total = 0.0, 0.0
    for i in range(len(chunks)):
        prefill += prefill_chunk_ms(cost.fastsim, chunks[i, 1], chunks[i, 0])
    layers = batch_ms(cost, features, prefill)
    for stage in range(cost.num_stages):
        total += stage_seconds(cost, features[NUM_TOKENS], features[NUM_SEQS], features[NUM_SAMPLED], layers, stage)
    return 1e3 * total


ITERATIONS = [
    read([], ["64@1500"]),
    read([], ["1@7,3@8000"]),
    read(["512@0", "512@4096"], ["64@1500"]),
    read(["8000@0,100@333"], []),
]


@pytest.mark.parametrize(("model", "settings"), MODELS)
def test_the_total_is_what_the_kernel_charges(model: str, settings: tuple[str, ...]) -> None:
    one = resolved(model, *settings)
    cost = build_cost(one).cost
    for iteration in ITERATIONS:
        found = explain(one, iteration)
        assert found["total_ms"] == pytest.approx(charged_ms(cost, iteration), rel=1e-9)
        assert sum(row["ms"] for row in found["operators"]) == pytest.approx(found["total_ms"], rel=1e-12)
        assert sum(found["shares"].values()) == pytest.approx(1, abs=1e-3)
        assert found["interval_ms"][0] < found["total_ms"] < found["interval_ms"][1]
        for row in found["operators"]:
            assert row["how"] in ("measured", "modelled", "outside") and row["ms"] > 0
            assert row["low_ms"] < row["ms"] < row["high_ms"] and row["shape"] and row["count"] >= 1
        assert json.loads(json.dumps(found)) == found


def names(found: dict[str, Any]) -> dict[str, int]:
    return {row["name"]: row["count"] for row in found["operators"]}


def test_operators_of_each_kind_are_all_there() -> None:
    model, settings = MODELS[-2]
    experts = names(explain(resolved(model, *settings), ITERATIONS[2]))
    assert experts["moe_experts"] == experts["moe_router"] == experts["all_reduce"] == 48
    assert experts["moe_all_to_all"] == 96 and "mlp_up_proj" not in experts
    model, settings = MODELS[-1]
    latent = names(explain(resolved(model, *settings), ITERATIONS[2]))
    assert (latent["moe_experts"], latent["mlp_up_proj"], latent["shared_up_proj"]) == (26, 1, 26)
    assert latent["attn_kv_up_proj"] == latent["attn_decode"] == 27 and latent["send_recv"] == 2
    windowed = names(explain(resolved("mistralai/Mistral-7B-v0.1", "device=a100"), ITERATIONS[1]))
    assert windowed["attn_window_decode"] == 32 and "attn_window_prefill" not in windowed


def test_layers_in_another_precision_are_operators_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32}
    config |= {"num_hidden_layers": 4, "vocab_size": 32000, "max_position_embeddings": 4096}
    config |= {"quantization_config": {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.0.mlp"]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = explain(resolved(str(tmp_path)), ITERATIONS[2])
    show(found, as_json=False)
    assert " mostly in fp8 on h100" in capsys.readouterr().out
    rows = {row["name"]: row for row in found["operators"]}
    up, wide = rows["mlp_up_proj"], rows["mlp_up_proj_bf16"]
    assert (up["precision"], up["count"], wide["precision"], wide["count"]) == ("fp8", 3, "bf16", 1)
    assert wide["shape"] == up["shape"] and wide["mb"] > up["mb"] and wide["ms"] > up["ms"] / 3
    assert (rows["lm_head"]["precision"], rows["attn_decode"]["precision"]) == ("bf16", None)
    assert rows["mlp_up_quant"]["count"] == 3 and rows["attn_pre_quant"]["count"] == 4


def test_time_of_the_operators_is_near_their_roofline() -> None:
    one = resolved()
    rows = {row["name"]: row for row in explain(one, read([], ["64@4000"]))["operators"]}
    up, decode = rows["mlp_up_proj"], rows["attn_decode"]
    assert up["shape"] == {"m": 64, "n": 28672, "k": 4096} and up["count"] == 32
    assert up["mb"] / 3350 < up["ms"] / 32 < 2 * up["mb"] / 3350
    assert decode["mb"] == pytest.approx(64 * 4000 * 4096 / 1e6)
    assert decode["mb"] / 3350 < decode["ms"] / 32 < 2 * decode["mb"] / 3350
    whole = {row["name"]: row for row in explain(one, read(["4096@0"], []))["operators"]}
    assert whole["attn_prefill"]["how"] == "measured" and whole["mlp_act"]["how"] == "modelled"
    after = {row["name"]: row for row in explain(one, read(["512@4096"], []))["operators"]}
    assert after["attn_prefill"]["how"] == "modelled"


def test_imbalance_slows_the_experts_only() -> None:
    model, settings = MODELS[4]
    even, uneven = (
        {row["name"]: row["ms"] for row in explain(resolved(model, *settings, f"moe_imbalance={by}"), one)["operators"]}
        for by, one in ((1, ITERATIONS[3]), (2, ITERATIONS[3]))
    )
    assert uneven["moe_experts"] > 1.5 * even["moe_experts"]
    assert {n: ms for n, ms in even.items() if n != "moe_experts"} == {
        n: ms for n, ms in uneven.items() if n != "moe_experts"
    }


def test_windows_of_some_layers(tmp_path: Path) -> None:
    types = ["sliding_attention", "full_attention"] * 8
    config = {"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 16, "num_attention_heads": 64}
    config |= {"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 2880, "num_local_experts": 32}
    config |= {"num_experts_per_tok": 4, "vocab_size": 201088, "max_position_embeddings": 131072}
    (tmp_path / "config.json").write_text(json.dumps({**config, "sliding_window": 128, "layer_types": types}))
    found = {row["name"]: row for row in explain(resolved(str(tmp_path)), read([], ["32@8000"]))["operators"]}
    full, windowed = found["attn_decode"], found["attn_window_decode"]
    assert (full["count"], windowed["count"]) == (8, 8)
    assert windowed["shape"]["kv_length"] == 128 and full["ms"] > 3 * windowed["ms"]


@pytest.mark.parametrize(
    ("prefill", "decode", "message"),
    [
        (["512"], [], "--prefill: '512' is not two numbers joined by @ (e.g. 512@0)"),
        ([], ["64@x"], "--decode: '64@x' is not two numbers joined by @ (e.g. 64@1500)"),
        ([], ["0@5"], "--decode: '0@5' is not"),
        ([], ["-1@5"], "--decode: '-1@5' is not"),
        ([","], [], "--prefill, --decode: the iteration is empty"),
    ],
)
def test_iterations_that_are_not_any(prefill: list[str], decode: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(prefill, decode)
    assert str(caught.value).startswith(message)


def test_iterations_that_do_not_fit() -> None:
    one = resolved()
    with pytest.raises(ConfigError, match=r"129 requests are more than scheduler.max_num_seqs \(128\)"):
        check(one, read([], ["129@5"]))
    with pytest.raises(ConfigError, match=r"8193 tokens of one request are more than max_model_len \(8192\)"):
        check(one, read(["1@8192"], []))
    chunked = resolved("meta-llama/Llama-3.1-8B", "scheduler.policy=sarathi", "scheduler.chunk_size=512")
    with pytest.raises(ConfigError, match=r"8192 tokens in one iteration are more than scheduler.chunk_size \(512\)"):
        explain(chunked, read(["8192@0"], []))
    spread = ("tensor_parallel_size=8", "pipeline_parallel_size=2", "scheduler.max_num_seqs=2")
    long = resolved("meta-llama/Llama-3.1-8B", "max_model_len=2097152", *spread)
    with pytest.raises(ConfigError, match=r"a chunk of 1048577 tokens is more than tables reach \(1048576\)"):
        check(long, read(["1048577@0"], []))
    with pytest.raises(ConfigError, match=r"predictor\.compose: 'vidur' cannot be explained"):
        explain(resolved("meta-llama/Llama-3.1-8B", "predictor.compose=vidur"), typical(one))
    for settings in ((), ("scheduler.max_num_seqs=1",), ("scheduler.policy=sarathi", "scheduler.chunk_size=64")):
        check(resolved("meta-llama/Llama-3.1-8B", *settings), typical(resolved("meta-llama/Llama-3.1-8B", *settings)))


def test_given_tables_are_explained_too(tmp_path: Path) -> None:
    from predictors.test_exact import META, write

    from fastsim.predictors.times.times import LAYER_OPERATORS

    (tmp_path / "meta.json").write_text(json.dumps(META))
    tokens = list(range(1, 601))
    for number, name in enumerate((*LAYER_OPERATORS, "all_reduce", "send_recv"), start=1):
        write(tmp_path / f"{name}.parquet", num_tokens=tokens, ms=[0.01 * number + 1e-4 * n for n in tokens])
    write(tmp_path / "attn_decode.parquet", batch_size=[1, 64], kv_cache_size=[0, 4096], ms=[1.0, 2.0])
    write(
        tmp_path / "attn_prefill.parquet",
        kv_cache_size=[0, 0, 4096],
        prefill_chunk_size_squared=[1, 512**2, 512**2],
        ms=[1.0, 2.0, 4.0],
    )
    split = ("tensor_parallel_size=2", "pipeline_parallel_size=2")
    one = resolved("meta-llama/Llama-3.1-8B", f"predictor.source=tables:{tmp_path}", *split)
    for iteration in ITERATIONS[:3]:
        found = explain(one, iteration)
        assert found["total_ms"] == pytest.approx(charged_ms(build_cost(one).cost, iteration), rel=1e-9)
        assert found["shares"] == {"given": 1.0} and found["interval_ms"] == [found["total_ms"]] * 2


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(resolved(), read(["512@0"], ["64@1500"]))
    show(found, as_json=False)
    printed = capsys.readouterr().out
    assert "TP 1, PP 1: a chunk of 512 tokens after 0 cached tokens, 64 decodes with 1500 cached" in printed
    assert f"Total {found['total_ms']:.3f} ms" in printed and "m=576 n=28672 k=4096" in printed
    show(found, as_json=True)
    assert json.loads(capsys.readouterr().out) == found


def test_the_command(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastsim", "explain", "--decode", "8@100", "--set", "seed=3", "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["iteration"]["num_seqs"] == 8


def test_mistakes_end_in_one_sentence() -> None:
    for arguments in (["--decode", "x"], ["--decode", "9@9", "--set", "scheduler.max_num_seqs=2"], ["--prefill", "9"]):
        done = subprocess.run(
            [sys.executable, "-m", "fastsim", "explain", *arguments], capture_output=True, text=True, cwd=ROOT
        )
        assert done.returncode == 2 and done.stderr.startswith("fastsim: --") and done.stderr.count("\n") == 1
