"""What the GPUs draw, by a model: a share of the rated power when idle, and a larger one the fuller the batches.

IDLE: a GPU that holds a CUDA context draws 26 to 66 W more than one without (arXiv:2605.23918), in all about a fifth of
its rated power. SINGLE and FULL: an H100 SXM of 700 W draws 300 W on batches of one token and 600 W on batches of 128
(ML.ENERGY Benchmark v3.0, as the vLLM Semantic Router's fleet simulator takes it); linear in the logarithm between.
"""

from math import log2
from typing import Any

from fastsim.catalog.hardware import Device

IDLE, SINGLE, FULL = 0.2, 300 / 700, 600 / 700  # of the rated power
FULL_TOKENS = 128


def energy(device: Device, gpus: int, span: float, busy: float, tokens: float, outputs: int) -> dict[str, Any]:
    """``busy``: share of ``span`` (s) in which a GPU works; ``tokens``: of a mean batch. None where nothing ran."""
    fullness = min(1.0, log2(max(1.0, tokens)) / log2(FULL_TOKENS))
    working = SINGLE + (FULL - SINGLE) * fullness
    watts = device.power_w * (IDLE * (1 - busy) + working * busy)
    joules = watts * gpus * span
    return {
        "kwh": joules / 3.6e6,
        "watts": watts,
        "joules_per_output_token": joules / outputs if outputs else None,
    }
