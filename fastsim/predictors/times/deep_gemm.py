"""Experts in DeepGEMM's grouped product, as vLLM runs it: every expert of a GPU has rows in multiples of 128.

How many tokens an expert gets is not known when the kernels are launched, so that the rows are those of the worst case,
127 more for each expert of the GPU, and blocks without a token are loaded and stored like others (vLLM's
compute_aligned_M). At few tokens the time is therefore that of 128 rows for each expert, whatever the batch.
"""

import numpy as np

from fastsim.catalog.hardware import Device
from fastsim.deployment.operators.kinds import BYTES, Experts

from .times import Floats

ROWS = 128
# vLLM took it for all batches on Hopper from 0.11.1 on (vllm-project/vllm#26197), where deep_gemm is installed, as in
# its images, and unless experts are split among 8 GPUs or more (#29346). Measured is 0.12; that 0.15 was the last is
# inferred from the order of kernels of January 2026 (#33490).
FIRST, LAST = (0, 12), (0, 15)
SPLIT = 8
CAPABILITY = "9.0"
# Share of the peak FLOP/s, fitted on closed loops of Qwen3-235B-A22B-FP8 in vLLM 0.12 on two H200, prompts of 2,000.
COMPUTE_SHARE = 0.48
MEMORY_SHARE, LAUNCHES_MS = 0.7, 0.03  # as in other formulas
HALF_WIDTH = 1.2  # of the 90 % interval, as a factor: about what the rows that were not fitted on lie apart


def runs(kernels: tuple[str, tuple[int, ...]], device: Device, experts: Experts) -> bool:
    """Whether an engine's release computes these experts in it; ``kernels``: whose, and the release."""
    framework, release = kernels
    return (
        framework == "vllm"
        and FIRST <= release <= LAST
        and device.compute_capability == CAPABILITY
        and experts.precision == "fp8_block"
        and experts.tp < SPLIT
    )


def experts_ms(experts: Experts, tokens: Floats, device: Device) -> Floats:
    """Times of a layer's experts, ms, by tokens of all ranks together: products, and what moves rows between them."""
    local = -(-experts.num_copies // experts.ep)
    chosen = tokens * experts.top_k
    rows = ROWS * np.ceil((chosen + local * (ROWS - 1)) / ROWS)
    width, hidden = experts.width(), experts.hidden
    gated = (experts.projections - 1) * width
    # Inputs in 8 bits, intermediate results in 16 before the activation and in 8 behind it, outputs in 16.
    moved = rows * (hidden + 2 * BYTES * gated + 2 * width + BYTES * hidden) + chosen * (1 + BYTES) * hidden
    bandwidth = MEMORY_SHARE * device.bandwidth_gb_s * 1e6
    weights = np.array([experts.weight_bytes() * experts.reached(n) for n in tokens])
    flops = 2 * experts.projections * rows * hidden * width
    products = np.maximum(flops / (COMPUTE_SHARE * device.tflops["fp8"] * 1e9), weights / bandwidth)
    return np.asarray(LAUNCHES_MS + moved / bandwidth + products)
