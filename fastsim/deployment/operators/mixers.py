"""What mixes the tokens of a layer: attention with plain heads, latent attention, and linear mixers."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fastsim.catalog.model import Heads, Layer, Model
from fastsim.catalog.quantization import Quantization

from .kinds import BYTES, Attention, Elementwise, Gemm, Recurrence
from .layers import Parts, gemms_of, quantise

Kinds = Mapping[Layer, Sequence[int]]
LATENT_GROUP = 128  # elements of a latent cache in fp8 that share a float32 scale, where attention is sparse
INDEX_SCALE_BYTES = 4  # an indexer keeps its keys in fp8, with a float32 scale of each


def attention_parts(
    model: Model, tp: int, kinds: Kinds, weights: Quantization, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Projections, rope and attention kernels of layers; full attention comes before windowed attention.

    GEMMs and kernels of one name may have different shapes, where layers differ in their heads.
    """
    gemms: list[Gemm] = []
    small: list[Elementwise] = []
    attending = {kind: layers for kind, layers in kinds.items() if kind.mixer == "attention"}
    if not attending:
        return gemms, small, ()
    if model.kv_lora_rank:
        return _latent(model, tp, attending, weights, kv_precision)
    groups = Counter[tuple[int | None, Heads, bool]]()
    by_heads: dict[Heads, list[int]] = {}
    for kind, layers in attending.items():
        groups[kind.window, model.heads_of(kind), kind.shares_kv] += len(layers)
        by_heads.setdefault(model.heads_of(kind), []).extend(layers)
    for heads, layers in by_heads.items():
        more, kernels = _plain(model, tp, heads, layers, weights)
        gemms, small = gemms + more, small + kernels
    attentions, names = [], Counter[bool]()
    for (window, heads, shared), count in sorted(groups.items(), key=lambda group: group[0][0] is not None):
        names[window is None] += 1
        number = names[window is None]
        kv_heads, value_dim = max(1, heads.kv // tp), heads.value_dim if heads.value_dim != heads.dim else 0
        shape = (-(-heads.query // tp), kv_heads, heads.dim, count, window, kv_precision, 0, value_dim)
        attentions.append(Attention(*shape, shares_kv=shared, label="" if number == 1 else f"_{number}"))
    return gemms, small, tuple(attentions)


def _plain(model: Model, tp: int, heads: Heads, layers: Sequence[int], weights: Quantization) -> Parts:
    """Attention with a key and a value of each KV head, or with keys that serve as values too."""
    hidden, dim, count = model.hidden_size, heads.dim, len(layers)
    query, kv_heads = -(-heads.query // tp), max(1, heads.kv // tp)
    asked = query * dim * (2 if model.attention_gate else 1)
    kept = kv_heads * (dim + (heads.value_dim if heads.has_values else 0))
    if model.q_lora_rank:
        gemms = gemms_of("attn_down_proj", model.q_lora_rank + kept, hidden, layers, weights)
        gemms += gemms_of("attn_q_proj", asked, model.q_lora_rank, layers, weights)
    else:
        gemms = gemms_of("attn_pre_proj", asked + kept, hidden, layers, weights, model.attention_bias)
    out = query * heads.value_dim
    if model.o_lora_rank:
        gemms += gemms_of("attn_out_down_proj", model.o_lora_rank, out, layers, weights)
        out = -(-model.o_groups // tp) * model.o_lora_rank
    gemms += gemms_of("attn_post_proj", hidden, out, layers, weights)
    rotated = BYTES * (query + kv_heads) * dim * (3 if model.qk_norm else 1)
    norm_weights = 2 * dim if model.qk_norm else 0
    small = [Elementwise("attn_rope", rotated, rotated, 3 if model.qk_norm else 1, count, norm_weights)]
    small += quantise("attn_pre_quant", {"attn_pre_proj": hidden}, layers, weights)
    return gemms, small + quantise("attn_post_quant", {"attn_post_proj": out}, layers, weights)


def _latent(
    model: Model, tp: int, kinds: Kinds, weights: Quantization, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Multi-head latent attention: every GPU holds the whole compressed KV, and computes it from the whole projection.

    ``attn_kv_up_proj`` is the up-projection in a prefill, and its two halves around the attention in a decode; both
    read the same weights for the same FLOPs. An indexer's projections and keys are whole on every GPU too.
    """
    hidden, rank, rope = model.hidden_size, model.kv_lora_rank, model.qk_rope_head_dim
    heads, dim = -(-model.num_attention_heads // tp), model.qk_nope_head_dim + rope
    layers = [layer for alike in kinds.values() for layer in alike]
    down, count = model.q_lora_rank + rank + rope, len(layers)
    gemms = gemms_of("attn_down_proj", down, hidden, layers, weights)
    width = model.q_lora_rank or hidden
    gemms += gemms_of("attn_q_proj", heads * dim, width, layers, weights)
    gemms += gemms_of("attn_kv_up_proj", heads * (model.qk_nope_head_dim + model.v_head_dim), rank, layers, weights)
    if model.attention_gate:
        gemms += gemms_of("attn_gate_proj", heads * model.v_head_dim, hidden, layers, weights)
    gemms += gemms_of("attn_post_proj", hidden, heads * model.v_head_dim, layers, weights)
    compressed = BYTES * (model.q_lora_rank + rank)
    rotated = BYTES * (heads + 1) * rope
    small = [
        Elementwise("attn_latent_norm", compressed, compressed, 2, count, model.q_lora_rank + rank),
        Elementwise("attn_rope", rotated, rotated, 1, count),
        *quantise("attn_pre_quant", {"attn_down_proj": hidden, "attn_q_proj": model.q_lora_rank}, layers, weights),
        *quantise("attn_post_quant", {"attn_post_proj": heads * model.v_head_dim}, layers, weights),
    ]
    attentions: list[Attention] = []
    for indexed in (True, False):
        alike = [layer for kind, numbers in kinds.items() if kind.indexed == indexed for layer in numbers]
        if not alike:
            continue
        shape = (heads, heads, dim, len(alike), None, kv_precision, rank + rope, model.v_head_dim)
        index_bytes = model.index_head_dim + INDEX_SCALE_BYTES if indexed else 0
        if kv_precision == "fp8" and model.index_heads:  # vLLM's fp8_ds_mla, which keeps the rope part in 16 bits
            index_bytes += rope + 4 * rank // LATENT_GROUP
        attentions.append(Attention(*shape, index_bytes, label="_2" if attentions else ""))
        if indexed:
            wide = model.index_heads * model.index_head_dim
            gemms += gemms_of("attn_index_q_proj", wide, width, alike, weights)
            gemms += gemms_of("attn_index_k_proj", model.index_head_dim + model.index_heads, hidden, alike, weights)
    return gemms, small, tuple(attentions)


def linear_parts(model: Model, tp: int, kinds: Kinds, weights: Quantization) -> tuple[Parts, Recurrence | None]:
    """Linear mixers of layers: projections, a short convolution with the norm of the output, and a recurrence."""
    linear = model.linear
    layers = [layer for kind, alike in kinds.items() if kind.has_state for layer in alike]
    if linear is None or not layers:
        return ([], []), None
    columns, rows, channels = (
        -(-width // tp) for width in (linear.input_width, linear.output_width, linear.conv_channels)
    )
    gemms = gemms_of("linear_in_proj", columns, model.hidden_size, layers, weights)
    for n, k in linear.inner:
        n, k = (-(-n // tp), k) if n > k else (n, -(-k // tp))
        gemms += gemms_of("linear_inner_proj", n, k, layers, weights)
    gemms += gemms_of("linear_out_proj", model.hidden_size, rows, layers, weights)
    moved, count = BYTES * (channels + rows), len(layers)
    small_weights = channels * linear.conv_width + rows + -(-linear.other_weights // tp)
    small = [Elementwise("linear_conv_norm", moved, moved, 2, count, small_weights)]
    small += quantise("linear_in_quant", {"linear_in_proj": model.hidden_size}, layers, weights)
    small += quantise("linear_out_quant", {"linear_out_proj": rows}, layers, weights)
    kept = channels * max(0, linear.conv_width - 1)
    return (gemms, small), Recurrence(-(-linear.state // tp), linear.state_bytes, kept, columns + rows, count)
