"""The parts of a layer (attention, dense MLP, experts, norms), each as GEMMs and the small kernels between them."""

from collections import Counter
from collections.abc import Sequence

from fastsim.catalog.model import Model

from .kinds import BYTES, INPUT_BYTES, Attention, Elementwise, Gemm

Parts = tuple[list[Gemm], list[Elementwise]]


def _quantise(name: str, width: int, count: int, precision: str) -> list[Elementwise]:
    """The kernel that converts a GEMM's input to its precision, where that is not 16 bits."""
    written = INPUT_BYTES[precision]
    return [Elementwise(name, BYTES * width, written * width, 1, count)] if written != BYTES else []


def attention_parts(
    model: Model, tp: int, layers: Sequence[int], precision: str, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Projections, rope and attention kernels of layers; full attention comes before windowed attention."""
    count = len(layers)
    if model.kv_lora_rank:
        return _latent(model, tp, count, precision, kv_precision)
    hidden, dim = model.hidden_size, model.head_dim
    heads, kv_heads = -(-model.num_attention_heads // tp), max(1, model.num_key_value_heads // tp)
    gemms = [
        Gemm("attn_pre_proj", (heads + 2 * kv_heads) * dim, hidden, count, precision, model.attention_bias),
        Gemm("attn_post_proj", hidden, heads * dim, count, precision),
    ]
    rotated = BYTES * (heads + kv_heads) * dim * (3 if model.qk_norm else 1)
    norm_weights = 2 * dim if model.qk_norm else 0
    small = [Elementwise("attn_rope", rotated, rotated, 3 if model.qk_norm else 1, count, norm_weights)]
    small += _quantise("attn_pre_quant", hidden, count, precision)
    small += _quantise("attn_post_quant", heads * dim, count, precision)
    windows = Counter(model.window(layer) for layer in layers)
    kinds = sorted(windows.items(), key=lambda kind: kind[0] is not None)
    return gemms, small, tuple(Attention(heads, kv_heads, dim, n, window, kv_precision) for window, n in kinds)


def _latent(
    model: Model, tp: int, count: int, precision: str, kv_precision: str
) -> tuple[list[Gemm], list[Elementwise], tuple[Attention, ...]]:
    """Multi-head latent attention: every GPU holds the whole compressed KV, and computes it from the whole projection.

    ``attn_kv_up_proj`` is the up-projection in a prefill, and its two halves around the attention in a decode; both
    read the same weights for the same FLOPs.
    """
    hidden, rank, rope = model.hidden_size, model.kv_lora_rank, model.qk_rope_head_dim
    heads, dim = -(-model.num_attention_heads // tp), model.qk_nope_head_dim + rope
    down = model.q_lora_rank + rank + rope
    gemms = [Gemm("attn_down_proj", down, hidden, count, precision)]
    width = model.q_lora_rank or hidden
    gemms.append(Gemm("attn_q_proj", heads * dim, width, count, precision))
    gemms.append(Gemm("attn_kv_up_proj", heads * (model.qk_nope_head_dim + model.v_head_dim), rank, count))
    gemms.append(Gemm("attn_post_proj", hidden, heads * model.v_head_dim, count, precision))
    compressed = BYTES * (model.q_lora_rank + rank)
    rotated = BYTES * (heads + 1) * rope
    small = [
        Elementwise("attn_latent_norm", compressed, compressed, 2, count, model.q_lora_rank + rank),
        Elementwise("attn_rope", rotated, rotated, 1, count),
        *_quantise("attn_pre_quant", hidden + model.q_lora_rank, count, precision),
        *_quantise("attn_post_quant", heads * model.v_head_dim, count, precision),
    ]
    return gemms, small, (Attention(heads, heads, dim, count, None, kv_precision, rank + rope, model.v_head_dim),)


def dense_parts(model: Model, tp: int, count: int, precision: str) -> Parts:
    """The MLP: up projection (with the gate), activation and down projection."""
    ffn, projections = -(-model.intermediate_size // tp), 2 if model.gated_mlp else 1
    return _mlp(("mlp_up_proj", "mlp_down_proj", "mlp_act"), model.hidden_size, ffn, projections, count, precision)


def expert_parts(model: Model, tp: int, count: int, precision: str) -> Parts:
    """A layer of experts without its routed experts: the router, its top-k choice, and the experts that all tokens
    share.
    """
    hidden, number = model.hidden_size, model.num_experts
    gemms = [Gemm("moe_router", number, hidden, count)]
    chosen = 8 * model.num_experts_per_tok  # a weight and an index for each
    small = [Elementwise("moe_top_k", 4 * number, chosen, 2, count)]
    if shared := model.shared_expert_intermediate_size:
        width = -(-shared // tp)
        names = ("shared_up_proj", "shared_down_proj", "shared_act")
        more, kernels = _mlp(names, hidden, width, 2, count, precision)
        gemms, small = gemms + more, small + kernels
        small.append(Elementwise("shared_add", 2 * BYTES * hidden, BYTES * hidden, 1, count))
    return gemms, small


def _mlp(names: tuple[str, str, str], hidden: int, ffn: int, projections: int, count: int, precision: str) -> Parts:
    up, down, act = names
    gemms = [Gemm(up, projections * ffn, hidden, count, precision), Gemm(down, hidden, ffn, count, precision)]
    small = [Elementwise(act, BYTES * projections * ffn, BYTES * ffn, 1, count)]
    small += _quantise(up.replace("proj", "quant"), hidden, count, precision)
    small += _quantise(down.replace("proj", "quant"), ffn, count, precision)
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
