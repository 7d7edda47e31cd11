"""Bytes of checkpoints whose modules differ in their precision: by hand arithmetic, and as engines log them."""

import json
from pathlib import Path
from typing import Any

import pytest

from fastsim.catalog.load import load_model
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.modules import modules
from fastsim.deployment.memory.sizes import GIB
from fastsim.deployment.operators.decoder import operators
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved

LLAMA = {"model_type": "llama", "max_position_embeddings": 131072, "vocab_size": 128256, "num_key_value_heads": 8}
LLAMA_405B = LLAMA | {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128}
LLAMA_405B |= {"num_hidden_layers": 126}
LLAMA_70B = LLAMA | {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64}
LLAMA_70B |= {"num_hidden_layers": 80}
GPT_OSS = {"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64}
GPT_OSS |= {"num_key_value_heads": 8, "head_dim": 64, "vocab_size": 201088, "max_position_embeddings": 131072}
GPT_OSS |= {"num_experts_per_tok": 4, "sliding_window": 128, "attention_bias": True, "tie_word_embeddings": False}
LATENT = {"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128}
LATENT |= {"num_key_value_heads": 128, "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128}
LATENT |= {"qk_rope_head_dim": 64, "v_head_dim": 128, "intermediate_size": 18432, "moe_intermediate_size": 2048}
LATENT |= {"n_shared_experts": 1, "num_experts_per_tok": 8, "max_position_embeddings": 163840, "hidden_act": "silu"}
DEEPSEEK = LATENT | {"vocab_size": 129280, "n_routed_experts": 256, "first_k_dense_replace": 3}
KIMI = LATENT | {"vocab_size": 163840, "n_routed_experts": 384, "first_k_dense_replace": 1, "num_attention_heads": 64}
KIMI |= {"num_key_value_heads": 64}


def described(folder: Path, config: dict[str, Any], given: dict[str, Any] | None = None, **fields: Any) -> Resolved:
    """A deployment of a checkpoint with this configuration."""
    (folder / "config.json").write_text(json.dumps(config | ({"quantization_config": given} if given else {})))
    settings = {"model": str(folder / "config.json"), "device": "h100", "max_model_len": 8192}
    return resolve(Deployment.load(settings | fields))


def total(folder: Path, config: dict[str, Any], given: dict[str, Any]) -> float:
    """Bytes of a whole checkpoint."""
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": given}))
    return sum(module.bytes for module in modules(load_model(folder)))


def test_405b_as_meta_publishes_it(tmp_path: Path) -> None:
    wide = [f"model.layers.{i}.self_attn.{name}_proj" for i in range(126) for name in "qkvo"]
    wide += [f"model.layers.{i}.mlp.{name}_proj" for i in (0, 125) for name in ("gate", "up", "down")]
    given = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": wide}
    mixed = described(tmp_path, LLAMA_405B, given, tensor_parallel_size=8)
    mlp = 3 * 16384 * 53248
    attention = 2 * 126 * (16384 * (16384 + 2 * 1024) + 16384**2)
    expected = (124 + 2 * 2) * mlp + attention + 2 * 2 * 128256 * 16384
    assert mixed.memory.weights_gib == pytest.approx(expected / 8 / GIB, rel=1e-3)
    assert mixed.memory.weights_gib == pytest.approx(57.75, rel=0.02)  # as vLLM logs, with buffers
    counts = {gemm.name: (gemm.count, gemm.precision) for gemm in mixed.operators.gemms}
    assert counts == {
        "attn_pre_proj": (126, "bf16"),
        "attn_post_proj": (126, "bf16"),
        "mlp_up_proj": (124, "fp8"),
        "mlp_up_proj_bf16": (2, "bf16"),
        "mlp_down_proj": (124, "fp8"),
        "mlp_down_proj_bf16": (2, "bf16"),
    }
    assert {kernel.name: kernel.count for kernel in mixed.operators.elementwise if "quant" in kernel.name} == {
        "mlp_up_quant": 124,
        "mlp_down_quant": 124,
    }
    again = resolve(mixed.deployment)
    assert again.memory == mixed.memory and again.weights == mixed.weights
    plain = described(tmp_path, LLAMA_405B, given, tensor_parallel_size=8, quantization="int4_wo")
    assert plain.memory.weights_gib < 0.5 * mixed.memory.weights_gib  # another checkpoint of the model


def test_gpt_oss_has_experts_in_4_bits_and_all_else_in_16(tmp_path: Path) -> None:
    given = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]}
    # GB of the files on Hugging Face, and GiB that vLLM 0.11 logs on H100
    for layers, experts, files, logged in ((24, 32, 13.76, 13.47), (36, 128, 65.25, 64.38)):
        config = GPT_OSS | {"num_hidden_layers": layers, "num_local_experts": experts}
        served = described(tmp_path, config, given, device="h200")
        ops = operators(served.model, 1, precision=served.weights)
        each = 3 * 2880 * 2880 * 4.25 / 8 + 2 * 3 * 2880  # with the biases
        assert ops.experts and ops.experts.weight_bytes() == pytest.approx(experts * each)
        assert sum(module.bytes for module in modules(served.model)) == pytest.approx(files * 1e9, rel=0.005)
        assert served.memory.weights_gib == pytest.approx(logged, rel=0.005)


def test_experts_in_mxfp4_are_padded_as_the_kernels_of_a_gpu_want_them(tmp_path: Path) -> None:
    given, config = {"quant_method": "mxfp4"}, GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32}
    weights = {
        device: described(tmp_path, config, given, device=device).memory.weights_gib
        for device in ("a100", "h100", "b200")
    }
    # vLLM logs 13.7153 GiB where Marlin has matrices of 5888 x 3072 and 3072 x 2944.
    assert weights["a100"] == pytest.approx(13.7153, rel=0.003)
    marlin = 24 * 32 * 4.25 / 8 * (5888 * 3072 + 3072 * 2944)
    flashinfer = 24 * 32 * 4.25 / 8 * 3 * 3072**2
    assert weights["b200"] - weights["a100"] == pytest.approx((flashinfer - marlin) / GIB)
    hopper = 24 * 32 * 3 * (2880 * 3072 / 2 + 2880 * 2880 / 32)
    assert weights["a100"] - weights["h100"] == pytest.approx((marlin - hopper) / GIB)


def test_latent_attention_is_held_twice() -> None:
    """A log of vLLM 0.12, DeepSeek-R1 on 8 H200, has 79.74 GiB of weights."""
    settings = {"model": "deepseek-ai/DeepSeek-R1", "device": "h200", "tensor_parallel_size": 8, "max_model_len": 8192}
    served = resolve(Deployment.load(settings))
    assert served.memory.weights_gib == pytest.approx(79.739, rel=0.004)
    assert (served.memory.block_bytes // 16, served.kv_precision) == (70_272, "bf16")


def test_projections_of_latent_attention_that_nvfp4_leaves_out(tmp_path: Path) -> None:
    wide = [f"model.layers.{i}.self_attn.{name}" for i in range(61) for name in ("q_a_proj", "q_b_proj", "kv_b_proj")]
    wide += [f"model.layers.{i}.self_attn.kv_a_proj_with_mqa" for i in range(61)]
    beside = {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "group_size": 16, "exclude_modules": wide}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps({"quantization": beside}))
    served = described(tmp_path, DEEPSEEK, device="b200", tensor_parallel_size=8)
    (tmp_path / "hf_quant_config.json").unlink()
    whole = described(tmp_path, DEEPSEEK, quantization="nvfp4", device="b200", tensor_parallel_size=8)
    kept = 61 * (7168 * (1536 + 576) + 1536 * 128 * 192 / 8)  # the down-projections are on every GPU
    kept += 61 * 512 * 128 * 256 / 8  # kv_b_proj, beside its halves in 16 bits
    more = served.memory.weights_gib - whole.memory.weights_gib
    assert more == pytest.approx(kept * (2 - 4.5 / 8) / GIB, rel=1e-6)
    assert served.scheduler.block_size == whole.scheduler.block_size == 32
    assert (served.kv_precision, served.memory.block_bytes) == ("fp8", 32 * 61 * 576)
    assert (whole.kv_precision, whole.memory.block_bytes) == ("bf16", 2 * 32 * 61 * 576)


def test_int4_experts_in_groups_of_32_take_594_gb(tmp_path: Path) -> None:
    """Kimi-K2-Thinking: everything but the routed experts is in 16 bits; its files are 594 GB."""
    ignore = ["lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"]
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    given = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, "ignore": ignore}
    assert total(tmp_path, KIMI, given) == pytest.approx(594e9, rel=0.005)


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "modelopt", "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]},
        {
            "quant_method": "compressed-tensors",
            "kv_cache_scheme": {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False},
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
                    "input_activations": {"num_bits": 8, "type": "float", "strategy": "tensor"},
                }
            },
        },
    ],
)
def test_the_kv_cache_has_the_precision_that_the_checkpoint_is_calibrated_for(
    tmp_path: Path, given: dict[str, Any]
) -> None:
    served = described(tmp_path, LLAMA_70B, given, tensor_parallel_size=2)
    assert (served.kv_precision, served.memory.block_bytes // 16, served.quantization) == ("fp8", 81_920, "fp8")
    assert resolve(served.deployment).memory == served.memory
    wide = described(tmp_path, LLAMA_70B, given, tensor_parallel_size=2, kv_cache_dtype="bfloat16")
    assert (wide.kv_precision, wide.memory.block_bytes // 16) == ("bf16", 163_840)
    assert wide.memory.num_blocks == pytest.approx(served.memory.num_blocks / 2, abs=1)
    other = described(tmp_path, LLAMA_70B, given, tensor_parallel_size=2, quantization="none", device="h200")
    assert other.kv_precision == "bf16"


def test_awq_counts_scales_and_zero_points(tmp_path: Path) -> None:
    given = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "version": "gemm"}
    layer = 8192 * (8192 + 2 * 1024) + 8192**2 + 3 * 8192 * 28672
    expected = 80 * layer * (4 + 20 / 128) / 8 + 2 * 2 * 128256 * 8192
    assert total(tmp_path, LLAMA_70B, given) == pytest.approx(expected, rel=1e-4)


def test_layers_of_experts_in_several_precisions(tmp_path: Path) -> None:
    given = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.3.mlp.experts"]}
    mixed = described(tmp_path, DEEPSEEK | {"num_hidden_layers": 6}, given)
    experts = {one.name: (one.count, one.precision) for one in mixed.operators.all_experts}
    assert experts == {"moe_experts": (2, "fp8"), "moe_experts_bf16": (1, "bf16")}
    uniform = described(tmp_path, DEEPSEEK | {"num_hidden_layers": 6}, {"quant_method": "fp8"})
    more = mixed.operators.weight_bytes() - uniform.operators.weight_bytes()
    assert more == pytest.approx(256 * 3 * 7168 * 2048, rel=1e-9)


def test_sparse_attention_keeps_scales_and_rope_beside_a_cache_in_fp8(tmp_path: Path) -> None:
    sparse = DEEPSEEK | {"model_type": "deepseek_v32", "index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}
    (tmp_path / "config.json").write_text(json.dumps(sparse))
    model = load_model(tmp_path)
    # As vLLM's fp8_ds_mla has it, 656 bytes: 512 in fp8, 4 scales of 4 bytes, 64 in 16 bits; with 132 of the indexer.
    assert operators(model, 8, kv_precision="fp8").kv_bytes_per_token() == 61 * (656 + 132)
    assert operators(model, 8).kv_bytes_per_token() == 61 * (2 * 576 + 132)


def test_a_nested_decoder_is_quantised_as_the_whole_file_says(tmp_path: Path) -> None:
    ignore = ["lm_head", "re:.*vision_tower.*", "model.language_model.layers.0.mlp.down_proj"]
    given = {"quant_method": "fp8", "ignored_layers": ignore, "kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    whole = {"model_type": "mistral3", "text_config": LLAMA_70B, "quantization_config": given}
    (tmp_path / "config.json").write_text(json.dumps(whole))
    model = load_model(tmp_path)
    assert model.quantization and model.kv_cache_dtype == "fp8"
    assert [model.quantization.of("mlp_down_proj", layer).name for layer in (0, 1)] == ["bf16", "fp8"]
    assert model.quantization.of("attn_pre_proj", 79).name == "fp8"
    older = {key: value for key, value in whole.items() if key != "quantization_config"}
    (tmp_path / "config.json").write_text(json.dumps(older | {"compression_config": given}))
    assert load_model(tmp_path).quantization == model.quantization
