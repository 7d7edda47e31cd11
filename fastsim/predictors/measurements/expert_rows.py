"""Which measured rows of experts are sound, and what they hold."""

import numpy as np
from numpy.typing import NDArray

from fastsim.predictors.chip import Chip, Floats, Precision
from fastsim.predictors.forests.features import moe

# Experts without a gate (Nemotron 3), by hidden, inter_size, num_experts, topk: their rows hold two products, not
# three, but for those of SGLang 0.5.10.
UNGATED = (
    (2688, 1856, 128, 6),
    *((hidden, inter, 512, 22) for hidden in (1024, 2048, 4096, 8192) for inter in (2688, 5120)),
)
CACHED_BYTES = 2.5e8  # that no cache of a GPU holds
TOO_FAST = 1.05  # of the DRAM bandwidth: rows that read more are not of what they say
# Times what the chip's peaks allow, with the launches (ms), from 8 to 512 tokens: no sound kernel takes longer.
TOO_SLOW, LAUNCHES_MS = 3.0, 0.03


def as_gated(shape: Floats) -> Floats:
    """Experts without a gate as those of the width at which gated ones have as many weights."""
    shape = shape.copy()
    for model in UNGATED:
        of_model = (shape[:, 1:5] == model).all(axis=1)
        shape[of_model, 2] = np.round(shape[of_model, 2] * 2 / 3)
    return shape


def not_too_fast(shape: Floats, ms: Floats, chip: Chip, kind: Precision) -> NDArray[np.bool_]:
    """Which rows of experts (float64[rows, columns of MOE], ms) DRAM could have served, bool[rows].

    They say that tokens were spread evenly over the experts. Where the weights of that many cannot have been read, a
    row whose tokens do not divide evenly reached fewer. The rows of a model whose router takes experts of some groups
    only (DeepSeek-V3) reached about half of them at any number of tokens: none of these counts.
    """
    tokens, _, _, num_experts, topk, _, _ = shape.T
    weights = moe(shape, chip, kind)[1]["weights"]
    too_fast = (weights > TOO_FAST * ms) & (weights * chip.bandwidth_gb_s * 1e6 > CACHED_BYTES)
    kept = ~too_fast
    for model in np.unique(shape[too_fast & (tokens * topk >= 2 * num_experts)][:, 1:5], axis=0):
        kept &= (shape[:, 1:5] != model).any(axis=1)
    return kept


def not_too_slow(shape: Floats, ms: Floats, chip: Chip, kind: Precision) -> NDArray[np.bool_]:
    """Which rows of experts were timed with a kernel that an engine would serve with, bool[rows].

    A way to spread a model is left out with all its rows where most of those from 8 to 512 tokens take several times as
    long as the peaks of the GPU allow, as those of its neighbours do not: TensorRT-LLM's 16 experts of 5120 x 8192 in
    fp8 reach 18 % of the H100's bandwidth, 128 of them 88 %.
    """
    tokens = shape[:, 0]
    slow = ms > TOO_SLOW * (moe(shape, chip, kind)[1]["roofline"] + LAUNCHES_MS)
    ways, of_row = np.unique(shape[:, 1:], axis=0, return_inverse=True)
    of_row, few = of_row.ravel(), (tokens >= 8) & (tokens <= 512)
    number, slower = (np.bincount(of_row[few], weight, len(ways)) for weight in (None, slow[few]))
    return np.asarray(2 * slower <= number)[of_row]
