"""Operators of an iteration against shapes worked out by hand, and against the size of the models."""

from dataclasses import replace

import pytest

from fastsim.catalog import Model, load_model, names
from fastsim.operators import operators


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


@pytest.mark.parametrize("name", names("models"))
def test_tensor_parallelism_shares_the_work(name: str) -> None:
    model = load_model(name)
    one, two = operators(model, 1), operators(model, 2)
    assert two.layer_flops(64) == one.layer_flops(64) // 2
    assert two.attention.kv_bytes_per_token() == one.attention.kv_bytes_per_token() // 2


def test_flops_and_bytes() -> None:
    gemm = operators(load_model("meta-llama/Meta-Llama-3-8B"), 1).gemms[1]
    assert gemm.flops(3) == 2 * 3 * 4096 * 4096
    assert gemm.bytes_moved(3) == 2 * (4096 * 4096 + 3 * 4096 + 3 * 4096)
    ops = operators(load_model("meta-llama/Meta-Llama-3-8B"), 1)
    whole = ops.attention_flops(0, 100)
    assert whole == ops.attention_flops(0, 30) + ops.attention_flops(30, 70)  # chunks add up
    assert ops.attention_flops(100, 1) == 4 * 4096 * 101
