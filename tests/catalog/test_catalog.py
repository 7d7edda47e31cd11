"""The shipped catalog, and models read from Hugging Face configurations."""

import importlib.util
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fastsim.catalog.load import default_node, load_device, load_model, load_node, names
from fastsim.catalog.model import Model
from fastsim.catalog.names import same_shape, suggestion
from fastsim.errors import CatalogError, ConfigError

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 131072,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}

MOE = {"model_type": "qwen3_moe", "num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 512}


def config(folder: Path, **changes: Any) -> Path:
    """A config.json like Llama-3.1-8B's with these fields changed; None takes a field out."""
    values = {key: value for key, value in (LLAMA | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(values))
    return folder / "config.json"


def weights(**described: Any) -> dict[str, Any]:
    """A quantization_config of compressed-tensors."""
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": described}}}


EXPERTS = ["Mixtral-8x7B-v0.1", "Mixtral-8x22B-v0.1", "Qwen3-30B-A3B", "Qwen3-235B-A22B", "DeepSeek-V3"]


# Parameters in 10^9, from the model cards.
@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-2-7b-hf", 6.74),
        ("meta-llama/Llama-2-13b-hf", 13.02),
        ("meta-llama/Llama-2-70b-hf", 68.98),
        ("meta-llama/Meta-Llama-3-8B", 8.03),
        ("meta-llama/Meta-Llama-3-70B", 70.55),
        ("meta-llama/Llama-3.1-405B", 405.85),
        ("codellama/CodeLlama-34b-Instruct-hf", 33.74),
        ("internlm/internlm-20b", 20.09),
        ("internlm/internlm2-20b", 19.86),
        ("Qwen/Qwen-72B", 72.29),
        ("Qwen/Qwen2.5-7B", 7.62),
        ("Qwen/Qwen2.5-14B", 14.77),
        ("Qwen/Qwen2.5-32B", 32.76),
        ("Qwen/Qwen2.5-72B", 72.71),
        ("Qwen/Qwen3-8B", 8.19),
        ("Qwen/Qwen3-14B", 14.77),
        ("Qwen/Qwen3-32B", 32.76),
        ("mistralai/Mistral-7B-v0.1", 7.24),
        ("mistralai/Mistral-7B-v0.3", 7.25),
        ("mistralai/Mistral-Nemo-Instruct-2407", 12.25),
        ("microsoft/phi-2", 2.78),
        ("01-ai/Yi-34B", 34.39),
        ("mistralai/Mixtral-8x7B-v0.1", 46.70),
        ("mistralai/Mixtral-8x22B-v0.1", 140.62),
        ("Qwen/Qwen3-30B-A3B", 30.53),
        ("Qwen/Qwen3-235B-A22B", 235.09),
        ("deepseek-ai/DeepSeek-V2-Lite", 15.71),
        ("deepseek-ai/DeepSeek-V3", 671.03),
    ],
)
def test_shapes_give_the_published_number_of_parameters(name: str, billions: float) -> None:
    m = load_model(name)
    attention = m.hidden_size * m.head_dim * (2 * m.num_attention_heads + 2 * m.num_key_value_heads)
    if m.kv_lora_rank:
        attention = m.hidden_size * (m.q_lora_rank + m.kv_lora_rank + m.qk_rope_head_dim + m.num_attention_heads * 128)
        attention += (m.q_lora_rank or m.hidden_size) * m.num_attention_heads * m.head_dim
        attention += m.kv_lora_rank * m.num_attention_heads * (m.qk_nope_head_dim + m.v_head_dim)
    dense = (3 if m.gated_mlp else 2) * m.hidden_size * m.intermediate_size
    experts = 3 * m.hidden_size * (m.num_experts * m.moe_intermediate_size + m.shared_expert_intermediate_size)
    experts += m.hidden_size * m.num_experts
    mlp = sum(experts if m.has_experts(layer) else dense for layer in range(m.num_layers))
    vocabulary = (1 if m.tie_word_embeddings else 2) * m.vocab_size * m.hidden_size
    assert (m.num_layers * attention + mlp + vocabulary) / 1e9 == pytest.approx(billions, rel=2e-3)


def test_every_entry_loads_by_its_name_and_is_complete() -> None:
    assert len(names("models")) >= 28
    for name in names("models"):
        model = load_model(name)
        assert model.name == name and model.source
        assert model.num_attention_heads % model.num_key_value_heads == 0
        assert load_model(name.rpartition("/")[2].upper()) == model
    for name in names("devices"):
        device = load_device(name)
        assert device.name == name and "price: " in device.source
        assert 0.96 * device.memory_gib < device.torch_memory_gib <= device.memory_gib and device.tflops["bf16"] > 60
        assert device.price_per_hour is None or device.price_per_hour > 0
        assert device.power_w > 0 and device.architecture
        assert default_node(device).device == name
    for name in names("nodes"):
        node = load_node(name)
        assert node.device is None or node.device in names("devices")
        assert node.num_devices > 0 and node.link_gb_s > 0 and node.source


def test_entries_travel_to_other_processes() -> None:
    for entry in (load_model("phi-2"), load_device("h100"), load_node("h100_dgx")):
        assert pickle.loads(pickle.dumps(entry)) == entry


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("llama-3-8b", "meta-llama/Meta-Llama-3-8B"),
        ("Llama-2-7B", "meta-llama/Llama-2-7b-hf"),
        ("META-LLAMA/llama_2_7b_HF", "meta-llama/Llama-2-7b-hf"),
        ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B"),
        ("mistral-nemo-12b", "mistralai/Mistral-Nemo-Instruct-2407"),
        ("Mistral-7B", "mistralai/Mistral-7B-v0.3"),
    ],
)
def test_model_aliases(alias: str, name: str) -> None:
    assert load_model(alias).name == name


def test_device_and_node_aliases() -> None:
    assert load_device("A100_80GB") == load_device("a100")
    assert load_device("a100_40gb").memory_gib == 40
    assert load_device("rtxpro6000").name == load_device("RTX PRO 6000").name == "rtx_pro_6000"
    assert load_node("hgx").name == "h200_dgx"
    assert load_node("pcie").device is None


def test_figures_that_parity_and_costs_rest_on() -> None:
    memory = {name: load_device(name).memory_gib for name in ("a100", "h100", "a40")}
    assert memory == {"a100": 80, "h100": 80, "a40": 45}  # Vidur, config/device_sku_config.py
    price = [load_device(name).price_per_hour for name in ("a100", "h100", "a40")]
    assert price == [2.21, 4.25, 1.28]  # Vidur paper
    assert load_device("a100").predictor == "a100_sxm" and load_device("h100").predictor == "h100_sxm"
    assert load_model("Mistral-Nemo-Instruct-2407").head_dim == 128  # not hidden_size / heads = 160


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(CatalogError, match=r"did you mean 'meta-llama/Llama-2-7b-hf'\?$"):
        load_model("meta-lama/Llama-2-7b-hf")
    with pytest.raises(CatalogError, match=r"^node: 'a100-dxg' is unknown; did you mean 'a100_dgx'\?$"):
        load_node("a100-dxg")
    with pytest.raises(CatalogError, match=r"^device: 'h1000' is unknown; valid: .*h100"):
        load_device("h1000")  # a word with a digit names another product
    with pytest.raises(CatalogError, match="neither in the catalog"):
        load_model("x" * 5000)


CATALOG = (
    "meta-llama/Llama-2-70b-hf",
    "meta-llama/Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B",
    "codellama/CodeLlama-34b-Instruct-hf",
    "Qwen/Qwen2.5-7B",
    "mistralai/Mixtral-8x7B-v0.1",
    "mistralai/Mistral-7B-v0.3",
    "mistralai/Mistral-Nemo-Instruct-2407",
    "deepseek-ai/DeepSeek-V3",
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Llama-3.1-70B-Instrct", "did you mean 'Llama-3.1-70B'?"),
        ("lama-3.1-70b", "did you mean 'Llama-3.1-70B'?"),
        ("llama3.1-8b-chat", "did you mean 'Llama-3.1-8B'?"),
        ("Qwen/Qwen-2.5-7B-Instruct", "did you mean 'Qwen/Qwen2.5-7B'?"),
        ("codelama-34b", "did you mean 'CodeLlama-34b-Instruct-hf'?"),
        # Another release, another size and another branch of a family are other models.
        ("Llama-3.3-70B-Instruct", "of this family the catalog has 'Llama-3.1-70B', 'Llama-2-70b-hf', 'Llama-3.1-8B'"),
        ("Llama-3.3-8B-Instruct", "of this family the catalog has 'Llama-3.1-8B', 'Llama-3.1-70B', 'Llama-2-70b-hf'"),
        ("Llama-1.9-65B", "of this family the catalog has 'Llama-2-70b-hf', 'Llama-3.1-8B', 'Llama-3.1-70B'"),
        ("Llama-2-7c-hf", "of this family the catalog has 'Llama-2-70b-hf', 'Llama-3.1-70B', 'Llama-3.1-8B'"),
        ("Qwen2.5-72B", "of this family the catalog has 'Qwen2.5-7B'"),
        ("Mixtral-8x22B-v0.1", "of this family the catalog has 'Mixtral-8x7B-v0.1'"),
        ("Mistral-Large", "of this family the catalog has 'Mistral-7B-v0.3'"),
        ("deepseek-v3.1", "of this family the catalog has 'DeepSeek-V3'"),
        ("DeepSeek-R1-Distill-Llama-70B", "`fastsim catalog models` lists what the catalog has"),
        ("gpt-5", "`fastsim catalog models` lists what the catalog has"),
    ],
)
def test_only_a_model_of_the_same_family_release_and_size_is_suggested(name: str, said: str) -> None:
    assert suggestion(name, {entry: entry for entry in CATALOG}) == said


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RedHatAI/Meta-Llama-3.1-70B-Instruct-FP8", ("meta-llama/Llama-3.1-70B", "fp8")),
        ("someone/Meta-Llama-3.1-8B-Instruct-quantized.w8a8", ("meta-llama/Llama-3.1-8B", "int8")),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int8", ("Qwen/Qwen2.5-7B", "int8_wo")),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", ("Qwen/Qwen2.5-7B", "int4_wo")),
        ("/models/llama-3.1-8b-awq-int4", ("meta-llama/Llama-3.1-8B", "int4_wo")),
        ("unsloth/Llama-3.1-8B-Instruct-bnb-4bit", ("meta-llama/Llama-3.1-8B", "nf4")),
        ("unsloth/Llama-3.1-8B", ("meta-llama/Llama-3.1-8B", None)),
        ("Llama-3.2-8B-FP8", None),
        ("Qwen2.5-Coder-7B", None),
        ("FP8", None),
    ],
)
def test_a_checkpoint_has_the_shapes_of_the_model_that_it_stores(name: str, found: tuple[str, str | None]) -> None:
    assert same_shape(name, {entry: entry for entry in CATALOG}) == found
    if found and found[1]:
        assert suggestion(name, {entry: entry for entry in CATALOG}).endswith(f"with quantization {found[1]}?")


def test_a_checkpoint_that_the_catalog_has_comes_before_the_model_that_it_stores() -> None:
    catalog = {name: name for name in ("a/Llama-3.1-8B", "a/Llama-3.1-8B-Instruct-FP8", "a/Qwen3-8B-FP8")}
    assert same_shape("b/Meta-Llama-3.1-8B-FP8", catalog) == ("a/Llama-3.1-8B-Instruct-FP8", None)
    assert same_shape("b/Llama-3.1-8B-AWQ", catalog) == ("a/Llama-3.1-8B", "int4_wo")
    assert same_shape("b/Llama-3.1-8B-Instruct", catalog) == ("a/Llama-3.1-8B", None)
    assert same_shape("b/Qwen3-8B", catalog) is None
    assert suggestion("Llama-3.1-8B-Instrct-FP8", catalog) == "did you mean 'Llama-3.1-8B-Instruct-FP8'?"
    assert suggestion("Llama-3.1-8B-NVFP4", catalog) == "did you mean 'Llama-3.1-8B' with quantization nvfp4?"
    assert suggestion("Qwen3-8B", catalog) == "of this family the catalog has 'Qwen3-8B-FP8'"


def test_a_configuration_is_read_as_the_catalog_has_it(tmp_path: Path) -> None:
    file = config(tmp_path)
    known = load_model("Llama-3.1-8B")
    for given in (file, str(file), tmp_path):
        read = load_model(given)
        assert read.name == str(given) and read.source == str(file)
        for name in ("num_layers", "num_key_value_heads", "head_dim", "intermediate_size", "gated_mlp"):
            assert getattr(read, name) == getattr(known, name)
        assert (read.vocab_size, read.max_position_embeddings) == (128256, 131072)


def test_defaults_of_a_configuration(tmp_path: Path) -> None:
    model = load_model(config(tmp_path, num_key_value_heads=None))
    assert model.num_key_value_heads == 32 and model.head_dim == 128
    model = load_model(config(tmp_path, model_type="qwen2", tie_word_embeddings=None, sliding_window=4096))
    assert model.attention_bias and not model.tie_word_embeddings and model.sliding_window is None
    model = load_model(config(tmp_path, sliding_window=4096, use_sliding_window=False))
    assert model.sliding_window is None
    model = load_model(config(tmp_path, model_type="gemma2", tie_word_embeddings=None, head_dim=256))
    assert model.tie_word_embeddings and model.gated_mlp and model.head_dim == 256
    model = load_model(config(tmp_path, model_type="a_new_one"))
    assert model.gated_mlp


def test_gpt_names(tmp_path: Path) -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "n_inner": None}
    (tmp_path / "config.json").write_text(json.dumps(gpt2 | {"vocab_size": 50257}))
    model = load_model(tmp_path)
    assert (model.num_layers, model.hidden_size, model.head_dim, model.intermediate_size) == (12, 768, 64, 3072)
    assert not model.gated_mlp and model.tie_word_embeddings and model.max_position_embeddings == 1024


def test_the_first_qwen_counts_gate_and_up_together(tmp_path: Path) -> None:
    qwen = {"model_type": "qwen", "intermediate_size": 49152, "hidden_size": 8192, "num_attention_heads": 64}
    changed = qwen | {"num_hidden_layers": 80, "num_key_value_heads": None, "vocab_size": 152064}
    read, known = load_model(config(tmp_path, **changed)), load_model("Qwen-72B")
    assert (read.intermediate_size, read.attention_bias) == (known.intermediate_size, known.attention_bias)


def test_phi_is_parallel_and_plain(tmp_path: Path) -> None:
    model = load_model(config(tmp_path, model_type="phi", hidden_act="gelu_new"))
    assert (model.gated_mlp, model.post_attention_norm, model.attention_bias) == (False, False, True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"num_experts": 128},
            r"num_experts_per_tok: None is not a positive integer \(e\.g\. 8\), and experts need it",
        ),
        (MOE | {"num_experts_per_tok": [4, 8]}, r"num_experts_per_tok: \[4, 8\] is not a positive integer"),
        (MOE | {"moe_intermediate_size": -1}, r"moe_intermediate_size: -1 is not a positive integer"),
        (MOE | {"mlp_only_layers": 3}, r"mlp_only_layers: 3 is not a list of whole numbers"),
        (MOE | {"first_k_dense_replace": "x"}, r"first_k_dense_replace: 'x' is not a whole number"),
        (MOE | {"n_shared_experts": {}}, r"n_shared_experts: \{\} is not a positive integer"),
        (MOE | {"shared_expert_intermediate_size": "x"}, r"shared_expert_intermediate_size: 'x' is not a whole number"),
        ({"attn_layer_indices": 3}, r"attn_layer_indices: 3 is not a list of whole numbers"),
        (MOE | {"decoder_sparse_step": 0}, r"decoder_sparse_step: 0 is not a positive integer"),
        ({"kv_lora_rank": 512}, r"qk_nope_head_dim: None is not a positive integer"),
        ({"is_encoder_decoder": True}, r"is_encoder_decoder: True describes an encoder-decoder"),
        ({"model_type": "siglip2"}, r"model_type: 'siglip2' describes encoders of text and images"),
        ({"model_type": "rwkv"}, r"model_type: 'rwkv' describes a recurrent network"),
        ({"text_config": {"hidden_size": 1}}, r"text_config\.hidden_size: 1 is not a multiple of the 32"),
        ({"text_config": {"hidden_size": "x"}}, r"text_config\.hidden_size: 'x' is not a positive integer"),
        ({"text_config": {"layer_types": 5}}, r"text_config: layer_types: 5 is not a list"),
        ({"quantization_config": {"quant_method": "exl2"}}, r"quant_method: 'exl2' is not a scheme that is known"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, r"quant_method: 'gptq 3 bits' is not a scheme"),
        ({"quantization_config": "fp8"}, r"quantization_config: 'fp8' is not an object"),
        ({"layer_types": ["full_attention"]}, r"layer_types: .* has 1 entries, and the model has 32 layers"),
        ({"layer_types": ["hyena"] * 32}, r"layer_types: 'hyena' is not a kind of layer that is known"),
        ({"hybrid_override_pattern": "M-X"}, r"hybrid_override_pattern: 'X' is none of M, \*, - and E"),
        ({"block_configs": [{}]}, r"block_configs: .* is not a list of objects with attention and ffn"),
        ({"num_hidden_layers": None}, r"num_hidden_layers: missing"),
        ({"num_hidden_layers": 5000}, r"num_hidden_layers: 5000 is more than 4096 layers"),
        ({"model_type": "gpt_neo", "window_size": 9, "attention_types": [1]}, r"attention_types: \[1\] is not a list"),
        ({"hidden_size": None}, r"hidden_size: missing"),
        ({"intermediate_size": None}, r"intermediate_size: missing"),
        ({"vocab_size": None}, r"vocab_size: missing"),
        ({"max_position_embeddings": None}, r"max_position_embeddings: missing"),
        ({"model_type": None, "hidden_act": None}, r"model_type: missing"),
        ({"hidden_size": "4096"}, r"hidden_size: '4096' is not a positive integer"),
        ({"num_hidden_layers": -1}, r"num_hidden_layers: -1 is not a positive integer"),
        ({"num_hidden_layers": True}, r"num_hidden_layers: True is not a positive integer"),
        ({"num_attention_heads": 33, "num_key_value_heads": None}, r"hidden_size: 4096 is not a multiple of the 33"),
        ({"num_key_value_heads": 7}, r"num_key_value_heads: 7 does not divide the 32"),
    ],
)
def test_configurations_that_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        load_model(config(tmp_path, **changes))


@pytest.mark.parametrize(
    ("given", "precision"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8_block"),
        ({"quant_method": "awq", "bits": 4}, "int4_wo"),
        ({"quant_method": "gptq", "bits": 8}, "int8_wo"),
        ({"quant_algo": "NVFP4"}, "nvfp4"),
        (weights(num_bits=8, type="float", strategy="tensor"), "fp8_wo"),
        (weights(num_bits=8, type="float", strategy="block"), "fp8_block"),
        (weights(num_bits=4, type="int"), "int4_wo"),
        (weights(num_bits=4, type="float"), "nvfp4_wo"),
    ],
)
def test_quantised_weights(tmp_path: Path, given: dict[str, Any], precision: str) -> None:
    found = load_model(config(tmp_path, quantization_config=given)).quantization
    assert found is not None and (found.name, found.of("attn_pre_proj", 3).name) == (precision, precision)


def test_quantised_weights_beside_the_configuration(tmp_path: Path) -> None:
    beside = tmp_path / "hf_quant_config.json"
    beside.write_text(json.dumps({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}))
    found = load_model(config(tmp_path)).quantization
    assert found is not None and found.name == "fp8"
    beside.write_text("{}")
    with pytest.raises(CatalogError, match=r"hf_quant_config\.json: quantization: missing"):
        load_model(config(tmp_path))
    mixed = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
    layers = {"model.layers.0.mlp.down_proj": {"quant_algo": "FP8"}}
    beside.write_text(json.dumps({"quantization": mixed | {"quantized_layers": layers}}))
    found = load_model(config(tmp_path, quantization_config=mixed)).quantization
    assert found is not None and [found.of("mlp_down_proj", layer).name for layer in (0, 1)] == ["fp8", "bf16"]
    beside.unlink()
    with pytest.raises(CatalogError, match=r"quant_method: 'modelopt MIXED_PRECISION' is not a scheme"):
        load_model(config(tmp_path, quantization_config=mixed))
    files = {
        "quantize_config.json": {"bits": 4, "group_size": 32},
        "quant_config.json": {"w_bit": 4, "q_group_size": 128},
    }
    for name, given in files.items():
        (tmp_path / name).write_text(json.dumps(given))
        found = load_model(config(tmp_path)).quantization
        group = given.get("group_size", given.get("q_group_size", 0))
        assert found is not None and found.of("mlp_up_proj").bits == 4 + 20 / group
        (tmp_path / name).write_text(json.dumps(given | {"bits": 3}))
        with pytest.raises(CatalogError, match=rf"/{name}: quant_method: '.* 3 bits' is not a scheme"):
            load_model(config(tmp_path))
        (tmp_path / name).unlink()


def test_mixtures_of_experts_and_latent_attention(tmp_path: Path) -> None:
    model = load_model(config(tmp_path, **MOE, decoder_sparse_step=2, mlp_only_layers=[0, 1, 2]))
    assert (model.num_experts, model.num_experts_per_tok, model.moe_intermediate_size) == (64, 4, 512)
    assert [layer for layer in range(8) if model.has_experts(layer)] == [3, 5, 7] and model.qk_norm
    model = load_model(config(tmp_path, **MOE, mlp_only_layers=[1, 30]))
    assert [layer for layer in range(32) if not model.has_experts(layer)] == [1, 30]
    latent = {"kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32, "v_head_dim": 48}
    shared = {"n_routed_experts": 16, "n_shared_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
    more = {"model_type": "deepseek_v3", "first_k_dense_replace": 3, "q_lora_rank": None}
    model = load_model(config(tmp_path, **latent, **shared, **more))
    assert (model.head_dim, model.q_lora_rank, model.kv_lora_rank, model.v_head_dim) == (96, 0, 256, 48)
    assert model.shared_expert_intermediate_size == 256 and not model.has_experts(2) and model.has_experts(3)


def windows(model: Model) -> list[int | None]:
    return [model.window(layer) for layer in range(model.num_layers)]


def test_layers_without_a_window(tmp_path: Path) -> None:
    windowed = {"sliding_window": 128, "num_hidden_layers": 4, "head_dim": 64}
    types = ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"]
    assert windows(load_model(config(tmp_path, **windowed, layer_types=types))) == [128, None, 128, 128]
    gemma = load_model(config(tmp_path, **windowed, model_type="gemma2"))
    assert windows(gemma) == [128, None, 128, None] and gemma.sandwich_norm
    assert windows(load_model(config(tmp_path, **windowed))) == [128] * 4
    qwen = config(tmp_path, **windowed, model_type="qwen2", max_window_layers=3, use_sliding_window=True)
    assert windows(load_model(qwen)) == [None, None, None, 128]


@pytest.mark.parametrize("name", ["Llama-3.1-8B", "Llama-3.1-70B", "Llama-3.1-405B", "Qwen3-8B", "Qwen3-32B", *EXPERTS])
def test_shapes_equal_the_copies_in_aiconfigurator(name: str) -> None:
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("aiconfigurator-core is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model_configs"
    copy = next(folder.glob(f"*--*{name}_config.json"))
    assert replace(load_model(copy), name="", source="") == replace(load_model(name), name="", source="")


def test_one_expert_and_null_ranks_are_dense(tmp_path: Path) -> None:
    assert load_model(config(tmp_path, num_local_experts=1, is_encoder_decoder=False)).num_layers == 32


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        load_model(tmp_path / "missing.json")
    with pytest.raises(ConfigError, match="no such file"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00PAR1")
    with pytest.raises(ConfigError, match="not a text file"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config.json:1: not valid JSON"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ConfigError, match="not a mapping"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text('{"vocab_size": 1, "vocab_size": 2}')
    with pytest.raises(ConfigError, match="vocab_size: given twice"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_model(tmp_path)
