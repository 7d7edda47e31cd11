"""Finds the decoder within a multimodal configuration, and estimates the weights of the encoders beside it."""

from collections.abc import Mapping
from typing import Any

from fastsim.catalog.fields import Fields

DECODERS = (
    *("text_config", "llm_config", "language_config", "language_model_config", "thinker_config", "llm"),
    *("text_model_config", "lm_config", "language_model"),
)
TOWERS = {"vision_config": "vision", "vision_tower_config": "vision", "visual": "vision", "audio_config": "audio"}
TOWERS |= {"img_processor": "vision", "visual_tokenizer_config": "vision", "audio_processor": "audio"}
NAMED = ("mm_vision_tower", "vision_tower")  # towers that are another checkpoint
TOWERS |= {"audio_encoder_config": "audio", "audio_tower_config": "audio", "speech_config": "audio"}
# What a decoder takes from the levels above it where it does not say so itself.
INHERITED = (
    "tie_word_embeddings",
    "vocab_size",
    "quantization_config",
    "compression_config",
    "expert_dtype",
    "pad_vocab_size_multiple",
    "is_encoder_decoder",
)
HIDDEN = ("embed_dim", "vt_hidden_size", "hidden_size", "d_model", "width", "vision_hidden_size")
LAYERS = ("depth", "num_hidden_layers", "vt_num_hidden_layers", "encoder_layers", "num_layers", "layers", "num_blocks")
FFN = ("intermediate_size", "vt_intermediate_size", "encoder_ffn_dim", "mlp_dim", "ffn_dim")
KIND = "model_type"


def decoder(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path of the decoder in a configuration, ending in a dot, and its fields; empty at the top level.

    A decoder takes from the levels above it what it does not say itself.
    """
    prefix, found = "", dict(config)
    while name := next((name for name in DECODERS if isinstance(found.get(name), dict) and found[name]), None):
        inherited = {key: found[key] for key in (*INHERITED, KIND) if found.get(key) is not None}
        own = {key: value for key, value in found[name].items() if value is not None or key not in inherited}
        prefix, found = f"{prefix}{name}.", {**inherited, **own}
    return prefix, found


def towers(file_fields: Fields, hidden: int) -> tuple[int, list[str]]:
    """Weights of all towers, and a sentence for each: what it is, and how many weights are counted for it.

    ``hidden`` is the width of the decoder, into which each tower projects.
    """
    total, sentences = 0, []
    for level in _levels(file_fields):
        for name in NAMED:
            if isinstance(level.get(name), str) and level.get(name):
                sentences.append(f"its vision encoder is not simulated, and not counted, as {name} names it only")
        for name, what in TOWERS.items():
            if not isinstance(level.get(name), dict) or not level.get(name):
                continue
            tower = level.inner(name)
            count = _weights(tower, hidden)
            place = tower.prefix.rstrip(".")
            total += count
            counted = f"about {count / 1e9:.2g}e9 weights, estimated from {place}, are counted on the first stage"
            if not count:
                counted = f"its weights are not counted, as {place} does not state its sizes"
            sentences.append(f"its {what} encoder is not simulated, and {counted}")
    return total, sentences


def _levels(fields: Fields) -> list[Fields]:
    """The top level of a configuration, and each level that holds its decoder."""
    levels = [fields]
    while name := next((name for name in DECODERS if isinstance(levels[-1].get(name), dict)), None):
        levels.append(levels[-1].inner(name))
    return levels


def _weights(tower: Fields, hidden: int) -> int:
    """Weights of a transformer encoder with its patch embedding, and of the projection into the decoder.

    The projection takes the patches that are merged into one token, as Qwen's vision encoders do, through a layer of
    its own width; each of deepstack_visual_indexes has one more.
    """
    size, layers = tower.size(*HIDDEN), tower.size(*LAYERS)
    if size is None or layers is None:
        return 0
    ratio = tower.get("mlp_ratio")
    ffn = tower.size(*FFN) or int(size * (ratio if isinstance(ratio, int | float) and 0 < ratio < 100 else 4))
    gated = tower.get("hidden_act", "activation_func") in ("silu", "swiglu", "swish")
    heads, head_dim = tower.size("num_attention_heads", "num_heads"), tower.size("head_dim")
    wide = tower.size("qkv_hidden_size") or (heads * head_dim if heads and head_dim else size)
    layer = 4 * size * wide + (3 if gated else 2) * size * ffn
    patch = tower.get("patch_size")
    patch = patch if isinstance(patch, int) and 0 < patch < 1000 else 0
    channels = tower.size("in_channels", "in_chans", "num_channels") or 3
    embedded = channels * patch**2 * (tower.size("temporal_patch_size") or 1) * size
    positions = (tower.size("num_position_embeddings", "position_embedding_size") or 0) * size
    merge = tower.size("spatial_merge_size") or (2 if tower.get("merge_kernel_size") else 1)
    merged = merge**2 * size
    number = 1 + len(tower.get("deepstack_visual_indexes") or ())
    projection = number * (merged * (merged if merge > 1 else hidden) + (merged if merge > 1 else hidden) * hidden)
    return layers * layer + embedded + positions + projection
