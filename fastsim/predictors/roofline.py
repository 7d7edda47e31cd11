"""Shapes -> roofline features: what a forest sees of an operator, so that it can judge unseen shapes.

The target of every forest is log(time / roofline time): a leaf says how far a kernel stays behind the chip.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.float32]

BYTES = 2  # bf16
TILE = 128  # rows and columns of an output tile, query rows and keys of an attention tile


@dataclass(frozen=True, slots=True)
class Chip:
    """What a roofline needs to know of a GPU: dense bf16 TFLOP/s, GB/s of DRAM, number of SMs."""

    tflops: float
    bandwidth_gb_s: float
    num_sms: int


COMMON = (
    "flops",
    "bytes",
    "intensity",
    "compute_to_memory",
    "roofline_ms",
    "tiles",
    "waves",
    "wave_fill",
    "tile_fill",
)
# Shape columns of every family of operators, per GPU. moe: a whole expert layer (gate, up, activation, down), the
# model's own width before it is split.
FAMILIES = {
    "gemm": ("m", "n", "k"),
    "prefill_attention": ("batch", "length", "heads", "kv_heads", "head_dim"),
    "decode_attention": ("batch", "kv_length", "heads", "kv_heads", "head_dim"),
    "moe": ("tokens", "hidden", "intermediate", "num_experts", "topk", "tp", "ep"),
    "mla_prefill": ("batch", "length", "heads"),
    "mla_decode": ("batch", "kv_length", "heads"),
}
SHAPES = {name: FAMILIES[name] for name in ("gemm", "prefill_attention", "decode_attention")}


def feature_names(operator: str) -> list[str]:
    """Names of the columns that ``features`` gives for an operator; the first are its shape."""
    return [*SHAPES[operator], *COMMON]


def _gemm(shape: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    m, n, k = shape.T
    tiles = np.ceil(m / TILE) * np.ceil(n / TILE)
    return 2 * m * n * k, BYTES * (m * k + k * n + m * n), tiles, m * n / (tiles * TILE * TILE)


def _prefill(shape: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Causal attention of whole prompts, and the writing of their KV."""
    b, s, h, kv, d = shape.T
    flops = 4 * b * h * d * s * (s + 1) / 2
    moved = BYTES * b * s * d * (2 * h + 4 * kv)
    rows = np.ceil(s / TILE)
    return flops, moved, b * h * rows, s / (rows * TILE)


def _decode(shape: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """One token of each sequence against its KV cache."""
    b, s, h, kv, d = shape.T
    flops = 4 * b * h * d * s
    moved = BYTES * b * d * (2 * kv * s + 2 * h)
    keys = np.ceil(s / TILE)
    return flops, moved, b * kv * keys, s / (keys * TILE)


WORK: dict[str, Callable[[Floats], tuple[Floats, Floats, Floats, Floats]]] = {
    "gemm": _gemm,
    "prefill_attention": _prefill,
    "decode_attention": _decode,
}


def features(operator: str, shape: Floats, chip: Chip) -> tuple[Features, Floats]:
    """float32[rows, features], mostly logarithms, and the roofline time float64[rows], ms.

    ``shape``: float64[rows, columns] as in ``SHAPES``, per GPU.
    """
    flops, moved, tiles, tile_fill = WORK[operator](shape)
    compute = flops / (chip.tflops * 1e9)
    memory = moved / (chip.bandwidth_gb_s * 1e6)
    roofline = np.maximum(compute, memory)
    waves = np.ceil(tiles / chip.num_sms)
    columns = [
        *np.log(shape.T),
        np.log(flops),
        np.log(moved),
        np.log(flops / moved),
        np.log(compute / memory),
        np.log(roofline),
        np.log(tiles),
        np.log(waves),
        tiles / (waves * chip.num_sms),
        tile_fill,
    ]
    return np.column_stack(columns).astype(np.float32), roofline
