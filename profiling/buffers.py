"""Inputs of operators, in as many sets as it takes to exceed the cache of the device.

A model reads the weights and the KV of a layer once per iteration, so each call must find them outside the cache.
Activations have just been written by the kernel before and may be in the cache, so three sets of them are enough.
"""

from pathlib import Path
from typing import Any

MOST_SETS = 256
ACTIVATIONS = 3  # sets of inputs that the kernel before has just written
CPU_CACHE = 16_000_000  # bytes of a CPU's cache that inputs are made to exceed, at most

Tensor = Any  # torch.Tensor; PyTorch is imported by the functions that use it


def cache_bytes(device: str) -> int:
    """Return the size of the last-level cache of ``device``, bytes."""
    if device.startswith("cuda"):
        import torch

        return int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0)) or 64_000_000
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) * 1024 if text[:-1].isdigit() else 0)
    return min(max(sizes), CPU_CACHE) or CPU_CACHE


def sets_of(cold_bytes: float, device: str) -> int:
    """Return how many input sets of ``cold_bytes`` (weights or KV) together fill the cache twice."""
    return max(1, min(MOST_SETS, int(-(-2 * cache_bytes(device) // max(cold_bytes, 1)))))


def generator(device: str, seed: int) -> Any:
    """Return the random generator that draws all inputs of one measurement."""
    import torch

    return torch.Generator(device=device).manual_seed(seed)


def normal(shape: tuple[int, ...], device: str, random: Any, precision: str = "bf16", scale: float = 1.0) -> Tensor:
    """Return normally distributed values. Real data matters: power depends on it, and the clock on power."""
    import torch

    kind = torch.float8_e4m3fn if precision == "fp8" else torch.bfloat16
    values = torch.empty(shape, device=device, dtype=torch.bfloat16).normal_(0.0, scale, generator=random)
    return values if kind is torch.bfloat16 else values.to(kind)


def integers(high: int, shape: tuple[int, ...], device: str, random: Any) -> Tensor:
    """Return int64[shape], uniformly from 0 to ``high`` - 1."""
    import torch

    return torch.randint(high, shape, device=device, generator=random)
