"""Models of many families, read from the fields of their config.json; the right values are public facts."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import published
import pytest

from fastsim.catalog.load import _entries, load_device, load_model, names
from fastsim.catalog.model import Model
from fastsim.deployment.description import Deployment
from fastsim.deployment.memory.modules import modules
from fastsim.deployment.memory.sizes import rope_bytes
from fastsim.deployment.operators.decoder import operators
from fastsim.deployment.operators.kinds import Recurrence
from fastsim.deployment.operators.parameters import parameters
from fastsim.deployment.resolve import resolve
from fastsim.errors import CatalogError, ConfigError
from fastsim.predictors.build import known_of, operator_times
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.recurrence import OUTSIDE, prefill_formula
from fastsim.predictors.times.shapes import expert_rows

ALL = published.OLDER | published.EXPERTS | published.HYBRIDS | published.NESTED
SPARSE = {"model_type": "deepseek_v32", "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_nope_head_dim": 128}
SPARSE |= {"qk_rope_head_dim": 64, "v_head_dim": 128, "index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}
SPARSE |= published.sizes(7168, 18432, 61, 128, 128, 129280, 163840) | published.SILU


def read(folder: Path, fields: dict[str, Any]) -> Model:
    (folder / "config.json").write_text(json.dumps({key: value for key, value in fields.items() if value is not None}))
    return load_model(folder)


def named(folder: Path, name: str, **changes: Any) -> Model:
    return read(folder, ALL[name][1] | changes)


@pytest.mark.parametrize("name", ALL)
def test_shapes_give_the_published_number_of_parameters(name: str, tmp_path: Path) -> None:
    model = named(tmp_path, name)
    assert parameters(model).total / 1e9 == pytest.approx(ALL[name][0], rel=5e-3)
    assert sum(module.parameters for module in modules(model)) == parameters(model).total


@pytest.mark.parametrize(
    ("name", "kv_heads", "tied", "gated", "norms"),
    [
        ("falcon-7b", 1, True, False, 1),
        ("falcon-40b", 8, True, False, 1),  # its multi_query does not count in the new decoder architecture
        ("bloom-7b1", 32, True, False, 2),
        ("codegen-6b", 16, False, False, 1),
        ("glm-4-9b", 2, False, True, 2),
        ("minitron-8b", 8, False, False, 2),
        ("starcoder", 1, True, False, 2),
        ("command-r7b", 8, True, True, 1),
        ("exaone-4-32b", 8, False, True, 2),
        ("dbrx", 8, False, True, 2),
    ],
)
def test_heads_head_and_norms(name: str, kv_heads: int, tied: bool, gated: bool, norms: int, tmp_path: Path) -> None:
    model = named(tmp_path, name)
    assert (model.num_key_value_heads, model.tie_word_embeddings, model.gated_mlp) == (kv_heads, tied, gated)
    assert model.post_attention_norm == (norms == 2) and not model.refused and not model.notes


@pytest.mark.parametrize(
    ("name", "full", "window"),
    [
        ("command-r7b", range(3, 32, 4), 4096),
        ("exaone-4-32b", range(3, 64, 4), 4096),
        ("gemma-3-27b-text", range(5, 62, 6), 1024),
        ("gpt-neo-2.7b", range(0, 32, 2), 256),
        ("gpt-oss-20b", range(1, 24, 2), 128),
        ("llama-4-scout-text", range(3, 48, 4), 8192),
        ("step-3.5-flash", range(0, 45, 4), 512),
    ],
)
def test_windows(name: str, full: range, window: int, tmp_path: Path) -> None:
    model = named(tmp_path, name)
    assert [layer for layer in range(model.num_layers) if model.window(layer) is None] == list(full)
    assert {model.window(layer) for layer in range(model.num_layers)} == {None, window}
    assert model.num_full_attention_layers == len(full)
    counts = {attention.window: attention.count for attention in operators(model, 1).attentions}
    assert counts == {None: len(full), window: model.num_layers - len(full)}


def test_other_spellings_of_windows(tmp_path: Path) -> None:
    plain = published.sizes(1024, 4096, 8, 8, 8, 32000, 8192) | {"model_type": "new", "sliding_window": 64}

    def full(**fields: Any) -> list[int]:
        model = read(tmp_path, plain | published.SILU | fields)
        return [layer for layer in range(8) if model.window(layer) is None]

    assert full() == []
    assert full(layer_switch=4) == full(sliding_window_pattern="LLLG") == full(global_attn_every_n_layers=4) == [3, 7]
    assert full(hybrid_layer_pattern=[0, 1, 1, 1, 0, 1, 1, 1]) == full(global_attn_idx=[0, 4]) == [0, 4]
    assert full(swa_layers=[1, 2, 3]) == [0, 4, 5, 6, 7] and full(max_window_layers=6) == list(range(6))
    assert full(use_sliding_window=False) == full(sliding_window=None) == list(range(8))
    chunks = {"sliding_window": None, "attention_chunk_size": 16}
    assert full(**chunks) == [3, 7] and full(**chunks, no_rope_layers=[1, 0] * 4) == [1, 3, 5, 7]


@pytest.mark.parametrize(
    ("fields", "routed"),
    [
        ({}, range(8)),
        ({"first_k_dense_replace": 2}, range(2, 8)),
        ({"first_k_dense_replace": 2, "moe_layer_freq": 2}, range(2, 8, 2)),
        ({"moe_layer_freq": [0, 1, 0, 1, 1, 1, 1, 1]}, (1, 3, 4, 5, 6, 7)),
        ({"decoder_sparse_step": 2}, range(1, 8, 2)),
        ({"interleave_moe_layer_step": 2}, range(1, 8, 2)),
        ({"moe_layers": [1, 2]}, (1, 2)),
        ({"moe_layers_enum": "4, 5"}, (4, 5)),
        ({"moe_layer_start_index": 3, "moe_layer_end_index": 6, "moe_layer_interval": 1}, range(3, 7)),
        ({"mlp_only_layers": [1, 6]}, (0, 2, 3, 4, 5, 7)),
        ({"mlp_layer_types": [*["dense"] * 3, *["sparse"] * 5]}, range(3, 8)),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, range(1, 8, 2)),
        ({"num_dense_layers": 1}, range(1, 8)),
    ],
)
def test_layers_with_experts(fields: dict[str, Any], routed: Any, tmp_path: Path) -> None:
    plain = published.sizes(1024, 4096, 8, 8, 8, 32000, 8192) | published.SILU | {"model_type": "new"}
    moe = {"num_experts": 16, "num_experts_per_tok": 2, "moe_intermediate_size": 512}
    model = read(tmp_path, plain | moe | fields)
    assert [layer for layer in range(8) if model.has_experts(layer)] == list(routed)
    assert "model_type 'new' is not known" in model.notes[0]


def test_shared_experts_of_any_spelling(tmp_path: Path) -> None:
    fields = published.EXPERTS["glm-4.5-air"][1] | {"n_shared_experts": None}

    def width(**spelt: Any) -> int:
        return read(tmp_path, fields | spelt).shared_expert_intermediate_size

    assert width() == width(shared_expert_intermediate_size=0) == 0
    assert width(n_shared_experts=2) == width(num_shared_experts=2) == width(num_shared_expert=[2, 2]) == 2816
    assert width(moe_num_shared_experts=2) == width(shared_intermediate_size=2816) == width(share_expert_dim=2816)
    assert width(num_shared_experts=2, moe_shared_expert_intermediate_size=100) == 200


@pytest.mark.parametrize(
    ("name", "mixers", "state_mib"),
    [
        ("qwen3-next-80b-a3b", {"attention": 12, "linear": 36}, 37.7),
        ("kimi-linear-48b-a3b", {"attention": 7, "linear": 20}, 41.4),
        ("nemotron-3-nano-30b-a3b", {"attention": 6, "linear": 23, "none": 23}, 46.8),
        ("granite-4-h-small", {"attention": 4, "linear": 36}, 73.7),
        ("jamba-v0.1", {"attention": 4, "linear": 28}, 15.3),
        ("falcon-h1-7b", {"attention": 44}, 66.9),
        ("minimax-text-01", {"attention": 10, "linear": 70}, 280.0),
        ("lfm2-8b-a1b", {"attention": 6, "linear": 18}, 0.14),
    ],
)
def test_hybrids_keep_a_state_in_place_of_a_kv_cache(
    name: str, mixers: dict[str, int], state_mib: float, tmp_path: Path
) -> None:
    model = named(tmp_path, name)
    assert Counter(model.mixer(layer) for layer in range(model.num_layers)) == mixers and not model.refused
    ops, halves = operators(model, 1), operators(model, 2)
    assert sum(attention.count for attention in ops.attentions) == mixers["attention"]
    assert ops.state_bytes_per_sequence() / 2**20 == pytest.approx(state_mib, rel=0.01)
    assert halves.state_bytes_per_sequence() * 2 == ops.state_bytes_per_sequence()


def test_a_stage_of_a_hybrid_without_attention_bounds_no_kv_blocks(tmp_path: Path) -> None:
    named(tmp_path, "nemotron-3-nano-30b-a3b")
    cut = (4, 48)  # the first layer with attention is the sixth
    one = resolve(Deployment(model=str(tmp_path), device="h200", pipeline_parallel_size=2, pipeline_layers=cut))
    assert one.memory.block_bytes == 16 * 6 * 2 * 2 * 2 * 128


@pytest.mark.parametrize(
    ("heads", "tokens", "measured"),
    [(16, 128, 0.0461), (16, 8192, 0.5548), (16, 32768, 2.1754), (64, 1024, 0.1824), (64, 32768, 5.5561)],
)
def test_prefills_of_gated_delta_nets_lie_in_their_interval(heads: int, tokens: int, measured: float) -> None:
    """The times, ms, are those of SGLang 0.5.14 on an H100 in the tables of aiconfigurator-core 0.12.0."""
    state = Recurrence(heads * 128 * 128, 4, 0, 512 * heads)
    predicted = prefill_formula(state, np.array([float(tokens)]), load_device("h100").bandwidth_gb_s)[0]
    assert measured / OUTSIDE < predicted < measured * OUTSIDE


def test_hybrids_are_timed_by_a_roofline_outside_of_what_was_measured(tmp_path: Path) -> None:
    named(tmp_path, "qwen3-next-80b-a3b")
    one = resolve(Deployment(model=str(tmp_path), device="h200", tensor_parallel_size=2, max_model_len=4096))
    parts = operator_times(one)[0].parts
    decode, prefill = parts["linear_decode"], parts["linear_prefill"]
    assert (decode[:, 0] == decode[:, -1]).all() and (prefill[0] == prefill[-1]).all()  # the context does not matter
    assert (decode[1:] > 0).all() and decode[64, 0] > decode[1, 0]
    known = known_of(one, Iteration(((512, 0),), ((16, 1000),)))
    assert known["linear_decode"].how == known["linear_prefill"].how == "outside"
    moved = 2 * 16 * operators(one.model, 2).state_bytes_per_sequence() / 36
    assert known["linear_decode"].bytes_moved == pytest.approx(moved, rel=0.02)  # and the tokens


@pytest.mark.parametrize("name", published.NESTED)
def test_nested_decoders_say_what_is_not_simulated(name: str, tmp_path: Path) -> None:
    model = named(tmp_path, name)
    assert model.tower_parameters > 3e8
    (note,) = model.notes
    assert note.startswith("its vision encoder is not simulated, and about 0.") and "vision_config" in note
    one = resolve(Deployment(model=str(tmp_path), device="h200", max_model_len=2048))
    assert one.memory.weights_gib * 2**30 == pytest.approx(2 * parameters(model).total + rope_bytes(model), rel=1e-3)
    assert any(note in warning for warning in one.warnings)


def test_decoders_of_several_levels_and_towers_without_sizes(tmp_path: Path) -> None:
    inner = published.NESTED["mistral-small-3.1-24b"][1]["text_config"]
    fields = {"model_type": "a", "thinker_config": {"text_config": inner, "audio_config": {"dropout": 0.1}}}
    model = read(tmp_path, fields)
    assert (model.num_layers, model.tower_parameters) == (40, 0)
    assert model.notes == (
        "its audio encoder is not simulated, and its weights are not counted, as thinker_config.audio_config does not "
        "state its sizes",
    )
    heads = r"thinker_config\.text_config\.num_attention_heads: -1 is not a positive integer"
    with pytest.raises(CatalogError, match=heads):
        read(tmp_path, {"thinker_config": {"text_config": inner | {"num_attention_heads": -1}}})


def test_towers_that_are_only_named_are_said_so(tmp_path: Path) -> None:
    fields = published.sizes(1024, 4096, 8, 8, 8, 32000, 8192) | published.SILU | {"model_type": "llama"}
    assert read(tmp_path, fields | {"mm_vision_tower": "x/y"}).notes == (
        "its vision encoder is not simulated, and not counted, as mm_vision_tower names it only",
    )
    model = read(tmp_path, fields | {"img_processor": {"name": "clip"}})
    assert "not counted, as img_processor does not state its sizes" in model.notes[0]


def test_a_window_of_null_is_none(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    fields = published.OLDER["gemma-3-27b-text"][1] | {"sliding_window": None}
    file.write_text(json.dumps(fields))
    assert load_model(file).sliding_window is None
    file.write_text(json.dumps({"model_type": "gemma3", "text_config": fields}))
    assert load_model(file).sliding_window is None


def test_layers_found_by_search_have_their_own_widths(tmp_path: Path) -> None:
    attention, none = {"n_heads_in_group": 8, "no_op": False}, {"n_heads_in_group": None, "no_op": True}
    blocks = [
        {"attention": attention, "ffn": {"ffn_mult": 5.25}},
        {"attention": none, "ffn": {"ffn_mult": 1.3125}},
        {"attention": attention, "ffn": {"no_op": True}},
    ]
    fields = published.sizes(8192, 1, 3, 64, 8, 128256, 131072) | published.SILU
    fields |= {"model_type": "nemotron-nas", "intermediate_size": None, "num_key_value_heads": None}
    model = read(tmp_path, fields | {"block_configs": blocks})
    assert model.num_key_value_heads == 8 and [model.has_mlp(layer) for layer in range(3)] == [True, True, False]
    ups = [(gemm.name, gemm.n, gemm.count) for gemm in operators(model, 1).gemms if "up" in gemm.name]
    assert ups == [("mlp_up_proj", 2 * 28672, 1), ("mlp_up_proj_2", 2 * 7168, 1)]
    assert operators(model, 1).attention.count == 2 and operators(model, 2).num_all_reduces == 4


def test_layers_with_heads_of_their_own(tmp_path: Path) -> None:
    fields = published.sizes(4096, 16384, 6, 64, 4, 152576, 262144) | published.SILU
    fields |= {"model_type": "mimo_v2_flash", "head_dim": 192, "v_head_dim": 128, "sliding_window": 128}
    fields |= {"hybrid_layer_pattern": [0, 1, 1, 1, 1, 1], "swa_num_key_value_heads": 8}
    full, windowed = operators(read(tmp_path, fields), 1).attentions
    assert (full.kv_heads, windowed.kv_heads, windowed.window) == (4, 8, 128)
    assert full.kv_bytes_per_token() == 2 * 4 * (192 + 128) == windowed.kv_bytes_per_token() // 2
    fields = published.sizes(5376, 21504, 6, 32, 16, 262144, 262144) | {"model_type": "gemma4_text", "head_dim": 256}
    fields |= {"global_head_dim": 512, "num_global_key_value_heads": 4, "attention_k_eq_v": True}
    pre = [gemm.n for gemm in operators(read(tmp_path, fields), 1).gemms if gemm.name.startswith("attn_pre_proj")]
    assert pre == [(32 + 2 * 16) * 256, (32 + 4) * 512]  # keys serve as values where attention is full


def test_sizes_of_each_layer_where_a_list_states_them(tmp_path: Path) -> None:
    fields = published.sizes(1024, 4096, 4, 8, 8, 32000, 8192) | published.SILU | {"model_type": "llama"}
    model = read(
        tmp_path, fields | {"num_key_value_heads_per_layer": [4, 2, 2, 1], "intermediate_size": [8, 8, 16, 16]}
    )
    assert [model.heads(layer).kv for layer in range(4)] == [4, 2, 2, 1]
    ops = operators(model, 1)
    assert {one.name: (one.kv_heads, one.count) for one in ops.attentions} == {
        "attn": (4, 1),
        "attn_2": (2, 2),
        "attn_3": (1, 1),
    }
    assert [(gemm.n, gemm.count) for gemm in ops.gemms if gemm.name.startswith("mlp_up")] == [(16, 2), (32, 2)]
    with pytest.raises(CatalogError, match=r"num_key_value_heads_per_layer: .* has no divisor of 8 for layer 1"):
        read(tmp_path, fields | {"num_key_value_heads_per_layer": [4, 3, 2, 1]})
    with pytest.raises(CatalogError, match=r"layer_types: .* has layers whose shapes no field states"):
        read(tmp_path, fields | {"layer_types": ["mamba"] * 3 + ["attention"]})


def test_embeddings_of_each_layer_are_counted(tmp_path: Path) -> None:
    fields = published.sizes(2048, 16384, 35, 8, 2, 262400, 32768) | {"model_type": "gemma3n_text"}
    own = {"hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144}
    plain = read(tmp_path, fields)
    model = read(tmp_path, fields | own | {"num_kv_shared_layers": 15, "altup_num_inputs": 4})
    assert model.layer_embeddings == 35 * 256 * (262144 + 3 * 2048)
    assert parameters(model).total - parameters(plain).total == model.layer_embeddings
    assert "has alternating updates (AltUp)" in model.refused
    ops = operators(model, 1)  # the last 15 layers read the KV caches of others
    assert ops.kv_bytes_per_token() == 20 * 2 * 2 * 2 * 256
    assert sum(one.count for one in ops.attentions if one.shares_kv) == 15
    assert sum(one.count for one in ops.attentions) == 35
    one = resolve(Deployment(model=str(tmp_path), device="h200", max_model_len=4096))
    assert one.memory.num_blocks > 0


def test_sparse_attention_has_its_memory_answered_and_its_times_refused(tmp_path: Path) -> None:
    model = read(tmp_path, SPARSE)
    assert operators(model, 8).kv_bytes_per_token() == 61 * (2 * 576 + 132)  # of the indexer 128 in fp8 and a scale
    # vLLM's fp8_ds_mla: 512 in fp8 with four float32 scales, and the rope's 64 in 16 bits.
    assert operators(model, 8, kv_precision="fp8").kv_bytes_per_token() == 61 * (656 + 132)
    shared = read(tmp_path, SPARSE | {"indexer_types": [*["full"] * 31, *["shared"] * 30]})
    assert operators(shared, 8).kv_bytes_per_token() == 61 * 2 * 576 + 31 * 132
    one = resolve(Deployment(model=str(tmp_path), device="h200", tensor_parallel_size=8, max_model_len=4096))
    assert one.memory.num_blocks > 0
    with pytest.raises(CatalogError, match=r"has sparse attention \(index_topk 2048\), whose times are not known"):
        operator_times(one)


def test_state_space_models_have_their_memory_answered(tmp_path: Path) -> None:
    model = named(tmp_path, "mamba-2.8b")
    assert model.refused == "is a state-space model without attention" and model.layer(0).mlp == "none"
    assert operators(model, 1).kv_bytes_per_token() == 0
    assert operators(model, 1).state_bytes_per_sequence() == 64 * 5120 * (16 * 4 + 3 * 2)
    with pytest.raises(ConfigError, match="is a state-space model without attention, and has no KV cache"):
        resolve(Deployment(model=str(tmp_path), device="h200"))


def test_encoders_have_their_weights_answered(tmp_path: Path) -> None:
    fields = published.sizes(768, 3072, 12, 12, 12, 30522, 512) | {"model_type": "bert", "type_vocab_size": 2}
    model = read(tmp_path, fields | {"architectures": ["BertForMaskedLM"], "hidden_act": "gelu"})
    assert model.refused == "is an encoder, which generates no tokens" and not model.generates
    assert parameters(model).total / 1e6 == pytest.approx(109.5, rel=0.01)
    with pytest.raises(ConfigError, match="is an encoder, which generates no tokens, and has no KV cache"):
        resolve(Deployment(model=str(tmp_path), device="h200"))


def test_experts_without_a_gate_take_two_thirds_of_the_work(tmp_path: Path) -> None:
    (experts,) = operators(named(tmp_path, "nemotron-3-nano-30b-a3b"), 1).all_experts
    assert experts.projections == 2 and experts.weights() == 2 * 2688 * 1856 * 128
    rows = expert_rows(experts, np.array([64.0]))
    assert rows.tolist() == [[64, 2688, 1237, 128, 6, 1, 1]]


def test_a_model_is_printed_with_what_its_layers_consist_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from fastsim.cli import run

    named(tmp_path, "nemotron-3-nano-30b-a3b")
    assert run(["catalog", "model", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "31.58 billion parameters, 58.82 GiB (3.58 billion active)" in printed
    assert "KV cache in bf16, 6,144 bytes a token; 49,082,368 bytes of state a sequence" in printed
    assert "Layers 5, 12, 19, 26, 33, 42: full attention with 32 heads and 2 KV heads\n" in printed
    assert ": Mamba-2\n" in printed and ": 128 experts, 6 for a token\n" in printed
    read(tmp_path, SPARSE)
    assert run(["catalog", "model", str(tmp_path)]) == 0
    assert "as it has sparse attention (index_topk 2048)" in capsys.readouterr().err


def test_an_unknown_class_is_read_by_its_fields_and_said_so(tmp_path: Path) -> None:
    fields = published.sizes(1024, 4096, 8, 8, 8, 32000, 8192) | {"model_type": "new", "hidden_act": "gelu"}
    model = read(tmp_path, fields)
    assert not model.gated_mlp and not model.tie_word_embeddings
    assert model.notes == (
        "its model_type 'new' is not known, so that its shapes are those that its fields describe (its activation is "
        "gelu), and its LM head is taken to have weights of its own",
    )
    assert read(tmp_path, fields | {"hidden_act": "swiglu"}).gated_mlp


def test_every_model_of_the_catalog_has_its_published_size() -> None:
    values = _entries("models")
    further = [name for name in values if "config" in values[name]]
    assert len(names("models")) >= 100 and len(further) >= 60
    for name in further:
        model = load_model(name)
        assert parameters(model).total / 1e9 == pytest.approx(values[name]["billions"], rel=5e-3), name
        assert not any("is not known" in note for note in model.notes) and model.source.startswith("huggingface.co/")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("Llama-3.3-70B", "meta-llama/Llama-3.3-70B-Instruct"),
        ("meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-1B"),
        ("google/gemma-2-9b-it", "google/gemma-2-9b"),
        ("mistralai/Mixtral-8x22B-Instruct-v0.1", "mistralai/Mixtral-8x22B-v0.1"),
        ("deepseek-ai/DeepSeek-V3-Base", "deepseek-ai/DeepSeek-V3"),
        ("qwen2.5-coder-32b-instruct", "Qwen/Qwen2.5-Coder-32B"),
    ],
)
def test_names_are_found_without_the_words_that_say_how_a_model_was_trained(asked: str, name: str) -> None:
    assert load_model(asked).name == name
