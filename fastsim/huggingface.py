"""The shapes of a dense decoder from a Hugging Face config.json.

The field names and what they mean when they are left out are those of transformers' configuration classes.
"""

from pathlib import Path
from typing import Any

from fastsim.catalog import Model
from fastsim.documents import parse_json, read_text
from fastsim.errors import CatalogError

# What model_type says and the configuration may leave unsaid.
GATED = {
    "llama",
    "mistral",
    "qwen",
    "qwen2",
    "qwen3",
    "internlm",
    "internlm2",
    "gemma",
    "gemma2",
    "gemma3_text",
}
GATED |= {"phi3", "cohere", "granite", "olmo", "olmo2", "baichuan", "exaone", "stablelm", "smollm3"}
PLAIN = {"phi", "opt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "starcoder2", "bloom", "mpt"}
PARALLEL = {"phi", "gptj", "cohere"}  # attention and MLP behind one norm
TIED = {"gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "mpt", "starcoder2", "cohere"}
TIED |= {"gemma", "gemma2", "gemma3_text"}
QK_NORM = {"qwen3", "gemma3_text", "olmo2"}
ATTENTION_BIAS = {"qwen", "qwen2", "phi", "opt", "gpt2", "gpt_neox", "gpt_bigcode", "starcoder2", "bloom"}
NAMES = {
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "num_attention_heads": ("num_attention_heads", "n_head", "n_heads", "num_heads"),
    "num_key_value_heads": ("num_key_value_heads", "n_head_kv"),
    "head_dim": ("head_dim",),
    "intermediate_size": ("intermediate_size", "ffn_dim", "n_inner"),
    "vocab_size": ("vocab_size",),
    "max_position_embeddings": (
        "max_position_embeddings",
        "n_positions",
        "seq_length",
        "max_seq_len",
        "n_ctx",
        "model_max_length",
    ),
}
# A field that is set to more than its harmless value, and what that means.
REFUSED = (
    ("is_encoder_decoder", 0, "an encoder-decoder"),
    ("num_experts", 1, "a mixture of experts"),
    ("num_local_experts", 1, "a mixture of experts"),
    ("n_routed_experts", 1, "a mixture of experts"),
    ("moe_num_experts", 1, "a mixture of experts"),
    ("kv_lora_rank", 0, "multi-head latent attention"),
    ("state_size", 0, "a state-space model"),
    ("mamba_d_state", 0, "a state-space model"),
    ("ssm_state_size", 0, "a state-space model"),
    ("text_config", 0, "a multimodal model"),
    ("quantization_config", 0, "quantised weights"),
)


def read_config(path: Path) -> Model:
    """The model of a config.json, or of the folder that holds one; its name is the path as given.

    KV heads default to the attention heads, head_dim to hidden_size / heads. Raises CatalogError when a field
    is missing or impossible, or the model is not a dense decoder in 16 bits; ConfigError when the file cannot
    be read.
    """
    file = path / "config.json" if path.is_dir() else path
    config = parse_json(read_text(file), str(file)).values
    kind = str(config.get("model_type", "")).lower()
    for field, harmless, meaning in REFUSED:
        value = config.get(field)
        if (isinstance(value, dict) and value) or (isinstance(value, int | float) and value > harmless):
            raise _fault(file, field, value, f"describes {meaning}; only dense decoders in bf16 can be simulated")
    quantised = file.with_name("hf_quant_config.json")
    if quantised.exists():
        raise CatalogError(f"{quantised}: describes quantised weights; only dense decoders in bf16 can be simulated")
    for layer in config.get("layer_types") or ():
        if layer not in ("full_attention", "sliding_attention"):
            raise _fault(file, "layer_types", layer, "is neither full_attention nor sliding_attention")
    sizes = {name: _size(file, config, name) for name in NAMES}
    hidden, heads = _required(file, sizes, "hidden_size"), _required(file, sizes, "num_attention_heads")
    head_dim = sizes["head_dim"]
    if head_dim is None:
        if hidden % heads:
            raise _fault(file, "hidden_size", hidden, f"is not a multiple of the {heads} attention heads")
        head_dim = hidden // heads
    if config.get("multi_query") is True:
        sizes["num_key_value_heads"] = 1
    kv_heads = sizes["num_key_value_heads"] or heads
    if heads % kv_heads:
        raise _fault(file, "num_key_value_heads", kv_heads, f"does not divide the {heads} attention heads")
    gated = _gated(file, config, kind)
    width = sizes["intermediate_size"]
    if width is None and not gated:
        width = 4 * hidden  # GPT-2's n_inner, when null
    if width is None:
        raise _missing(file, "intermediate_size")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    return Model(
        name=str(path),
        num_layers=_required(file, sizes, "num_layers"),
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        # Qwen's first generation counts gate and up together.
        intermediate_size=width // 2 if kind == "qwen" else width,
        gated_mlp=gated,
        vocab_size=_required(file, sizes, "vocab_size"),
        max_position_embeddings=_required(file, sizes, "max_position_embeddings"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", kind in TIED)),
        qk_norm=bool(config.get("qk_layernorm", config.get("use_qk_norm", kind in QK_NORM))),
        attention_bias=bool(config.get("attention_bias", config.get("qkv_bias", kind in ATTENTION_BIAS))),
        post_attention_norm=kind not in PARALLEL,
        sliding_window=window if isinstance(window, int) and window > 0 else None,
        source=str(file),
    )


def _gated(file: Path, config: dict[str, Any], kind: str) -> bool:
    if kind in GATED or kind in PLAIN:
        return kind in GATED
    activation = config.get("hidden_act", config.get("hidden_activation"))
    if activation in ("silu", "swish", "swiglu"):
        return True
    if not kind:
        raise _missing(file, "model_type")
    why = f"is unknown, and hidden_act {activation!r} does not tell whether its MLP is gated"
    raise _fault(file, "model_type", kind, f"{why}; known: {', '.join(sorted(GATED | PLAIN))}")


def _size(file: Path, config: dict[str, Any], name: str) -> int | None:
    for spelling in NAMES[name]:
        value = config.get(spelling)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise _fault(file, spelling, value, "is not a positive integer (e.g. 4096)")
        return value
    return None


def _required(file: Path, sizes: dict[str, int | None], name: str) -> int:
    value = sizes[name]
    if value is None:
        raise _missing(file, name)
    return value


def _missing(file: Path, name: str) -> CatalogError:
    return CatalogError(f"{file}: {NAMES.get(name, (name,))[0]}: missing; a dense decoder's config.json has it")


def _fault(file: Path, field: str, value: object, why: str) -> CatalogError:
    shown = repr(value) if len(repr(value)) <= 40 else type(value).__name__
    return CatalogError(f"{file}: {field}: {shown} {why}")
