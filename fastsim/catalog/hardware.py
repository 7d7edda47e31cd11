"""A GPU, and the node it stands in."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float  # 10^9 bytes per second
    tflops: Mapping[str, float]  # dense, 10^12 per second, by type: bf16, fp8, fp4, int8
    price_per_hour: float  # $
    power_w: float
    num_sms: int
    skew: float  # decode attention sees mean + skew * (max - mean) KV tokens
    predictor: str | None  # the aiconfigurator system with operator times of this device
    source: str


@dataclass(frozen=True, slots=True)
class Node:
    """One server, and the links between its GPUs and to the next server."""

    name: str
    device: str | None  # what it is made of; None: any
    num_devices: int
    link_gb_s: float  # GPU to GPU, one direction, 10^9 bytes per second
    link_latency_us: float
    network_gb_s: float  # between nodes, per GPU, one direction, 10^9 bytes per second
    pairwise: bool  # the link joins GPUs in pairs, not all to all
    source: str
