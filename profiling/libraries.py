"""Kernels of paged attention: FlashAttention, FlashInfer, PyTorch's varlen_attn, and a Triton kernel of fastsim."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from .buffers import Tensor
from .paged import Paged, gathered

BLOCK = 16  # tokens of a KV block, as in serving engines
FLASH2_BLOCK = 256  # tokens; FlashAttention-2 and PyTorch's copy of it take no smaller blocks
WORKSPACE = 256 * 1024 * 1024  # bytes in which FlashInfer keeps the parts of long sequences
Attend = Callable[[Tensor, int], Tensor]


def flash_version(device: str) -> int:
    """Return the version of FlashAttention that is installed and runs on this GPU: 3, 2, or 0 for none."""
    import torch

    if find_spec("flash_attn_interface") and torch.cuda.get_device_capability(device)[0] == 9:
        return 3
    return 2 if find_spec("flash_attn") else 0


def missing(backend: str, device: str) -> str:
    """Return why ``backend`` cannot run paged attention on ``device``; empty if it can."""
    if not device.startswith("cuda"):
        return f"{backend} runs on CUDA devices only, not on {device}"
    if backend == "flash" and not flash_version(device):
        return "FlashAttention is not installed (pip install flash-attn)"
    if backend == "flashinfer" and not find_spec("flashinfer"):
        return "FlashInfer is not installed (pip install flashinfer-python)"
    if backend == "triton" and not find_spec("triton"):
        return "Triton is not installed (pip install triton)"
    if backend == "varlen":
        import inspect

        try:
            from torch.nn.attention.varlen import varlen_attn
        except ImportError:
            return "this PyTorch has no torch.nn.attention.varlen; use 2.12 or later"
        if "block_table" not in inspect.signature(varlen_attn).parameters:
            return "varlen_attn of this PyTorch takes no block table; use 2.12 or later"
    return ""


def block_of(backend: str, device: str) -> int:
    """Return the size of a KV block that ``backend`` works with, tokens."""
    second = backend == "varlen" or (backend == "flash" and flash_version(device) == 2)
    return FLASH2_BLOCK if second else BLOCK


def attend_on(backend: str, query: Tensor, cache: Paged) -> Attend:
    """Return a function that attends with queries shaped like ``query`` to input set i of the cache, causally.

    Queries are [batch, new, heads, head_dim].
    """
    if backend == "sdpa":
        return lambda query, i: gathered(query[:, 0], cache, i)[:, None]
    if backend == "triton":
        from .paged_kernel import paged_decode

        return lambda query, i: paged_decode(
            query[:, 0], cache.keys[i], cache.values[i], cache.table, cache.used, max(cache.lengths)
        )
    if backend == "flashinfer":
        return _flashinfer(query, cache)
    return _varlen(query, cache) if backend == "varlen" else _flash(cache)


def _flash(cache: Paged) -> Attend:
    import torch

    if cache.keys.shape[2] == FLASH2_BLOCK:
        from flash_attn import flash_attn_with_kvcache

        def second(query: Tensor, i: int) -> Tensor:
            return flash_attn_with_kvcache(
                query, cache.keys[i], cache.values[i], cache_seqlens=cache.used, block_table=cache.table, causal=True
            )

        return second
    from flash_attn_interface import flash_attn_with_kvcache as with_kvcache

    scales: dict[str, Any] = {}
    narrow = cache.keys.dtype != torch.bfloat16
    if narrow:  # the queries must then be fp8 too, and each KV head has a scale
        one = torch.ones(len(cache.lengths), cache.keys.shape[-2], device=cache.keys.device)
        scales = {"q_descale": one, "k_descale": one, "v_descale": one}

    def third(query: Tensor, i: int) -> Tensor:
        return with_kvcache(
            query.to(cache.keys.dtype) if narrow else query,
            cache.keys[i],
            cache.values[i],
            cache_seqlens=cache.used,
            page_table=cache.table,
            causal=True,
            **scales,
        )

    return third


def _varlen(query: Tensor, cache: Paged) -> Attend:
    import torch
    from torch.nn.attention.varlen import varlen_attn

    batch, new, heads, _ = query.shape
    starts = torch.arange(0, (batch + 1) * new, new, dtype=torch.int32, device=query.device)
    ends = torch.nn.functional.pad(cache.used.cumsum(0), (1, 0)).to(torch.int32)

    def attend(query: Tensor, i: int) -> Tensor:
        return varlen_attn(
            query.flatten(0, 1),
            cache.keys[i],
            cache.values[i],
            starts,
            ends,
            new,
            max(cache.lengths),
            window_size=(-1, 0),
            enable_gqa=heads != cache.keys.shape[-2],
            seqused_k=cache.used,
            block_table=cache.table,
        )

    return attend


def _flashinfer(query: Tensor, cache: Paged) -> Attend:
    import flashinfer
    import torch

    batch, new, heads, dim = query.shape
    block, kv_heads = cache.keys.shape[2:4]
    counts = [-(-length // block) for length in cache.lengths]
    bounds = torch.tensor([0, *counts], dtype=torch.int32).cumsum(0).to(torch.int32).to(query.device)
    last = torch.tensor([(length - 1) % block + 1 for length in cache.lengths], dtype=torch.int32, device=query.device)
    places = torch.cat([row[:count] for row, count in zip(cache.table, counts, strict=True)])
    workspace = torch.zeros(WORKSPACE, dtype=torch.uint8, device=query.device)
    kinds = {"q_data_type": query.dtype, "kv_data_type": cache.keys.dtype}
    if new == 1:
        wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
            workspace, "NHD", use_tensor_cores=heads // kv_heads > 3
        )
        wrapper.plan(bounds, places, last, heads, kv_heads, dim, block, **kinds)
    else:
        wrapper = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "NHD")
        starts = torch.arange(0, (batch + 1) * new, new, dtype=torch.int32, device=query.device)
        wrapper.plan(starts, bounds, places, last, heads, kv_heads, dim, block, causal=True, **kinds)
    return lambda query, i: wrapper.run(query.flatten(0, 1), (cache.keys[i], cache.values[i]))
