"""A GPU, and the node that it is part of."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU: its memory, its peak rates, its price."""

    name: str
    architecture: str | None  # "ampere", "ada", "hopper", ...; None: it is not known
    compute_capability: str | None  # of NVIDIA's CUDA, e.g. "8.6"; None: another vendor's, or it is not known
    memory_gib: float  # as the driver reports it
    torch_memory_gib: float  # as torch, and so the engine, sees it
    bandwidth_gb_s: float  # 10^9 bytes per second
    tflops: Mapping[str, float]  # dense, 10^12 per second, by type: bf16, fp8, fp4, int8
    price_per_hour: float | None  # $; None: no price is known
    power_w: float  # rated
    num_sms: int
    mixed_decode: float  # time of decode attention in a batch with prompts over that without
    skew: float  # decode attention takes as long as with mean + skew * (max - mean) KV tokens per sequence
    predictor: str | None  # the aiconfigurator system that has operator times of this device; None: there is none
    source: str

    def __hash__(self) -> int:  # mappings have none
        return hash(self.name)

    @property
    def has_bf16(self) -> bool:
        """Whether the GPU computes in bfloat16, as all do but NVIDIA's before compute capability 8.0."""
        major = (self.compute_capability or "").partition(".")[0]
        return not major.isdigit() or int(major) >= 8

    @property
    def is_amd(self) -> bool:
        """Whether it is one of AMD's GPUs."""
        return (self.architecture or "").startswith("cdna")


@dataclass(frozen=True, slots=True)
class Node:
    """A server with several GPUs: the links among its GPUs, and its network to other servers."""

    name: str
    device: str | None  # the GPUs that it holds; None: any
    num_devices: int
    link_gb_s: float  # GPU to GPU, one direction, 10^9 bytes per second
    link_latency_us: float
    network_gb_s: float  # between nodes, per GPU, one direction, 10^9 bytes per second
    pairwise: bool  # each GPU is linked to one other GPU only
    between_sockets: bool  # GPUs reach each other through the link between two CPUs, as slow as was measured there
    source: str
