"""The precisions in which matrices are stored and multiplied."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """How a precision stores weights, and in how many bits a GEMM reads its input."""

    weight_bits: float  # without scales
    input_bits: int
    group: int | None = None  # weights that share a scale, where a checkpoint does not say; None: a channel or more
    scale_bits: float = 0  # of a scale, with its zero point if there is one
    meaning: str = ""

    @property
    def bits(self) -> float:
        """Bits of a stored weight with its share of the scale."""
        return self.weight_bits + (self.scale_bits / self.group if self.group else 0)


# The names are those that a deployment's quantization takes; bf16 stands for none of them, 16 bits. Names with _wo
# keep their inputs in 16 bits: engines widen the weights inside the GEMM.
FORMATS: Mapping[str, Format] = {
    "bf16": Format(16, 16, meaning="16 bits"),
    "fp8": Format(8, 8, meaning="fp8 weights and inputs, one scale per tensor or channel"),
    "fp8_block": Format(8, 8, 128**2, 32, "fp8 weights and inputs, one scale per block of 128 x 128 weights"),
    "fp8_wo": Format(8, 16, meaning="fp8 weights, inputs in 16 bits"),
    "mxfp8": Format(8, 8, 32, 8, "fp8 weights and inputs, one scale per 32"),
    "int8": Format(8, 8, meaning="int8 weights and inputs (W8A8), one scale per channel"),
    "int8_wo": Format(8, 16, 128, 16, "int8 weights, inputs in 16 bits"),
    "int4_wo": Format(4, 16, 128, 16, "int4 weights, inputs in 16 bits, one scale per 128"),
    "int4_fp8": Format(4, 8, 128, 16, "int4 weights, inputs in fp8 or int8 (W4A8), one scale per 128"),
    "nvfp4": Format(4, 4, 16, 8, "fp4 weights and inputs, one scale per 16"),
    "nvfp4_wo": Format(4, 16, 16, 8, "fp4 weights, inputs in 16 bits, one scale per 16"),
    "mxfp4": Format(4, 16, 32, 8, "fp4 weights, one scale per 32, inputs in 16 bits"),
    "nf4": Format(4, 16, 64, 32, "4-bit normal floats of bitsandbytes, one scale per 64, inputs in 16 bits"),
}


@dataclass(frozen=True, slots=True)
class Precision:
    """The precision of a module of a checkpoint: its name in FORMATS, and the bits of a weight with its scales."""

    name: str
    bits: float


def precision(name: str) -> Precision:
    """The precision with this name, with as many scales as checkpoints usually have."""
    return Precision(name, FORMATS[name].bits)


BF16 = precision("bf16")
