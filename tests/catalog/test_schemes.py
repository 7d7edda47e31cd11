"""Every scheme in which checkpoints are quantised, and every way in which they name the modules that are not."""

from typing import Any, get_args

import pytest

from fastsim.catalog.checkpoint import by_module
from fastsim.catalog.load import checkpoints, load_model, names
from fastsim.catalog.module_names import MODULES
from fastsim.catalog.precisions import FORMATS
from fastsim.catalog.quantization import Quantization, uniform
from fastsim.catalog.scheme import UnknownSchemeError
from fastsim.catalog.schemes import kv_precision, scheme
from fastsim.deployment.choices import Quantization as QuantizationName
from fastsim.deployment.description import Deployment
from fastsim.deployment.operators.decoder import operators
from fastsim.deployment.resolve import resolve
from fastsim.errors import CatalogError

ATTENTION = ("attn_pre_proj", "attn_post_proj")
MLP = ("mlp_up_proj", "mlp_down_proj")
FP8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
FP4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
INT8 = {"num_bits": 8, "type": "int", "strategy": "channel"}


def read(given: dict[str, Any], has_experts: bool = False) -> Quantization:
    """The precisions of a decoder of four layers."""
    found = by_module(scheme(given), 4, has_experts)
    assert found is not None
    return found


def tensors(
    weights: dict[str, Any], inputs: dict[str, Any] | None, targets: tuple[str, ...] = ("Linear",), **more: Any
) -> dict[str, Any]:
    """A quantization_config of compressed-tensors with one group."""
    group = {"targets": list(targets), "weights": weights, "input_activations": inputs}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}, **more}


def torchao(kind: str, **data: Any) -> dict[str, Any]:
    """A quantization_config of TorchAO."""
    return {"quant_method": "torchao", "quant_type": {"default": {"_type": kind, "_data": data}}}


def quark(weights: dict[str, Any] | list[dict[str, Any]], inputs: dict[str, Any] | None) -> dict[str, Any]:
    """A quantization_config of Quark."""
    return {"quant_method": "quark", "global_quant_config": {"weight": weights, "input_tensors": inputs}}


HALF_QUADRATIC = {"weight_quant_params": {"nbits": 4, "group_size": 64}}
NORMAL = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}


# Bits by hand: 4 + (16 + 4) / 128 for an integer scale with its zero point, 4 + 8 / 16 for an fp8 scale, and so on.
@pytest.mark.parametrize(
    ("given", "name", "bits"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, "fp8", 8),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block", 8 + 32 / 128**2),
        ({"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0}, "fp8", 8),
        (tensors(FP8, {"num_bits": 8, "type": "float"}), "fp8", 8),
        (tensors(FP8, None), "fp8_wo", 8),
        (tensors(FP8 | {"strategy": "block"}, {"num_bits": 8}), "fp8_block", 8 + 32 / 128**2),
        (tensors(INT8, {"num_bits": 8, "type": "int"}), "int8", 8),
        (tensors(INT8, None), "int8_wo", 8),
        (tensors(INT4, None), "int4_wo", 4 + 16 / 32),
        (tensors(INT4 | {"strategy": "channel", "group_size": None}, None), "int4_wo", 4),
        (tensors(INT4 | {"group_size": 128}, {"num_bits": 8, "type": "float"}), "int4_fp8", 4 + 16 / 128),
        (tensors(FP4, FP4), "nvfp4", 4.5),
        (tensors(FP4, None), "nvfp4_wo", 4.5),
        (tensors(FP4 | {"strategy": "group", "group_size": 32}, None), "mxfp4", 4.25),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8", 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, "nvfp4", 4.5),
        ({"quant_algo": "W4A16_AWQ", "group_size": 128}, "int4_wo", 4 + 16 / 128),
        ({"quant_method": "modelopt", "quantization": {"quant_algo": "FP8"}}, "fp8", 8),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, "int4_wo", 4 + 20 / 128),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, "int4_wo", 4 + 20 / 64),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, "int4_wo", 4 + 20 / 32),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, "int8_wo", 8),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128}, "int4_wo", 4 + 20 / 128),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8", 8),
        (NORMAL, "nf4", 4 + 32 / 64),
        (NORMAL | {"bnb_4bit_use_double_quant": True}, "nf4", 4 + 32 / 64),
        (torchao("Float8DynamicActivationFloat8WeightConfig"), "fp8", 8),
        (torchao("Int4WeightOnlyConfig", group_size=64), "int4_wo", 4 + 32 / 64),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "int8_wo", 8),
        (quark({"dtype": "fp8_e4m3", "qscheme": "per_tensor"}, {"dtype": "fp8_e4m3"}), "fp8", 8),
        (quark({"dtype": "fp4", "qscheme": "per_group", "group_size": 32}, {"dtype": "fp4"}), "mxfp4", 4.25),
        ({"quant_method": "fp_quant", "forward_dtype": "nvfp4"}, "nvfp4", 4.5),
        ({"quant_method": "hqq", "quant_config": HALF_QUADRATIC}, "int4_wo", 4 + 32 / 64),
        ({"quant_method": "w8a8_int8"}, "int8", 8),
        (tensors(INT4, {"num_bits": 8, "type": "int"}), "int4_fp8", 4 + 16 / 32),
        ({"quant_method": "auto_round", "bits": 4, "data_type": "nv_fp"}, "nvfp4", 4.5),
        ({"load_in_8bit": True}, "int8", 8),
        (torchao("NVFP4WeightOnlyConfig"), "nvfp4_wo", 4.5),
        (torchao("IntxWeightOnlyConfig", weight_dtype={"_type": "torch.dtype", "_data": "int8"}), "int8_wo", 8),
        (quark([{"dtype": "fp8_e4m3"}, {"dtype": "int4", "qscheme": "per_channel"}], {"dtype": "fp8"}), "int4_fp8", 4),
    ],
)
def test_a_scheme_quantises_the_linear_modules_and_neither_router_nor_vocabulary(
    given: dict[str, Any], name: str, bits: float
) -> None:
    found = read(given)
    for module in (*ATTENTION, *MLP, "moe_experts", "shared_up_proj", "attn_q_proj"):
        assert found.of(module, 2).name == name and found.of(module, 2).bits == pytest.approx(bits), module
    assert {found.of(module, 2).name for module in ("moe_router", "lm_head", "embedding", "attn_kv_up_proj")} == {
        "bf16"
    }
    assert found.name == name and found.modules == ()


@pytest.mark.parametrize(
    "given",
    [
        {"quant_method": "exl2"},
        {"quant_method": "gptq", "bits": 3},
        {"bits": 4},
        {"quant_method": "modelopt", "quant_algo": "INT2"},
        torchao("UIntXWeightOnlyConfig"),
        quark({"dtype": "fp6_e2m3"}, None),
        tensors({"num_bits": 2, "type": "int"}, None),
    ],
)
def test_a_scheme_that_is_not_known_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnknownSchemeError):
        scheme(given)


LISTS = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "exclude", "llm_int8_skip_modules")


@pytest.mark.parametrize("field", LISTS)
@pytest.mark.parametrize(
    ("entry", "wide"),
    [
        ("lm_head", set()),
        ("self_attn", {(module, layer) for module in ATTENTION for layer in range(4)}),
        ("*self_attn*", {(module, layer) for module in ATTENTION for layer in range(4)}),
        ("re:.*self_attn.*", {(module, layer) for module in ATTENTION for layer in range(4)}),
        ("model.layers.*.self_attn", {(module, layer) for module in ATTENTION for layer in range(4)}),
        ("model.layers.1", {(module, 1) for module in (*ATTENTION, *MLP)}),
        ("model.layers.1.", {(module, 1) for module in (*ATTENTION, *MLP)}),
        ("model.layers.1.self_attn*", {(module, 1) for module in ATTENTION}),
        ("model.layers.0.mlp.down_proj", {("mlp_down_proj", 0)}),
        ("model.language_model.layers.3.mlp.gate_proj", {("mlp_up_proj", 3)}),
        ("language_model.model.layers.3.self_attn.qkv_proj", {("attn_pre_proj", 3)}),
        ("transformer.h.2.attn.c_attn", {("attn_pre_proj", 2)}),
        ("re:.*layers\\.(0|1)\\.mlp.*", {(module, layer) for module in MLP for layer in (0, 1)}),
        ("re:.*mlp\\.(gate|up|gate_up|down)_proj.*", {(module, layer) for module in MLP for layer in range(4)}),
        # Routers, towers and layers beyond the last one are no matrices of these.
        ("model.layers.2.mlp.gate", set()),
        ("re:.*mlp.gate$", set()),
        ("gate", set()),
        ("model.layers.61*", set()),
        ("visual.blocks.0.mlp.up_proj", set()),
        ("model.vision_tower.encoder.layers.1.self_attn.q_proj", set()),
        ("vision_tower*", set()),
    ],
)
def test_modules_that_are_left_out_stay_in_16_bits(field: str, entry: str, wide: set[tuple[str, int]]) -> None:
    found = read({"quant_method": "fp8", field: ["lm_head", entry]})
    modules = [(module, layer) for module in (*ATTENTION, *MLP) for layer in range(4)]
    assert {key for key in modules if found.of(*key).name == "bf16"} == wide
    assert {found.of(*key).name for key in set(modules) - wide} == {"fp8"}


def test_modules_of_experts_and_of_latent_attention_are_told_apart() -> None:
    given = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    entries = ["model.layers.0.self_attn.kv_a_proj_with_mqa", "model.layers.1.self_attn.q_b_proj"]
    entries += ["model.layers.2.mlp.experts.0.gate_proj", "model.layers.2.mlp.shared_experts.down_proj"]
    found = read(given | {"exclude_modules": entries}, has_experts=True)
    modules = ("attn_down_proj", "attn_q_proj", "attn_post_proj", "moe_experts", "shared_up_proj", "shared_down_proj")
    wide = {(module, layer) for module in modules for layer in range(4) if found.of(module, layer).name == "bf16"}
    expected = {("attn_down_proj", 0), ("attn_q_proj", 1), ("moe_experts", 2), ("shared_down_proj", 2)}
    assert wide == expected and found.name == "nvfp4"
    few = read(given | {"exclude_modules": ["*.shared_experts.*", "re:.*self_attn.*"]}, has_experts=True)
    assert {few.of(module, 3).name for module in ("shared_up_proj", "attn_down_proj", "attn_q_proj")} == {"bf16"}
    assert {few.of(module, 3).name for module in ("moe_experts", "mlp_up_proj")} == {"nvfp4"}


def test_mxfp4_of_gpt_oss_quantises_the_experts_alone() -> None:
    found = read({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]}, has_experts=True)
    assert found.name == "mxfp4" and found.of("moe_experts", 1).bits == 4.25
    assert {found.of(module, 1).name for module in (*ATTENTION, *MLP, "lm_head")} == {"bf16"}
    asked = uniform("mxfp4", has_experts=True)
    assert asked.of("moe_experts", 1).bits == 4.25 and asked.of("attn_pre_proj", 1).name == "bf16"
    assert uniform("mxfp4").of("mlp_up_proj").name == "mxfp4"


def test_experts_in_fp4_within_a_checkpoint_in_fp8() -> None:
    given: dict[str, Any] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    layers = {"layers.1.ffn.experts": {"quant_algo": "NVFP4"}}
    for config, expert_dtype, name in (
        (given, "fp4", "mxfp4"),
        (given | {"ignore": ["*.attn.*"], "quantized_layers": layers}, "", "nvfp4"),
    ):
        found = by_module(scheme(config, expert_dtype), 2, has_experts=True)
        assert found and found.of("moe_experts", 1).name == name
        assert {found.of(module, 1).name for module in ("attn_down_proj", "shared_up_proj")} == {"fp8_block"}


def test_families_that_name_their_modules_otherwise() -> None:
    given = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    beside = given | {"ignore": ["model.language_model.layers.1.mlp*", "model.language_model.layers.1.router*"]}
    found = by_module(scheme(beside), 2, has_experts=True, family="gemma4_text")
    assert found and [found.of(name, 1).name for name in ("moe_experts", "shared_up_proj")] == ["nvfp4", "bf16"]
    delta = given | {"ignore": ["re:.*self_attn.*"]}
    found = by_module(scheme(delta), 2, has_experts=True, family="kimi_linear")
    assert found and {found.of(f"linear_{name}_proj", 1).name for name in ("in", "inner", "out")} == {"bf16"}
    found = by_module(scheme(delta), 2, has_experts=True, family="qwen3_next")
    assert found and found.of("linear_in_proj", 1).name == "nvfp4"


def test_quantised_checkpoints_of_the_catalog_have_the_shapes_of_their_models() -> None:
    bits = {"fp8": 8, "fp8_block": 8, "int8": 8, "int8_wo": 8, "int4_wo": 4, "nf4": 4, "nvfp4": 4}
    for name in checkpoints():
        model = load_model(name)
        assert model.name == name and model.quantization and load_model(name.upper()) == model
        main = "moe_experts" if model.num_experts else "mlp_up_proj"
        width = model.quantization.of(main, model.num_layers // 2).bits
        assert bits[model.quantization.name] <= width < 1.16 * bits[model.quantization.name], name
        assert model.quantization.of("lm_head").name == "bf16"
    fp8 = load_model("llama-3.1-405b-instruct-fp8")
    assert fp8.name == "meta-llama/Llama-3.1-405B-Instruct-FP8" and fp8.quantization
    assert [fp8.quantization.of("mlp_up_proj", layer).name for layer in (0, 1, 125)] == ["bf16", "fp8", "bf16"]
    assert fp8.quantization.of("attn_pre_proj", 60).name == "bf16"
    assert (fp8.kv_cache_dtype, load_model("nvidia/Llama-3.1-405B-Instruct-FP8").kv_cache_dtype) == (None, "fp8")
    assert load_model("moonshotai/Kimi-K2-Thinking").max_position_embeddings == 262144
    resolved = resolve(Deployment.load({"model": "qwen/qwen3-8b-awq", "device": "h100", "max_model_len": 4096}))
    assert resolved.deployment.model == "Qwen/Qwen3-8B-AWQ" and resolved.precision == "int4_wo"
    with pytest.raises(CatalogError, match="'Qwen/Qwen3-32B-FP8'"):
        load_model("Qwen/Qwen3-32B-FP9")


def test_a_deployment_can_name_every_precision() -> None:
    assert set(get_args(QuantizationName)) == set(FORMATS) - {"bf16"} | {"none"}


def test_every_gemm_of_every_model_has_published_names() -> None:
    for name in names("models"):
        ops = operators(load_model(name), 1)
        assert {gemm.name.rstrip("_123456789") for gemm in ops.gemms} <= set(MODULES), name


def test_groups_of_modules_have_precisions_of_their_own() -> None:
    groups = {
        "group_0": {"targets": ["re:.*self_attn.*"], "weights": FP8, "input_activations": {"num_bits": 8}},
        "group_1": {"targets": ["re:.*mlp.*"], "weights": FP4, "input_activations": FP4},
    }
    found = read({"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"]})
    assert [found.of(module, 0).name for module in ("attn_pre_proj", "mlp_up_proj", "lm_head")] == [
        "fp8",
        "nvfp4",
        "bf16",
    ]
    layers = {
        "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
        "model.layers.0.mlp.gate_proj": {"quant_algo": "NVFP4", "group_size": 16},
        "lm_head": {"quant_algo": "FP8"},
    }
    found = read({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    assert [found.of("attn_pre_proj", layer).name for layer in range(2)] == ["fp8", "bf16"]
    assert [found.of("mlp_up_proj", layer).name for layer in range(2)] == ["nvfp4", "bf16"]
    assert found.of("lm_head").name == "fp8" and found.of("mlp_down_proj").name == "bf16"
    found = read(
        {
            "quant_method": "gptq",
            "bits": 4,
            "group_size": 128,
            "lm_head": True,
            "dynamic": {"-:.*\\.1\\.mlp.*": {}, "+:.*\\.2\\.mlp.down_proj": {"bits": 8}},
        }
    )
    assert [found.of("mlp_down_proj", layer).name for layer in range(3)] == ["int4_wo", "bf16", "int8_wo"]
    assert found.of("lm_head").name == "int4_wo" and found.of("attn_pre_proj", 1).name == "int4_wo"
    table = {"_default": {"_type": "Int8WeightOnlyConfig"}, "model.layers.3.mlp.up_proj": None}
    found = read(torchao("ModuleFqnToConfig", module_fqn_to_config=table))
    assert [found.of("mlp_up_proj", layer).name for layer in (2, 3)] == ["int8_wo", "bf16"]


def test_a_class_of_experts_stands_for_them_alone() -> None:
    found = read(tensors(FP8, {"num_bits": 8}, targets=("Llama4TextExperts",)), has_experts=True)
    assert found.of("moe_experts", 1).name == "fp8"
    assert {found.of(name, 1).name for name in ("attn_pre_proj", "shared_up_proj")} == {"bf16"}


def test_the_kv_cache_of_a_checkpoint() -> None:
    assert kv_precision({"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}) == "fp8"
    assert kv_precision({"quantization": {"kv_cache_quant_algo": "FP8"}}) == "fp8"
    assert kv_precision({"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}) == "fp8"
    for other in ({}, {"kv_cache_quant_algo": None}, {"kv_cache_scheme": "static"}, {"kv_cache_quant_algo": "INT8"}):
        assert kv_precision(other) is None
    assert by_module(scheme(tensors({}, None, kv_cache_scheme={"num_bits": 8, "type": "float"})), 4, False) is None
