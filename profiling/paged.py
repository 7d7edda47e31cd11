"""A paged KV cache with random contents, and attention on it by PyTorch's SDPA."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from .buffers import Tensor, normal


class Paged(NamedTuple):
    """Several sets of a paged KV cache, and the blocks of each sequence.

    ``keys``, ``values``: [sets, blocks, tokens of a block, kv_heads, head_dim]. ``table``: int32[batch, most
    blocks of a sequence], the same in every set. ``lengths``: tokens of each sequence, new ones included;
    ``used``: the same, as int32[batch] on the device.
    """

    keys: Tensor
    values: Tensor
    table: Tensor
    lengths: tuple[int, ...]
    used: Tensor


def lengths_of(family: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the tokens of each sequence of a case, cached and new ones together."""
    batch, mean = shape[0], shape[1]
    if family == "chunk_attention":
        return (mean + shape[2],) * batch
    if family != "decode_skewed":
        return (mean,) * batch
    rest, others = batch * mean - shape[2], batch - 1
    return (shape[2], *(rest // others + (i < rest % others) for i in range(others)))


def paged(
    lengths: tuple[int, ...], sets: int, form: tuple[int, int, int], precision: str, device: str, random: Any
) -> Paged:
    """Fill a paged cache for sequences of these lengths, their blocks in random order.

    ``form``: tokens of a block, KV heads, width of a head.
    """
    import torch

    counts = torch.tensor([-(-length // form[0]) for length in lengths], device=device)
    total, most = int(counts.sum()), int(counts.max())
    keys, values = (normal((sets, total, *form), device, random, precision) for _ in range(2))
    table = torch.zeros(len(lengths), most, dtype=torch.int32, device=device)
    order = torch.randperm(total, device=device, generator=random).to(torch.int32)
    table[torch.arange(most, device=device) < counts[:, None]] = order
    return Paged(keys, values, table, lengths, torch.tensor(lengths, dtype=torch.int32, device=device))


def gathered(query: Tensor, cache: Paged, index: int) -> Tensor:
    """Decode with scaled_dot_product_attention, which takes no blocks: the blocks are first copied into one tensor.

    ``query`` and the answer are [batch, heads, head_dim]. The time of the copy counts.
    """
    import torch

    keys, values = (
        part[index][cache.table].flatten(1, 2).to(query.dtype).transpose(1, 2)  # [batch, kv_heads, tokens, head_dim]
        for part in (cache.keys, cache.values)
    )
    mask = None
    if min(cache.lengths) != keys.shape[2]:
        mask = (torch.arange(keys.shape[2], device=query.device) < cache.used[:, None])[:, None, None]
    out = torch.nn.functional.scaled_dot_product_attention(
        query[:, :, None], keys, values, attn_mask=mask, enable_gqa=query.shape[1] != keys.shape[1]
    )
    return out[:, :, 0]
