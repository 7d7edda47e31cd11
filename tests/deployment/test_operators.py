"""Operators of an iteration against shapes worked out by hand, and against the size of the models."""

from dataclasses import replace

import numpy as np
import pytest
from published import TYPED

from fastsim.catalog.load import load_model
from fastsim.catalog.model import Layer, Model
from fastsim.deployment.operators.decoder import Operators, operators
from fastsim.deployment.operators.kinds import WEIGHT_BYTES, Gemm


def shapes(model: Model, tp: int) -> dict[str, tuple[int, int]]:
    ops = operators(model, tp)
    return {gemm.name: (gemm.n, gemm.k) for gemm in (*ops.gemms, ops.lm_head)}


def test_gated_grouped_query_model() -> None:
    llama = load_model("meta-llama/Meta-Llama-3-8B")
    assert shapes(llama, 1) == {
        "attn_pre_proj": (6144, 4096),
        "attn_post_proj": (4096, 4096),
        "mlp_up_proj": (28672, 4096),
        "mlp_down_proj": (4096, 14336),
        "lm_head": (128256, 4096),
    }
    assert shapes(llama, 4) == {
        "attn_pre_proj": (1536, 4096),
        "attn_post_proj": (4096, 1024),
        "mlp_up_proj": (7168, 4096),
        "mlp_down_proj": (4096, 3584),
        "lm_head": (32064, 4096),
    }
    attention = operators(llama, 4).attention
    assert (attention.heads, attention.kv_heads, attention.head_dim) == (8, 2, 128)
    assert attention.kv_bytes_per_token() == 2 * 2 * 2 * 128


def test_kv_heads_are_copied_where_there_are_more_gpus() -> None:
    attention = operators(load_model("meta-llama/Meta-Llama-3-8B"), 16).attention
    assert (attention.heads, attention.kv_heads) == (2, 1)
    assert shapes(load_model("meta-llama/Meta-Llama-3-8B"), 16)["attn_pre_proj"] == ((2 + 2) * 128, 4096)


def test_plain_mlp_and_parallel_attention() -> None:
    phi = load_model("microsoft/phi-2")
    ops = operators(phi, 1)
    assert shapes(phi, 1)["mlp_up_proj"] == (10240, 2560)
    by_name = {kernel.name: kernel for kernel in ops.elementwise}
    assert "post_attention_layernorm" not in by_name
    assert by_name["mlp_act"].bytes_per_token == 2 * 2 * 10240
    assert by_name["add"].bytes_per_token == 8 * 2560


def test_elementwise_bytes_are_those_of_the_fitted_model() -> None:
    model = load_model("Qwen/Qwen3-32B")
    heads, width = model.num_attention_heads + model.num_key_value_heads, model.intermediate_size
    for qk_norm, more in ((False, 0), (True, 2)):
        small = operators(replace(model, qk_norm=qk_norm), 1).elementwise
        assert sum(kernel.num_kernels for kernel in small) == 4 + more
        rotated = 4 * heads * model.head_dim * (1 + more)
        assert sum(kernel.bytes_per_token for kernel in small) == 16 * model.hidden_size + rotated + 6 * width


BILLIONS = {
    "meta-llama/Llama-2-7b-hf": 6.74,
    "meta-llama/Llama-2-70b-hf": 68.98,
    "meta-llama/Meta-Llama-3-8B": 8.03,
    "microsoft/phi-2": 2.78,
    "Qwen/Qwen2.5-72B": 72.7,
}


@pytest.mark.parametrize("name", BILLIONS)
def test_weights_add_up_to_the_size_of_the_model(name: str) -> None:
    model = load_model(name)
    ops = operators(model, 1)
    once = ops.lm_head.n * ops.lm_head.k
    weights = model.num_layers * sum(gemm.n * gemm.k for gemm in ops.gemms) + 2 * once
    assert weights / 1e9 == pytest.approx(BILLIONS[name], rel=0.005)


@pytest.mark.parametrize("name", TYPED)
def test_tensor_parallelism_shares_the_work(name: str) -> None:
    model = load_model(name)
    one, two = operators(model, 1), operators(model, 2)
    copied = [gemm.name for gemm in one.gemms if (gemm.n, gemm.k) == (same(two, gemm).n, same(two, gemm).k)]
    assert copied == ["attn_down_proj"] * (model.kv_lora_rank > 0) + ["moe_router"] * (model.num_experts > 0)
    for gemm in one.gemms:
        assert same(two, gemm).flops(64) == gemm.flops(64) // (1 if gemm.name in copied else 2)
    assert two.attention.kv_bytes_per_token() == one.attention.kv_bytes_per_token() // (1 if model.kv_lora_rank else 2)
    assert two.attention.flops(100, 10) == one.attention.flops(100, 10) // 2
    for kind in (operators(model, 2), operators(model, 2, expert_parallel=True)):
        if one.experts and kind.experts:
            assert kind.experts.flops(64) == one.experts.flops(64) / 2
            assert kind.experts.weight_bytes() == one.experts.weight_bytes() / 2


def same(ops: Operators, gemm: Gemm) -> Gemm:
    return next(one for one in ops.gemms if one.name == gemm.name)


def test_flops_and_bytes() -> None:
    gemm = operators(load_model("meta-llama/Meta-Llama-3-8B"), 1).gemms[1]
    assert gemm.flops(3) == 2 * 3 * 4096 * 4096
    assert gemm.bytes_moved(3) == 2 * (4096 * 4096 + 3 * 4096 + 3 * 4096)
    ops = operators(load_model("meta-llama/Meta-Llama-3-8B"), 1)
    whole = ops.attention.flops(0, 100)
    assert whole == ops.attention.flops(0, 30) + ops.attention.flops(30, 70)  # chunks add up
    assert ops.attention.flops(100, 1) == 4 * 4096 * 101


def test_layers_of_latent_attention_and_experts() -> None:
    model = load_model("deepseek-v3")
    ops = operators(model, 8, precision="fp8_block")
    by_name = {gemm.name: (gemm.n, gemm.k, gemm.count, gemm.precision) for gemm in ops.gemms}
    assert by_name == {
        "attn_down_proj": (1536 + 512 + 64, 7168, 61, "fp8_block"),
        "attn_q_proj": (16 * 192, 1536, 61, "fp8_block"),
        "attn_kv_up_proj": (16 * 256, 512, 61, "bf16"),
        "attn_post_proj": (7168, 16 * 128, 61, "fp8_block"),
        "mlp_up_proj": (2 * 18432 // 8, 7168, 3, "fp8_block"),
        "mlp_down_proj": (7168, 18432 // 8, 3, "fp8_block"),
        "moe_router": (256, 7168, 58, "bf16"),
        "shared_up_proj": (512, 7168, 58, "fp8_block"),
        "shared_down_proj": (7168, 256, 58, "fp8_block"),
    }
    assert ops.attention.kv_bytes_per_token() == 2 * 576 and ops.num_all_reduces == 122
    experts = ops.experts
    assert experts and (experts.tp, experts.ep, experts.count, experts.width()) == (8, 1, 58, 256)
    lite = operators(load_model("DeepSeek-V2-Lite"), 1)
    assert [(gemm.n, gemm.k) for gemm in lite.gemms[:2]] == [(576, 2048), (16 * 192, 2048)]


def test_experts() -> None:
    model = load_model("Qwen3-30B-A3B")
    shared = operators(model, 4, expert_parallel=True, imbalance=1.5)
    experts = shared.experts
    assert experts and (experts.tp, experts.ep, experts.width()) == (1, 4, 768)
    assert experts.rows(64) == 1.5 * 64 * 8 / 4
    assert experts.weight_bytes() == 2 * 3 * 2048 * 768 * 32
    # One token reads the weights of its eight experts, two of them on this GPU; many tokens read all.
    one = operators(model, 1).experts
    assert one and one.bytes_read(1) == pytest.approx(2 * 3 * 2048 * 768 * 8 + 2 * 8 * (2048 + 768))
    assert one.bytes_read(4096) == pytest.approx(one.weight_bytes() + 2 * 8 * 4096 * (2048 + 768))
    assert (shared.num_all_reduces, shared.num_all_to_alls) == (96, 0)
    exchanged = operators(model, 4, expert_parallel=True, all_to_all=True)
    assert (exchanged.num_all_reduces, exchanged.num_all_to_alls) == (48, 96)


def test_experts_that_get_a_token() -> None:
    """As many as are drawn: each token takes top_k of them, in proportion to their popularity."""
    model = load_model("Qwen3-30B-A3B")  # 8 of 128
    even, skewed = (operators(model, 1, skew=skew).experts for skew in (0.0, 1.0))
    assert even and skewed
    for one in (even, skewed):
        assert one.reached(1) == pytest.approx(8 / 128)
        shares = [one.reached(number) for number in (1, 2, 4, 16, 64, 4096)]
        assert shares == sorted(shares) and shares[-1] == pytest.approx(1, abs=0.02)
    assert even.reached(16) == pytest.approx(1 - (1 - 8 / 128) ** 16)
    assert all(skewed.reached(number) < even.reached(number) for number in (2, 16, 64))
    rng = np.random.default_rng(0)
    drawn = [len({e for _ in range(16) for e in rng.choice(128, 8, replace=False)}) / 128 for _ in range(400)]
    assert np.mean(drawn) == pytest.approx(even.reached(16), rel=0.01)
    # As popular as it can be: the first expert is every token's, and no probability exceeds 1.
    steep = operators(load_model("mixtral-8x7b"), 1, skew=4.0).experts
    assert steep and steep.reached(1) == pytest.approx(2 / 8) and steep.reached(1e9) == 1


def test_windows_of_some_layers() -> None:
    layers = (Layer(), Layer(window=4096), Layer(window=4096), Layer(window=4096)) * 8
    model = replace(load_model("Mistral-7B-v0.1"), layers=layers, sandwich_norm=True)
    ops = operators(model, 1)
    assert [(one.name, one.count, one.window) for one in ops.attentions] == [
        ("attn", 8, None),
        ("attn_window", 24, 4096),
    ]
    first = operators(model, 1, layers=range(2))  # a stage has the windows of its own layers
    assert [(one.count, one.window) for one in first.attentions] == [(1, None), (1, 4096)]
    assert ops.attention.window == 4096 and len(operators(load_model("Mistral-7B-v0.1"), 1).attentions) == 1
    assert {kernel.name: kernel.num_kernels for kernel in ops.elementwise}["output_layernorms"] == 2


def test_precisions() -> None:
    model = load_model("llama-3-8b")
    sizes = {name: operators(model, 1, precision=name).weight_bytes() for name in WEIGHT_BYTES}
    assert sizes["bf16"] > 1.9 * sizes["int8_wo"] > 1.9 * sizes["fp8_block"] > 1.9 * sizes["fp8"]
    assert sizes["fp8"] > 1.7 * sizes["nvfp4"] > 1.7 * sizes["int4_wo"]
    fp8 = {kernel.name: kernel for kernel in operators(model, 1, precision="fp8").elementwise}
    quantised = [kernel for name, kernel in fp8.items() if name.endswith("_quant")]
    assert len(quantised) == 4  # each reads two bytes and writes one of every element
    assert sum(kernel.bytes_per_token for kernel in quantised) == 3 * (3 * 4096 + 14336)
    assert not [k for k in operators(model, 1, precision="int4_wo").elementwise if k.name.endswith("_quant")]
    assert operators(model, 1, kv_precision="fp8").kv_bytes_per_token() == 32 * 2 * 8 * 128
    gemm = operators(model, 1, precision="fp8").gemms[0]
    assert gemm.bytes_moved(10) == 6144 * 4096 + 10 * 4096 + 2 * 10 * 6144
