"""Reads the heads of attention: their number and size, latent attention, and layers whose heads differ."""

from dataclasses import dataclass, replace
from typing import Any

from fastsim.catalog.fields import Fields, is_whole
from fastsim.catalog.model import Heads

QUERY = ("num_attention_heads", "n_head", "n_heads", "num_heads")
KEY_VALUE = (
    *("num_key_value_heads", "n_head_kv", "num_kv_heads", "num_query_groups", "n_kv_heads", "kv_n_heads"),
    *("num_attention_groups",),
)
HEAD_DIM = ("head_dim", "kv_channels", "attention_head_dim")
LATENT = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


@dataclass(frozen=True, slots=True)
class Attention:
    """The heads of the model, and the ranks of its latent attention by the names of Model's fields."""

    heads: Heads
    latent: dict[str, int]


def attention(fields: Fields, hidden: int, attends: bool) -> Attention:
    """Read the attention of a configuration. KV heads default to those of queries, head_dim to hidden / heads.

    ``attends``: whether any layer has attention; without it there is one head of the model's width. Raises CatalogError
    for sizes that do not divide each other.
    """
    if not attends:
        return Attention(Heads(1, 1, hidden, hidden), {})
    query = fields.required(*QUERY)
    latent = _latent(fields, hidden // query)
    dim = latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"] if latent else fields.size(*HEAD_DIM)
    if dim is None:
        if hidden % query:
            raise fields.fault(
                fields.spelling("hidden_size", "n_embd", "n_embed", "d_model"),
                f"is not a multiple of the {query} attention heads",
            )
        dim = hidden // query
    kv = _kv_heads(fields, query)
    if query % kv:
        raise fields.fault(fields.spelling(*KEY_VALUE), f"does not divide the {query} attention heads", kv)
    value_dim = latent.get("v_head_dim") or fields.optional("v_head_dim") or dim
    return Attention(Heads(query, kv, dim, value_dim), latent)


def _kv_heads(fields: Fields, query: int) -> int:
    """The KV heads of plain attention.

    ``multi_query`` means one KV head, except in Falcon's new decoder architecture, and where a smaller number than
    that of the queries is stated.
    """
    stated = fields.size(*KEY_VALUE) or fields.inner("attn_config").size("kv_n_heads")
    if fields.get("multi_query_attention"):
        stated = stated or fields.size("multi_query_group_num")
    new = fields.get("new_decoder_architecture") is True
    if fields.get("multi_query") is True and not new and stated in (None, query):
        return 1
    if stated is None and (groups := _block_groups(fields)):
        return query // groups
    return stated or query


def _block_groups(fields: Fields) -> int | None:
    """Query heads of each KV head by block_configs, of the first layer that has attention."""
    for block in blocks(fields):
        groups: Any = block["attention"].get("n_heads_in_group")
        if is_whole(groups) and groups > 0:
            return int(groups)
    return None


def blocks(fields: Fields) -> list[dict[str, dict[str, Any]]]:
    """The entries of block_configs, which describe each layer's attention and MLP; empty where it is not stated."""
    listed = fields.get("block_configs")
    if listed is None:
        return []
    whole = isinstance(listed, list) and all(
        isinstance(one, dict) and isinstance(one.get("attention"), dict) and isinstance(one.get("ffn"), dict)
        for one in listed
    )
    if not whole:
        raise fields.fault("block_configs", "is not a list of objects with attention and ffn")
    return list(listed)


def _latent(fields: Fields, usual: int) -> dict[str, int]:
    """The fields of Model that describe latent attention, and the indexer of sparse attention; empty without it.

    ``usual``: the width of a value's head where it is not stated, as in MiniCPM3.
    """
    if not fields.whole("kv_lora_rank"):
        return {}
    found = {"q_lora_rank": fields.whole("q_lora_rank")}
    for name in LATENT:
        value = fields.get(name)
        if value is None and name == "v_head_dim":
            value = usual
        if not is_whole(value) or not 0 < value < 2**31:
            raise fields.fault(name, "is not a positive integer (e.g. 128), and latent attention needs it")
        found[name] = value
    if fields.get("index_topk"):
        found["index_heads"] = fields.required("index_n_heads")
        found["index_head_dim"] = fields.required("index_head_dim")
    return found


def indexed(fields: Fields, layer: int) -> bool:
    """Whether a layer has an indexer of sparse attention of its own, or shares that of another."""
    kinds = fields.get("indexer_types")
    shared = isinstance(kinds, list) and layer < len(kinds) and kinds[layer] == "shared"
    return bool(fields.get("index_topk") and fields.get("kv_lora_rank")) and not shared


def own_heads(fields: Fields, heads: Heads, layer: int, windowed: bool) -> Heads | None:
    """The heads of a layer, with or without a window, where a configuration says that they differ from the model's."""
    listed = fields.whole_numbers("num_key_value_heads_per_layer")
    if listed is not None:
        kv = listed[layer] if layer < len(listed) else 0
        if not kv or heads.query % kv:
            raise fields.fault("num_key_value_heads_per_layer", f"has no divisor of {heads.query} for layer {layer}")
        found = replace(heads, kv=kv)
    elif windowed:
        other = fields.inner("attention_other_setting")
        found = replace(
            heads,
            query=fields.optional("swa_num_attention_heads") or other.optional("num_attention_heads") or heads.query,
            kv=fields.optional("swa_num_key_value_heads") or other.optional("num_attention_groups") or heads.kv,
            dim=fields.optional("swa_head_dim") or other.optional("head_dim") or heads.dim,
            value_dim=fields.optional("swa_v_head_dim") or other.optional("head_dim") or heads.value_dim,
        )
    else:
        dim = fields.optional("global_head_dim")
        found = replace(
            heads,
            kv=fields.optional("num_global_key_value_heads") or heads.kv,
            dim=dim or heads.dim,
            value_dim=dim or heads.value_dim,
            has_values=fields.get("attention_k_eq_v") is not True,
        )
    return None if found == heads else found
