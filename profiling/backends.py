"""Which backends can measure a family of operators on a device, and why the others cannot."""

import re

from . import libraries
from .case import COLLECTIVES, SHAPES
from .elementwise import FUNCTIONS

ATTENTION = ("prefill_attention", "chunk_attention", "decode_attention", "decode_skewed")
FP8_FAMILIES = ("gemm", "moe", "decode_attention", "decode_skewed", "chunk_attention", "prefill_attention")
PAGED = ("flash", "flashinfer", "varlen", "triton")  # best first
SMALL = tuple(FUNCTIONS)


def candidates(family: str) -> tuple[str, ...]:
    """Return the backends that implement ``family``, those closest to the speed of a serving engine first."""
    if family in ATTENTION:
        return (*PAGED, "sdpa") if family.startswith("decode") else (*PAGED[:-1], "sdpa")
    if family in SMALL:
        return ("compiled", "torch")
    if family in COLLECTIVES:
        return ("nccl", "gloo")
    if family == "moe":
        return ("grouped", "torch")
    return ("sdpa",) if family == "mla_prefill" else ("torch",)


def missing(family: str, precision: str, backend: str, device: str) -> str:
    """Return why ``backend`` cannot measure this on ``device``, in a few words; empty if it can."""
    if family not in SHAPES:
        return f"no family is called {family!r}; there are {', '.join(SHAPES)}"
    if backend not in candidates(family):
        return f"{backend!r} does not do {family}; {', '.join(candidates(family))} do"
    if precision not in ("bf16", "fp8") or (precision == "fp8" and family not in FP8_FAMILIES):
        return f"{family} is not measured in {precision!r}"
    try:
        import torch
    except ImportError:
        return "PyTorch is not installed (pip install fastsim[profile])"
    on_cuda = device.startswith("cuda")
    if not re.fullmatch(r"cpu|cuda:\d+", device):
        return f"{device!r} is not a device; give cpu or cuda:0"
    if on_cuda and not torch.cuda.is_available():
        return f"PyTorch {torch.__version__} sees no CUDA device"
    if on_cuda and torch.device(device).index >= torch.cuda.device_count():
        return f"{device} is not one of the {torch.cuda.device_count()} CUDA devices"
    if backend in PAGED:
        reason = libraries.missing(backend, device)
    elif backend == "compiled":
        reason = "" if on_cuda else "torch.compile is used on CUDA devices only"
    elif backend == "nccl":
        there = on_cuda and torch.distributed.is_available() and torch.distributed.is_nccl_available()
        reason = "" if there else "NCCL needs CUDA devices and a PyTorch built with it"
    elif backend == "gloo":
        reason = "" if not on_cuda and torch.distributed.is_available() else "Gloo is measured between CPU processes"
    elif backend == "grouped":
        reason = _missing_grouped(precision, on_cuda, device)
    else:
        reason = ""
    return reason or (_missing_fp8(family, backend, on_cuda, device) if precision == "fp8" else "")


def _missing_grouped(precision: str, on_cuda: bool, device: str) -> str:
    import torch

    name = "_grouped_mm" if precision == "bf16" else "_scaled_grouped_mm"
    if not hasattr(torch, name):
        return f"PyTorch {torch.__version__} has no torch.{name}"
    if not on_cuda:
        return "grouped GEMMs are measured on CUDA devices only"
    major, minor = torch.cuda.get_device_capability(device)
    if (major, minor) < (9, 0):
        return f"torch.{name} needs compute capability 9.0, not {major}.{minor}"
    return ""


def _missing_fp8(family: str, backend: str, on_cuda: bool, device: str) -> str:
    import torch

    if family == "moe" and backend == "torch":
        return "the loop over experts is measured in bf16 only"
    if backend == "varlen" or (backend == "flash" and libraries.flash_version(device) != 3):
        return f"{backend} has no fp8 KV cache on this machine"
    if family in ("prefill_attention", "chunk_attention") and backend == "sdpa":
        return "scaled_dot_product_attention takes no fp8"
    if on_cuda and torch.cuda.get_device_capability(device) < (8, 9):
        return "this GPU has no fp8"
    return ""


def backends(family: str, precision: str, device: str) -> list[str]:
    """Return the backends that can measure ``family`` on ``device``, best first."""
    return [backend for backend in candidates(family) if not missing(family, precision, backend, device)]
