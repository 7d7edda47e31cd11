"""What formulas and forests know of a GPU, and the precisions that its operators run in."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Features = NDArray[np.float32]
Columns = dict[str, Floats]


@dataclass(frozen=True, slots=True)
class Chip:
    """The figures of a GPU that a roofline needs: dense bf16 TFLOP/s, GB/s of DRAM, number of SMs."""

    tflops: float
    bandwidth_gb_s: float
    num_sms: int


@dataclass(frozen=True, slots=True)
class Precision:
    """Bytes of a weight and of an input activation (outputs are bf16), and the peak FLOP/s relative to bf16."""

    weight: float
    activation: float
    speed: float


PRECISIONS = {
    "bf16": Precision(2, 2, 1),
    "fp8": Precision(1, 1, 2),
    "fp8_block": Precision(1, 1, 2),
    "int8": Precision(1, 1, 2),
    "int8_wo": Precision(1, 2, 1),
    "int4_wo": Precision(0.5, 2, 1),
    "nvfp4": Precision(0.5625, 0.5625, 4),
    "mxfp4": Precision(0.53125, 2, 1),
}
