"""Reads the shapes of a decoder from a Hugging Face config.json.

Layers, experts and heads are read from the fields that describe them, whatever the model is called; what a class of
transformers adds to them is in ``class_defaults``. A model_type that is not known is read by its fields alone, and
Model.notes says so.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from fastsim.catalog import sampling
from fastsim.catalog.attention import attention
from fastsim.catalog.checkpoint import checkpoint
from fastsim.catalog.class_defaults import CLASS_DEFAULTS, CLASS_SIZES
from fastsim.catalog.config_fields import ConfigFile, check, read
from fastsim.catalog.experts import DENSE_WIDTH, Experts, experts
from fastsim.catalog.fields import Fields
from fastsim.catalog.layer_kinds import count, layers
from fastsim.catalog.layer_mixers import mixers
from fastsim.catalog.linear import linear
from fastsim.catalog.model import Layer, Model
from fastsim.catalog.refusals import generates, refuse_unreadable, untimed
from fastsim.catalog.towers import decoder, towers
from fastsim.errors import CatalogError
from fastsim.files.documents import Document, short

HIDDEN = ("hidden_size", "n_embd", "n_embed", "d_model", "model_dim")
WIDTH = (
    *("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "ff_intermediate_size"),
    *("block_ff_dim", "shared_intermediate_size"),
)
VOCABULARY = ("padded_vocab_size", "vocab_size")
POSITIONS = ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len", "n_ctx", "model_max_length")
ACTIVATION = ("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", "activation")
BIAS = ("attention_bias", "qkv_bias", "add_qkv_bias", "use_qkv_bias")
UNBOUNDED = 2**20  # tokens of a model without attention, which has no bound
QK_NORM = ("qk_layernorm", "use_qk_norm", "qk_norm")


def read_config(path: Path) -> Model:
    """Read the model from a config.json, or from the folder that holds one. Its name is ``path`` as given.

    A generation_config.json beside it says how tokens are drawn.

    Raises CatalogError when a field is missing or impossible, or describes no decoder; ConfigError when the file
    cannot be read. A decoder whose times are not known is read, and Model.refused says why.
    """
    file = path / "config.json" if path.is_dir() else path
    model = read_fields(read(file, ConfigFile), file, str(path), str(file))
    return replace(model, asks_top_k_top_p=sampling.beside(file))


def read_fields(config: dict[str, Any], file: Path, name: str, source: str) -> Model:
    """The model that the fields of a config.json describe; errors call them fields of ``file``.

    Raises CatalogError as read_config does.
    """
    prefix, stated = decoder(config)
    if prefix:
        check(Document(stated, f"{file}: {prefix.rstrip('.')}"), ConfigFile)
    fields = _fields(file, config, prefix, stated)
    refuse_unreadable(fields)
    hidden, number = fields.required(*HIDDEN), count(fields)
    moe, notes = experts(fields, hidden), _unknown(fields)
    attends = "attention" in mixers(fields, number)
    attending = attention(fields, hidden, attends)
    kinds = layers(fields, number, attending.heads, hidden, moe.number > 0)
    gated = _gated(fields, moe)
    windows = [layer.window for layer in kinds if layer.window is not None]
    mixing = linear(fields, hidden) if any(one.mixer == "linear" or one.linear_beside for one in kinds) else None
    seen, about = towers(Fields(file, config, {}, "", fields.kind), hidden)
    quantization, kv_cache_dtype = checkpoint(file, stated, number, moe.number > 0)
    positions = fields.required(*POSITIONS) if attends else fields.size(*POSITIONS) or UNBOUNDED
    rows = fields.defaults.get("learned_positions")
    return Model(
        name=name,
        num_layers=number,
        hidden_size=hidden,
        num_attention_heads=attending.heads.query,
        num_key_value_heads=attending.heads.kv,
        head_dim=attending.heads.dim,
        intermediate_size=_width(fields, moe, gated, kinds, hidden),
        gated_mlp=gated,
        vocab_size=fields.required(*VOCABULARY),
        max_position_embeddings=positions,
        tie_word_embeddings=bool(fields.get("tie_word_embeddings", "tie_embedding")),
        qk_norm=_said(fields, *QK_NORM),
        attention_bias=_said(fields, *BIAS),
        post_attention_norm=not (fields.get("parallel") or _one_norm(fields)),
        sliding_window=windows[0] if windows else None,
        source=source,
        layers=_where_they_differ(kinds, moe),
        sandwich_norm=bool(fields.get("sandwich")),
        attention_gate=bool(fields.get("attn_output_gate", "attention_output_gate", "mla_use_output_gate")),
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        expert_bias=fields.kind == "gpt_oss",
        num_experts=moe.number,
        num_experts_per_tok=moe.per_token,
        moe_intermediate_size=moe.width,
        moe_hidden_size=moe.hidden,
        shared_expert_intermediate_size=moe.shared,
        o_lora_rank=fields.whole("o_lora_rank"),
        o_groups=fields.whole("o_groups"),
        generates=generates(fields),
        compressed_kv=bool(fields.get("compress_ratios")),
        linear=mixing,
        position_embeddings=0 if rows is None else positions + rows + fields.whole("type_vocab_size"),
        layer_embeddings=_layer_embeddings(fields, hidden, number),
        tower_parameters=seen,
        asks_top_k_top_p=False,
        notes=(*notes, *about),
        refused=untimed(fields, attends),
        **_heads(fields, attending.latent),
    )


def _fields(file: Path, config: dict[str, Any], prefix: str, stated: dict[str, Any]) -> Fields:
    """The fields of the decoder with the defaults of its class, and those of its sizes where it is a nested one."""
    kind = str(stated.get("model_type") or "").lower()
    if kind not in CLASS_DEFAULTS and f"{kind}_text" in CLASS_DEFAULTS:
        kind = f"{kind}_text"  # of a decoder that does not say its own
    if not kind and _activation(stated) is None:
        raise CatalogError(f"{file}: {prefix}model_type: missing; the config.json of a decoder needs it")
    defaults = CLASS_DEFAULTS.get(kind, {})
    if prefix:
        defaults = CLASS_SIZES.get(kind, {}) | defaults
    return Fields(file, stated, defaults, prefix, kind)


def _unknown(fields: Fields) -> list[str]:
    """A sentence where the class of the model is not known, which says what is assumed."""
    if fields.kind in CLASS_DEFAULTS:
        return []
    activation = _activation(fields.stated)
    mlp = "" if activation is None else f" (its activation is {activation})"
    tied = "tie_word_embeddings" in fields.stated
    head = "" if tied else ", and its LM head is taken to have weights of its own"
    named = short(fields.kind) if fields.kind else "missing"
    return [f"its model_type {named} is not known, so that its shapes are those that its fields describe{mlp}{head}"]


def _activation(stated: dict[str, Any] | Any) -> str | None:
    return next((stated[name] for name in ACTIVATION if isinstance(stated.get(name), str)), None)


def _gated(fields: Fields, moe: Experts) -> bool:
    """Whether MLP and experts have a gate projection: by the class of the model, else by its activation."""
    default = fields.defaults.get("gated")
    if default is not None:
        return bool(default)
    if fields.kind in CLASS_DEFAULTS:
        return True
    activation = (_activation(fields.stated) or "silu").lower()
    if "glu" in activation or activation == "gegelu":
        return True
    return not (activation.startswith(("relu", "xielu")) or ("gelu" in activation and not moe.number))


def _width(fields: Fields, moe: Experts, gated: bool, kinds: tuple[Layer, ...], hidden: int) -> int:
    """The width of a dense MLP. Raises CatalogError where neither a field nor the class says it."""
    width = max(layer.intermediate_size for layer in kinds)
    width = width or fields.optional(*DENSE_WIDTH) or fields.optional(*WIDTH) or moe.width
    if (
        not width and not gated and any(layer.mlp == "dense" for layer in kinds)
    ):  # the default of GPT-2's n_inner, of Falcon and of MPT
        ratio = fields.get("expansion_ratio")
        width = int((ratio if isinstance(ratio, int | float) and 0 < ratio < 100 else 4) * hidden)
    if not width and any(layer.mlp == "dense" for layer in kinds):
        return fields.required(*WIDTH)
    if fields.get("block_auto_adjust_ff_dim"):  # as in LFM2: two thirds, rounded up
        multiple = fields.optional("block_multiple_of") or 256
        width = -(-int(2 * width / 3) // multiple) * multiple
    # In the first generation of Qwen the field counts gate and up together.
    return width // 2 if fields.kind == "qwen" else width


def _layer_embeddings(fields: Fields, hidden: int, number: int) -> int:
    """Weights of the embeddings of each layer, of the projection to them, and of the two projections in each layer."""
    width = fields.whole("hidden_size_per_layer_input")
    return number * width * (fields.whole("vocab_size_per_layer_input") + 3 * hidden)


def _where_they_differ(kinds: tuple[Layer, ...], moe: Experts) -> tuple[Layer, ...]:
    """The layers, or nothing where Model's own fields say what each of them is."""
    plain = Layer("attention", kinds[0].window, "experts" if moe.number else "dense")
    return () if all(layer == plain for layer in kinds) else kinds


def _heads(fields: Fields, latent: dict[str, int]) -> dict[str, int]:
    if latent:
        return latent
    found = {"v_head_dim": fields.whole("v_head_dim")}
    return found | {"q_lora_rank": fields.whole("q_lora_rank")} if fields.get("o_lora_rank") else found


def _said(fields: Fields, *names: str) -> bool:
    """Whether a configuration states one of these, else what its class says."""
    own = "qk_norm" if "qk_norm" in names else "qkv_bias"
    stated = next((fields.stated[name] for name in names if fields.stated.get(name) is not None), None)
    return bool(fields.defaults.get(own) if stated is None else stated)


def _one_norm(fields: Fields) -> bool:
    """Whether Falcon's attention and MLP run in parallel."""
    return bool(fields.get("parallel_attn") or fields.get("new_decoder_architecture"))
