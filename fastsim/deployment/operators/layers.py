"""The parts of a layer that follow its mixer (dense MLP, experts) and its norms, as GEMMs and the small kernels between
them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from fastsim.catalog.model import Layer, Model
from fastsim.catalog.precisions import Precision
from fastsim.catalog.quantization import Quantization

from .kinds import BYTES, INPUT_BYTES, Elementwise, Experts, Gemm

Parts = tuple[list[Gemm], list[Elementwise]]
T = TypeVar("T", Gemm, Elementwise)


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


def quantise(name: str, widths: Mapping[str, int], layers: Sequence[int], weights: Quantization) -> list[Elementwise]:
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


def told_apart(parts: Sequence[T]) -> list[T]:
    """Operators with unique names: equal ones are counted together, others of one name are numbered from the second."""
    counts: dict[T, int] = {}
    for part in parts:
        alike = replace(part, count=1)
        counts[alike] = counts.get(alike, 0) + part.count
    found, names = [], Counter[str]()
    for part, count in counts.items():
        names[part.name] += 1
        number = names[part.name]
        found.append(replace(part, name=part.name if number == 1 else f"{part.name}_{number}", count=count))
    return found


def dense_parts(model: Model, tp: int, kinds: Mapping[Layer, Sequence[int]], weights: Quantization) -> Parts:
    """The MLPs of layers: up projection (with the gate), activation and down projection."""
    gemms: list[Gemm] = []
    small: list[Elementwise] = []
    widths: dict[int, list[int]] = {}
    for kind, layers in kinds.items():
        if kind.mlp == "dense":
            widths.setdefault(kind.intermediate_size or model.intermediate_size, []).extend(layers)
    for width, layers in widths.items():
        more, kernels = _mlp("mlp", model.hidden_size, -(-width // tp), 2 if model.gated_mlp else 1, layers, weights)
        gemms, small = gemms + more, small + kernels
    return gemms, small


def expert_parts(model: Model, tp: int, layers: Sequence[int], weights: Quantization) -> Parts:
    """A layer of experts without its routed experts: the router, its top-k choice, and the experts that all tokens
    share.
    """
    hidden, number, count = model.hidden_size, model.num_experts, len(layers)
    gemms = gemms_of("moe_router", number, hidden, layers, weights)
    chosen = 8 * model.num_experts_per_tok  # a weight and an index for each
    small = [Elementwise("moe_top_k", 4 * number, chosen, 2, count)]
    if narrow := model.moe_hidden_size:
        gemms += gemms_of("moe_latent_down_proj", narrow, hidden, layers, weights)
        gemms += gemms_of("moe_latent_up_proj", hidden, narrow, layers, weights)
    if shared := model.shared_expert_intermediate_size:
        width = -(-shared // tp)
        more, kernels = _mlp("shared", hidden, width, 2 if model.gated_mlp else 1, layers, weights)
        gemms, small = gemms + more, small + kernels
        small.append(Elementwise("shared_add", 2 * BYTES * hidden, BYTES * hidden, 1, count))
    return gemms, small


def routed_experts(
    model: Model,
    gpus: int,
    ep: int,
    layers: Sequence[int],
    weights: Quantization,
    imbalance: float,
    skew: float,
    ranks: int = 1,
    redundant: int = 0,
) -> tuple[Experts, ...]:
    """The routed experts of some layers on one of ``gpus`` GPUs, ``ep`` of which share them, apart by precision.

    ``ranks``: data-parallel ranks that these GPUs are. ``redundant``: copies of experts beside the model's own.
    """
    return tuple(
        Experts(
            model.moe_hidden_size or model.hidden_size,
            model.moe_intermediate_size,
            model.num_experts,
            model.num_experts_per_tok,
            gpus // ep,
            ep,
            count,
            precision.name,
            imbalance,
            precision.bits,
            model.expert_bias,
            f"moe_experts{suffix}",
            3 if model.gated_mlp else 2,
            skew,
            ranks,
            redundant,
        )
        for suffix, precision, count in apart(weights, "moe_experts", layers)
    )


def _mlp(prefix: str, hidden: int, ffn: int, projections: int, layers: Sequence[int], weights: Quantization) -> Parts:
    up, down = f"{prefix}_up_proj", f"{prefix}_down_proj"
    gemms = gemms_of(up, projections * ffn, hidden, layers, weights) + gemms_of(down, hidden, ffn, layers, weights)
    small = [Elementwise(f"{prefix}_act", BYTES * projections * ffn, BYTES * ffn, 1, len(layers))]
    small += quantise(f"{prefix}_up_quant", {up: hidden}, layers, weights)
    small += quantise(f"{prefix}_down_quant", {down: ffn}, layers, weights)
    return gemms, small


def norms(model: Model, mixing: int, mlps: int) -> list[Elementwise]:
    """The norms of layers, each fused with the addition of the residual; ``mixing`` of them mix tokens, ``mlps`` have
    an MLP or experts.

    Like serving engines, a norm reads and writes both the activation and the residual; where attention and MLP run in
    parallel, their sum is a kernel of its own.
    """
    hidden, twice = model.hidden_size, 2 * BYTES * model.hidden_size
    if not model.post_attention_norm:
        return [
            Elementwise("input_layernorm", BYTES * hidden, BYTES * hidden, 1, mixing, hidden),
            Elementwise("add", twice, twice, 1, mixing),
        ]
    small = [Elementwise("input_layernorm", twice, twice, 1, mixing, hidden)] if mixing else []
    if mlps:
        small.append(Elementwise("post_attention_layernorm", twice, twice, 1, mlps, hidden))
    if model.sandwich_norm:
        small.append(Elementwise("output_layernorms", twice, twice, 2, mixing, 2 * hidden))
    return small
