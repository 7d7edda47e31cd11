"""The parts of a layer (attention, dense MLP, experts, norms), each as GEMMs and the small kernels between them."""

from collections import Counter
from collections.abc import Mapping, Sequence

from fastsim.catalog.model import Model
from fastsim.catalog.precisions import Precision
from fastsim.catalog.quantization import Quantization

from .kinds import BYTES, INPUT_BYTES, Attention, Elementwise, Experts, Gemm

Parts = tuple[list[Gemm], list[Elementwise]]


def gemms_of(name: str, n: int, k: int, layers: Sequence[int], weights: Quantization, bias: bool = False) -> list[Gemm]:
    """The GEMM of some layers, apart by precision: beside the most frequent one, each has its precision in its name."""
    return [
        Gemm(f"{name}{suffix}", n, k, count, precision.name, bias, precision.bits)
        for suffix, precision, count in apart(weights, name, layers)
    ]


def apart(weights: Quantization, module: str, layers: Sequence[int]) -> list[tuple[str, Precision, int]]:
    """The precisions of a module in some layers: the suffix of its name, the precision, and how many layers have it.

    Layers that differ in their scales alone are taken together, with the mean of their bits.
    """
    bits: dict[str, float] = {}
    counts: dict[str, int] = {}
    for (precision,), count in weights.counted((module,), layers):
        bits[precision.name] = bits.get(precision.name, 0) + precision.bits * count
        counts[precision.name] = counts.get(precision.name, 0) + count
    usual = max(counts, key=lambda name: counts[name], default="")
    return [
        ("" if name == usual else f"_{name}", Precision(name, bits[name] / count), count)
        for name, count in counts.items()
    ]


def _quantise(name: str, widths: Mapping[str, int], layers: Sequence[int], weights: Quantization) -> list[Elementwise]:
    """The kernel that converts the inputs of GEMMs to their precision, where that is not 16 bits.

    ``widths``: of each GEMM's input.
    """
    counts: Counter[float] = Counter()
    elements: Counter[float] = Counter()
    for precisions, count in weights.counted(tuple(widths), layers):
        narrow: Counter[float] = Counter()
        for precision, width in zip(precisions, widths.values(), strict=True):
            narrow[INPUT_BYTES[precision.name]] += count * width
        elements.update(narrow)
        counts.update(dict.fromkeys(narrow, count))
    kinds = [(size, count, elements[size] / count) for size, count in counts.most_common() if size != BYTES]
    return [
        Elementwise(name if i == 0 else f"{name}_{8 * size:g}_bits", BYTES * width, size * width, 1, count)
        for i, (size, count, width) in enumerate(kinds)
    ]


def attention_parts(
    model: Model, tp: int, layers: Sequence[int], weights: Quantization, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Projections, rope and attention kernels of layers; full attention comes before windowed attention."""
    count = len(layers)
    if model.kv_lora_rank:
        return _latent(model, tp, layers, weights, kv_precision)
    hidden, dim = model.hidden_size, model.head_dim
    heads, kv_heads = -(-model.num_attention_heads // tp), max(1, model.num_key_value_heads // tp)
    gemms = gemms_of("attn_pre_proj", (heads + 2 * kv_heads) * dim, hidden, layers, weights, model.attention_bias)
    gemms += gemms_of("attn_post_proj", hidden, heads * dim, layers, weights)
    rotated = BYTES * (heads + kv_heads) * dim * (3 if model.qk_norm else 1)
    norm_weights = 2 * dim if model.qk_norm else 0
    small = [Elementwise("attn_rope", rotated, rotated, 3 if model.qk_norm else 1, count, norm_weights)]
    small += _quantise("attn_pre_quant", {"attn_pre_proj": hidden}, layers, weights)
    small += _quantise("attn_post_quant", {"attn_post_proj": heads * dim}, layers, weights)
    windows = Counter(model.window(layer) for layer in layers)
    kinds = sorted(windows.items(), key=lambda kind: kind[0] is not None)
    return gemms, small, tuple(Attention(heads, kv_heads, dim, n, window, kv_precision) for window, n in kinds)


def _latent(
    model: Model, tp: int, layers: Sequence[int], weights: Quantization, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Multi-head latent attention: every GPU holds the whole compressed KV, and computes it from the whole projection.

    ``attn_kv_up_proj`` is the up-projection in a prefill, and its two halves around the attention in a decode; both
    read the same weights for the same FLOPs.
    """
    hidden, rank, rope = model.hidden_size, model.kv_lora_rank, model.qk_rope_head_dim
    heads, dim = -(-model.num_attention_heads // tp), model.qk_nope_head_dim + rope
    down = model.q_lora_rank + rank + rope
    count = len(layers)
    gemms = gemms_of("attn_down_proj", down, hidden, layers, weights)
    width = model.q_lora_rank or hidden
    gemms += gemms_of("attn_q_proj", heads * dim, width, layers, weights)
    gemms += gemms_of("attn_kv_up_proj", heads * (model.qk_nope_head_dim + model.v_head_dim), rank, layers, weights)
    gemms += gemms_of("attn_post_proj", hidden, heads * model.v_head_dim, layers, weights)
    compressed = BYTES * (model.q_lora_rank + rank)
    rotated = BYTES * (heads + 1) * rope
    small = [
        Elementwise("attn_latent_norm", compressed, compressed, 2, count, model.q_lora_rank + rank),
        Elementwise("attn_rope", rotated, rotated, 1, count),
        *_quantise("attn_pre_quant", {"attn_down_proj": hidden, "attn_q_proj": model.q_lora_rank}, layers, weights),
        *_quantise("attn_post_quant", {"attn_post_proj": heads * model.v_head_dim}, layers, weights),
    ]
    return gemms, small, (Attention(heads, heads, dim, count, None, kv_precision, rank + rope, model.v_head_dim),)


def dense_parts(model: Model, tp: int, layers: Sequence[int], weights: Quantization) -> Parts:
    """The MLP: up projection (with the gate), activation and down projection."""
    ffn, projections = -(-model.intermediate_size // tp), 2 if model.gated_mlp else 1
    return _mlp("mlp", model.hidden_size, ffn, projections, layers, weights)


def expert_parts(model: Model, tp: int, layers: Sequence[int], weights: Quantization) -> Parts:
    """A layer of experts without its routed experts: the router, its top-k choice, and the experts that all tokens
    share.
    """
    hidden, number, count = model.hidden_size, model.num_experts, len(layers)
    gemms = gemms_of("moe_router", number, hidden, layers, weights)
    chosen = 8 * model.num_experts_per_tok  # a weight and an index for each
    small = [Elementwise("moe_top_k", 4 * number, chosen, 2, count)]
    if shared := model.shared_expert_intermediate_size:
        width = -(-shared // tp)
        more, kernels = _mlp("shared", hidden, width, 2, layers, weights)
        gemms, small = gemms + more, small + kernels
        small.append(Elementwise("shared_add", 2 * BYTES * hidden, BYTES * hidden, 1, count))
    return gemms, small


def routed_experts(
    model: Model, tp: int, ep: int, layers: Sequence[int], weights: Quantization, imbalance: float
) -> tuple[Experts, ...]:
    """The routed experts of some layers on one of ``tp`` GPUs, ``ep`` of which share them, apart by precision."""
    return tuple(
        Experts(
            model.hidden_size,
            model.moe_intermediate_size,
            model.num_experts,
            model.num_experts_per_tok,
            tp // ep,
            ep,
            count,
            precision.name,
            imbalance,
            precision.bits,
            model.expert_bias,
            f"moe_experts{suffix}",
        )
        for suffix, precision, count in apart(weights, "moe_experts", layers)
    )


def _mlp(prefix: str, hidden: int, ffn: int, projections: int, layers: Sequence[int], weights: Quantization) -> Parts:
    up, down = f"{prefix}_up_proj", f"{prefix}_down_proj"
    gemms = gemms_of(up, projections * ffn, hidden, layers, weights) + gemms_of(down, hidden, ffn, layers, weights)
    small = [Elementwise(f"{prefix}_act", BYTES * projections * ffn, BYTES * ffn, 1, len(layers))]
    small += _quantise(f"{prefix}_up_quant", {up: hidden}, layers, weights)
    small += _quantise(f"{prefix}_down_quant", {down: ffn}, layers, weights)
    return gemms, small


def norms(model: Model, count: int) -> list[Elementwise]:
    """The norms of a layer, each fused with the addition of the residual.

    Like serving engines, a norm reads and writes both the activation and the residual; where attention and MLP run in
    parallel, their sum is a kernel of its own.
    """
    hidden, twice = model.hidden_size, 2 * BYTES * model.hidden_size
    if not model.post_attention_norm:
        return [
            Elementwise("input_layernorm", BYTES * hidden, BYTES * hidden, 1, count, hidden),
            Elementwise("add", twice, twice, 1, count),
        ]
    small = [Elementwise("input_layernorm", twice, twice, 1, count, hidden)]
    small.append(Elementwise("post_attention_layernorm", twice, twice, 1, count, hidden))
    if model.sandwich_norm:
        small.append(Elementwise("output_layernorms", twice, twice, 2, count, 2 * hidden))
    return small
