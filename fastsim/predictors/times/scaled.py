"""Times that were not measured: a forest of another precision or of another GPU, asked for this one."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.catalog.hardware import Device
from fastsim.catalog.precisions import FORMATS
from fastsim.files import DATA
from fastsim.predictors.chip import PRECISIONS, Chip, Floats, Precision
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests.forest import Forest

FILE = DATA / "predictors" / "scaling.json"
FAST_LINK = 100  # GB/s: NVLink; what is slower is PCIe


@cache
def constants() -> dict[str, Any]:
    """What bench/scaling.py found on the GPUs and precisions that were measured; see data/predictors/README.md.

    The dictionary is shared: do not change it.
    """
    read: dict[str, Any] = json.loads(FILE.read_bytes())
    return read


@dataclass(frozen=True, slots=True)
class Scaled:
    """A measured forest whose chip or precision is replaced by that which is asked for.

    Its base time is a sum of what the chip needs for launches, bytes and FLOPs. So the part that memory bounds scales
    with bandwidth and bytes, the part that computing bounds with FLOP/s, and launches stay as they are.

    Attributes
    ----------
    forest : with the chip and the precision that are asked for.
    least : the bytes and the rate that bound the time from below.
    launch_ms : what a quantised kernel takes besides, where it is derived from one of 16 bits.
    wide : half-width of the 90 % interval, as a factor.
    """

    forest: Forest
    least: Precision
    launch_ms: float
    wide: float

    @property
    def card(self) -> dict[str, Any]:
        """The card of the measured forest."""
        return self.forest.card

    def ms(self, shape: Floats) -> Floats:
        """Times, float64[rows], ms: no shape takes less than the chip's peak FLOP/s and bandwidth allow."""
        return np.maximum(self.forest.ms(shape) + self.launch_ms, self._least_ms(shape))

    def interval(self, shape: Floats) -> tuple[Floats, Floats]:
        """Ends of an interval that holds the true time of about 90 % of shapes; float64[rows] each, ms."""
        ms = self.ms(shape)
        return np.maximum(ms / self.wide, self._least_ms(shape)), ms * self.wide

    def outside(self, shape: Floats) -> NDArray[np.bool_]:
        """True for every shape: none of them was measured."""
        return np.ones(len(shape), dtype=bool)

    def knots(self, name: str) -> Floats:
        """Values of one shape column between which times are interpolated."""
        return self.forest.knots(name)

    def dram_floor(self) -> tuple[float, float] | None:
        """Launch (ms) and sustained bandwidth (GB/s) of reading a KV cache from DRAM; None where it is not known."""
        return self.forest.dram_floor()

    def _least_ms(self, shape: Floats) -> Floats:
        shape = np.asarray(shape, dtype=np.float64)
        terms = FAMILIES[self.forest.family].work(shape, self.forest.chip, self.least)[1]
        return np.maximum(terms["compute"], terms["memory"])


def work_of(precision: str, device: Device) -> Precision:
    """The bytes that a GEMM in this precision reads on ``device``, and its rate.

    Where the device has no FLOP/s of the type, inputs stay in 16 bits and the weights are widened inside the kernel.
    """
    stored = FORMATS[precision]
    kind = rate_of(precision)
    if kind not in device.tflops:
        return Precision(stored.bits / 8, 2, 1)
    return Precision(stored.bits / 8, stored.input_bits / 8, device.tflops[kind] / device.tflops["bf16"])


def rate_of(precision: str) -> str:
    """The type of a device's FLOP/s at which a precision is multiplied."""
    bits = FORMATS[precision].input_bits
    return {16: "bf16", 8: "int8" if precision.startswith("int8") else "fp8", 4: "fp4"}[bits]


def nearest_precision(work: Precision, have: Sequence[str]) -> str:
    """The precision in ``have`` to derive another one from: one with inputs of 16 bits, or without, as the other."""
    alike = [name for name in have if (PRECISIONS[name].activation == 2) == (work.activation == 2)]

    def distance(name: str) -> float:
        known = PRECISIONS[name]
        return abs(math.log(known.weight / work.weight)) + abs(math.log(known.activation / work.activation))

    return min(alike or ["bf16"], key=distance)


def width(family: str, kinship: str, source: str | None = None) -> float:
    """Half-width of the 90 % interval, as a factor, for a GPU of that kinship.

    ``source``: the precision that the one asked for is derived from; None where it is the same.
    """
    known = constants()["half_width"][family]
    parts = [known[kinship]] if kinship != "own" else []
    if source is not None:
        way = "from_bf16" if source == "bf16" else "from_quantised"
        parts.append(known.get(way, known["from_bf16"]))
    return math.exp(math.hypot(*(math.log(part) for part in parts)))


def slowed(curve: list[list[float]], slower: float) -> list[list[float]]:
    """An all-reduce curve [elements, ms] over a link that is ``slower`` times as slow.

    What it takes at its fastest is latency, which stays.
    """
    latency = min(ms for _, ms in curve)
    return [[elements, latency + (ms - latency) * slower] for elements, ms in curve]


def chip_of(device: Device) -> Chip:
    """The figures of a device that forests use."""
    return Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)
