"""Reads what mixes the tokens of each layer: attention, with or without a window, or a linear mixer."""

from collections.abc import Callable
from typing import Any

from fastsim.catalog.fields import Fields, is_whole
from fastsim.catalog.model import Mixer

# Words of layer_types and layers_block_type.
LINEAR = {"linear_attention", "mamba", "mamba2", "conv", "recurrent", "linear", "lightning_attention", "m"}
FULL = {"full_attention", "attention", "global_attention", "deepseek_sparse_attention", "full", "global", "hybrid"}
WINDOWED = {"sliding_attention", "chunked_attention", "local_attention", "sliding", "local"}
ALONE = {"moe": "experts", "mlp": "dense", "dense": "dense"}  # layers of an MLP only
LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}  # of hybrid_override_pattern
STATE = ("state_size", "ssm_state_size", "mamba_d_state")  # of a linear mixer
WINDOWS = ("sliding_window", "sliding_window_size", "attention_chunk_size", "window_size")
PATTERNS = ("sliding_window_pattern", "_sliding_window_pattern", "global_attn_every_n_layers", "layer_switch")
WINDOWED_LAYERS = ("swa_layers", "sliding_window_layers", "local_attention_layers")
FULL_LAYERS = ("global_attn_idx", "full_attention_layers", "global_attention_layers", "global_layers")


def blocks(fields: Fields) -> list[str] | None:
    """What each layer is, by hybrid_override_pattern or layers_block_type; None where neither is stated."""
    pattern = fields.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        if odd := set(pattern) - set(LETTERS):
            raise fields.fault("hybrid_override_pattern", "is none of M, *, - and E", sorted(odd)[0])
        return [LETTERS[letter] for letter in pattern]
    named = fields.get("layers_block_type")
    return [str(name).lower() for name in named] if isinstance(named, list) else None


def mixers(fields: Fields, number: int) -> list[Mixer]:
    """What mixes the tokens of each of ``number`` layers. Raises CatalogError for kinds that are not known."""
    if names := _names(fields, number):
        return ["linear" if name in LINEAR else "none" if name in ALONE else "attention" for name in names]
    attends = _attends(fields)
    if attends is None and fields.get(*STATE) and fields.get("num_attention_heads") is None:
        return ["linear"] * number
    return ["attention" if attends is None or attends(layer) else "linear" for layer in range(number)]


def _names(fields: Fields, number: int) -> list[str] | None:
    """The words of each layer's kind; None where no list of words is stated."""
    listed, name = blocks(fields), fields.spelling("hybrid_override_pattern", "layers_block_type")
    if listed is None:
        types, name = fields.get("layer_types"), "layer_types"
        listed = [str(word).lower() for word in types] if isinstance(types, list) and types else None
    if listed is None:
        return None
    known = LINEAR | FULL | WINDOWED | ALONE.keys()
    if odd := [word for word in listed if word not in known]:
        raise fields.fault(name, "is not a kind of layer that is known (e.g. full_attention)", odd[0])
    if len(listed) < number:
        raise fields.fault(name, f"has {len(listed)} entries, and the model has {number} layers")
    return listed[:number]


def _attends(fields: Fields) -> Callable[[int], bool] | None:
    """Whether a layer has attention, in a model with linear mixers too; None for a model of attention only."""
    if kinds := fields.whole_numbers("attn_type_list"):
        return (lambda layer: layer < len(kinds) and kinds[layer] != 0) if 0 in kinds else None
    if full := fields.inner("linear_attn_config").whole_numbers("full_attn_layers"):
        return lambda layer: layer + 1 in full  # counted from 1
    chosen = fields.whole_numbers("attn_layer_indices", "full_attn_idxs")
    if chosen is not None:
        return lambda layer: layer in chosen
    if period := fields.optional("attn_layer_period"):
        offset = fields.whole("attn_layer_offset")
        return lambda layer: layer % period == offset
    if every := fields.optional("full_attention_interval", "layer_group_size"):
        return lambda layer: (layer + 1) % every == 0
    return None


def beside(fields: Fields) -> bool:
    """Whether a linear mixer runs beside the attention of every layer, as in Falcon-H1 and Hymba."""
    stated = fields.get("layer_types", "layers_block_type", "hybrid_override_pattern")
    both = fields.get(*STATE) and fields.get("num_attention_heads")
    return bool(both and stated is None and _attends(fields) is None)


def windows(fields: Fields, number: int) -> list[int | None]:
    """Tokens that attention looks back in each of ``number`` layers, None where it looks back to all of them."""
    if fields.get("use_sliding_window") is False:
        return [None] * number
    said_null = {name for name in WINDOWS if name in fields.stated and fields.stated[name] is None}
    name = next((name for name in WINDOWS if name not in said_null and _positive(fields.get(name))), None)
    if name is None:
        return [None] * number
    window = fields.required(name)
    full = _full(fields, number, chunked=name == "attention_chunk_size")
    return [None if full(layer) else window for layer in range(number)]


def _full(fields: Fields, number: int, chunked: bool) -> Callable[[int], bool]:
    """Whether a layer of a model with windows has full attention."""
    if names := _names(fields, number):
        return lambda layer: names[layer] not in WINDOWED
    flags = fields.whole_numbers("hybrid_layer_pattern", *(("no_rope_layers",) if chunked else ()))
    if flags:
        return lambda layer: layer < len(flags) and flags[layer] == 0
    whole, looking_back = fields.whole_numbers(*FULL_LAYERS), fields.whole_numbers(*WINDOWED_LAYERS)
    if whole is not None:
        return lambda layer: layer in whole
    if looking_back is not None:
        return lambda layer: layer not in looking_back
    if fields.get("attention_types") or fields.kind == "gpt_neo":
        turns = _turns(fields)
        return lambda layer: turns[layer % len(turns)] == "global"
    pattern: Any = fields.get(*PATTERNS)
    if isinstance(pattern, str) and pattern:
        return lambda layer: pattern[layer % len(pattern)].upper() in "GF"
    if _positive(pattern):
        return lambda layer: (layer + 1) % pattern == 0
    if chunked:  # in Llama-4 one layer in four has no position embedding, and no chunks
        every = fields.size("no_rope_layer_interval") or 4
        return lambda layer: (layer + 1) % every == 0
    first = fields.whole("max_window_layers")
    return lambda layer: layer < first


def _turns(fields: Fields) -> list[str]:
    """The kinds of GPT-Neo's layers, which take turns: attention_types is [[[kind, ...], repeats], ...]."""
    try:
        stated = [(list(kinds), min(int(repeats), 4096)) for kinds, repeats in fields.get("attention_types") or ()]
        turns = [str(kind) for kinds, repeats in stated for kind in kinds * repeats]
    except (TypeError, ValueError, OverflowError):
        raise fields.fault("attention_types", "is not a list of kinds (e.g. [[['global', 'local'], 12]])") from None
    return turns or ["global", "local"]


def _positive(value: object) -> bool:
    return is_whole(value) and value > 0  # type: ignore[operator]
