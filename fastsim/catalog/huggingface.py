"""Reads the shapes of a decoder from a Hugging Face config.json.

Field names and their defaults are those of the configuration classes in transformers.
"""

from pathlib import Path
from typing import Any

from fastsim.catalog.checkpoint import checkpoint
from fastsim.catalog.config_fields import ConfigFile, read
from fastsim.catalog.model import Layer, Model
from fastsim.errors import CatalogError
from fastsim.files.documents import short

# What follows from model_type where the configuration does not say it.
GATED = {"llama", "mistral", "qwen", "qwen2", "qwen3", "internlm", "internlm2", "gemma", "gemma2", "gemma3_text"}
GATED |= {"phi3", "cohere", "granite", "olmo", "olmo2", "baichuan", "exaone", "stablelm", "smollm3"}
PLAIN = {"phi", "opt", "gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "starcoder2", "bloom", "mpt"}
PARALLEL = {"phi", "gptj", "cohere"}  # attention and MLP run in parallel behind one norm
SANDWICH = {"gemma2", "gemma3_text"}  # norms after attention and MLP too
TIED = {"gpt2", "gpt_neo", "gpt_bigcode", "opt", "bloom", "mpt", "starcoder2", "cohere"}
TIED |= {"gemma", "gemma2", "gemma3_text"}
QK_NORM = {"qwen3", "qwen3_moe", "gemma3_text", "olmo2", "olmoe"}
ATTENTION_BIAS = {"qwen", "qwen2", "qwen2_moe", "phi", "opt", "gpt2", "gpt_neox", "gpt_bigcode", "starcoder2", "bloom"}
ATTENTION_BIAS |= {"gpt_oss"}
# Mixtures of experts, and the field that holds the width of an expert.
EXPERTS = {"mixtral": "intermediate_size", "phimoe": "intermediate_size", "olmoe": "intermediate_size"}
EXPERTS |= {"gpt_oss": "intermediate_size", "granitemoe": "intermediate_size"}
EXPERTS |= dict.fromkeys(("qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3", "kimi_k2"), "moe_intermediate_size")
LATENT = {"deepseek_v2", "deepseek_v3", "kimi_k2"}
# One layer in this many has full attention, unless layer_types says which.
FULL_ATTENTION_EVERY = {"gemma2": 2, "gpt_oss": 2, "gemma3_text": 6}
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
# Fields that make a model impossible to simulate when they exceed a value, and what such a model is.
REFUSED = (
    ("is_encoder_decoder", 0, "an encoder-decoder"),
    ("state_size", 0, "a state-space model"),
    ("mamba_d_state", 0, "a state-space model"),
    ("ssm_state_size", 0, "a state-space model"),
    ("text_config", 0, "a multimodal model"),
    ("index_topk", 0, "sparse attention"),
)


def read_config(path: Path) -> Model:
    """Read the model from a config.json, or from the folder that holds one. Its name is ``path`` as given.

    The number of KV heads defaults to that of attention heads, and head_dim to hidden_size / attention heads. Raises
    CatalogError when a field is missing or impossible, or describes a model that cannot be simulated; ConfigError when
    the file cannot be read.
    """
    file = path / "config.json" if path.is_dir() else path
    config = read(file, ConfigFile)
    kind = (config.get("model_type") or "").lower()
    for field, harmless, meaning in REFUSED:
        value = config.get(field)
        if (isinstance(value, dict) and value) or (isinstance(value, int | float) and value > harmless):
            raise _fault(file, field, value, f"describes {meaning}, which cannot be simulated")
    for layer in config.get("layer_types") or ():
        if layer not in ("full_attention", "sliding_attention"):
            raise _fault(file, "layer_types", layer, "is neither full_attention nor sliding_attention")
    sizes = {name: _size(file, config, name) for name in NAMES}
    hidden, heads = _required(file, sizes, "hidden_size"), _required(file, sizes, "num_attention_heads")
    latent = _latent(file, config, kind)
    head_dim = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"] if latent else sizes["head_dim"]
    if head_dim is None:
        if hidden % heads:
            raise _fault(file, "hidden_size", hidden, f"is not a multiple of the {heads} attention heads")
        head_dim = hidden // heads
    if config.get("multi_query") is True:
        sizes["num_key_value_heads"] = 1
    kv_heads = sizes["num_key_value_heads"] or heads
    if heads % kv_heads:
        raise _fault(file, "num_key_value_heads", kv_heads, f"does not divide the {heads} attention heads")
    layers = _required(file, sizes, "num_layers")
    experts = _experts(file, config, kind)
    gated = bool(experts) or _gated(file, config, kind)
    width = sizes["intermediate_size"] or experts.get("moe_intermediate_size")
    if width is None and not gated:
        width = 4 * hidden  # the default of GPT-2's n_inner
    if width is None:
        raise _missing(file, "intermediate_size")
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    window = window if window and window > 0 else None
    quantization, kv_cache_dtype = checkpoint(file, config, layers, bool(experts))
    return Model(
        name=str(path),
        num_layers=layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        # In the first generation of Qwen the field counts gate and up together.
        intermediate_size=width // 2 if kind == "qwen" else width,
        gated_mlp=gated,
        vocab_size=_required(file, sizes, "vocab_size"),
        max_position_embeddings=_required(file, sizes, "max_position_embeddings"),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", kind in TIED)),
        qk_norm=bool(config.get("qk_layernorm", config.get("use_qk_norm", kind in QK_NORM))),
        attention_bias=bool(config.get("attention_bias", config.get("qkv_bias", kind in ATTENTION_BIAS))),
        post_attention_norm=kind not in PARALLEL,
        sliding_window=window,
        source=str(file),
        layers=_layers(file, config, kind, layers, window, bool(experts)),
        sandwich_norm=kind in SANDWICH,
        quantization=quantization,
        kv_cache_dtype=kv_cache_dtype,
        expert_bias=kind == "gpt_oss",
        **experts,
        **latent,
    )


def _layers(
    file: Path, config: dict[str, Any], kind: str, number: int, window: int | None, experts: bool
) -> tuple[Layer, ...]:
    """Return the layers of a model where they differ in their windows or experts; empty where all are alike."""
    full = _full_layers(config, kind, number) if window else set(range(number))
    routed = _routed_layers(file, config, number) if experts else set()
    if len(full) in (0, number) and len(routed) in (0, number):
        return ()
    return tuple(
        Layer("attention", None if i in full else window, "experts" if i in routed else "dense") for i in range(number)
    )


def _full_layers(config: dict[str, Any], kind: str, layers: int) -> set[int]:
    """Return the layers of a model with a sliding window that have full attention."""
    if types := config.get("layer_types"):
        return {i for i, name in enumerate(types) if name == "full_attention"}
    if kind in FULL_ATTENTION_EVERY:
        every = config.get("sliding_window_pattern", FULL_ATTENTION_EVERY[kind])
        return {i for i in range(layers) if (i + 1) % every == 0} if every and every > 0 else set()
    if kind in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe"):
        first = config.get("max_window_layers", 28)
        return set(range(layers if first is None else max(0, min(layers, first))))
    return set()


def _routed_layers(file: Path, config: dict[str, Any], layers: int) -> set[int]:
    """Return the layers that route their tokens to experts."""
    field = "moe_layer_freq" if "moe_layer_freq" in config else "decoder_sparse_step"
    step = config.get(field, 1)
    if not isinstance(step, int) or isinstance(step, bool) or not 0 < step < 2**31:
        raise _fault(file, field, step, "is not a positive integer (e.g. 1), and experts need it")
    first, dense = config.get("first_k_dense_replace") or 0, set(config.get("mlp_only_layers") or ())
    return {i for i in range(layers) if i >= first and i not in dense and (i + 1) % step == 0}


def _experts(file: Path, config: dict[str, Any], kind: str) -> dict[str, int]:
    """Return the fields of Model that describe experts; empty for a dense model."""
    spellings = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    field = next((name for name in spellings if isinstance(config.get(name), int) and config[name] > 1), None)
    if field is None:
        return {}
    if kind not in EXPERTS:
        known = ", ".join(sorted(EXPERTS))
        why = f"describes a mixture of experts, and model_type {short(kind)} is not a known one ({known})"
        raise _fault(file, field, config[field], why)
    chosen = "num_experts_per_tok" if "num_experts_per_tok" in config else "moe_topk"
    width = EXPERTS[kind]
    given = {
        field: config[field],
        chosen: config.get(chosen),
        width: config.get(width),
    }
    for name, value in given.items():
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise _fault(file, name, value, "is not a positive integer (e.g. 8), and experts need it")
    shared = config.get("shared_expert_intermediate_size")
    if shared is None:
        shared = (config.get("n_shared_experts") or 0) * config[width]
    return {
        "num_experts": config[field],
        "num_experts_per_tok": config[chosen],
        "moe_intermediate_size": config[width],
        "shared_expert_intermediate_size": shared,
    }


def _latent(file: Path, config: dict[str, Any], kind: str) -> dict[str, int]:
    """Return the fields of Model that describe multi-head latent attention; empty for a model without it."""
    rank = config.get("kv_lora_rank")
    if not rank:
        return {}
    if kind not in LATENT:
        known = ", ".join(sorted(LATENT))
        why = f"describes multi-head latent attention, and model_type {short(kind)} is not a known one ({known})"
        raise _fault(file, "kv_lora_rank", rank, why)
    found = {"q_lora_rank": config.get("q_lora_rank") or 0}
    for name in ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        value = config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 2**31:
            raise _fault(file, name, value, "is not a positive integer (e.g. 128), and latent attention needs it")
        found[name] = value
    return found


def _gated(file: Path, config: dict[str, Any], kind: str) -> bool:
    if kind in GATED or kind in PLAIN:
        return kind in GATED
    activation = config.get("hidden_act", config.get("hidden_activation"))
    if activation in ("silu", "swish", "swiglu"):
        return True
    if not kind:
        raise _missing(file, "model_type")
    why = f"is unknown, and hidden_act {short(activation)} does not tell whether its MLP is gated"
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
    return CatalogError(f"{file}: {NAMES.get(name, (name,))[0]}: missing; the config.json of a decoder needs it")


def _fault(file: Path, field: str, value: object, why: str) -> CatalogError:
    return CatalogError(f"{file}: {field}: {short(value)} {why}")
