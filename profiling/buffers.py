"""Inputs of operators: enough of them that no cache holds them all.

Weights and KV caches are read once per layer of a model, so that each call finds them cold; activations were written
by the kernel before, so that a small one is warm: three sets of those are enough.
"""

from pathlib import Path
from typing import Any

MOST_SETS = 256
ACTIVATIONS = 3  # sets of what the kernel before has just written
CPU_CACHE = 16_000_000  # bytes rotated over at most on a CPU

Tensor = Any  # torch.Tensor; PyTorch is imported by the functions that use it


def cache_bytes(device: str) -> int:
    """Bytes of the last cache before the memory of ``device``."""
    if device.startswith("cuda"):
        import torch

        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or 64_000_000
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * 1024 if text[:-1].isdigit() else 0)
    return min(max(sizes), CPU_CACHE) or CPU_CACHE


def sets_of(cold_bytes: float, device: str) -> int:
    """Input sets to go round, when each holds ``cold_bytes`` of weights or KV, so that they are twice the cache."""
    return max(1, min(MOST_SETS, int(-(-2 * cache_bytes(device) // max(cold_bytes, 1)))))


def generator(device: str, seed: int) -> Any:
    """Source of all random inputs of one measurement."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)


def normal(shape: tuple[int, ...], device: str, random: Any, precision: str = "bf16", scale: float = 1.0) -> Tensor:
    """Normally distributed values: power, and with it the clock, depends on the data."""
    import torch

    kind = torch.float8_e4m3fn if precision == "fp8" else torch.bfloat16
    values = torch.empty(shape, device=device, dtype=torch.bfloat16).normal_(0.0, scale, generator=random)
    return values if kind is torch.bfloat16 else values.to(kind)


def integers(high: int, shape: tuple[int, ...], device: str, random: Any) -> Tensor:
    """int64 from 0 to ``high`` - 1."""
    import torch

    return torch.randint(high, shape, device=device, generator=random)
