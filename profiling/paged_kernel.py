"""Decode attention on a paged KV cache in Triton. Long sequences are split, and the parts combined by their weights."""

from typing import Any

import torch
import triton
import triton.language as tl

BLOCK_TOKENS = 64  # tokens that a program processes in one step


@triton.jit
def _parts(
    query, keys, values, table, used, out, weight, scale, table_width, heads, kv_heads, splits, part_length,
    group: tl.constexpr, rows: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
    step: tl.constexpr,
):  # fmt: skip
    """Attend for one sequence, one KV head with its ``group`` query heads, and one part of the tokens."""
    sequence, kv_head, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    length = tl.load(used + sequence)
    first = part * part_length
    last = tl.minimum(first + part_length, length)
    row, column = tl.arange(0, rows), tl.arange(0, wide)
    head = kv_head * group + row
    inside = (row[:, None] < group) & (column[None, :] < dim)
    q = tl.load(query + (sequence * heads + head[:, None]) * dim + column[None, :], mask=inside, other=0.0)
    best = tl.full((rows,), float("-inf"), tl.float32)
    total = tl.zeros((rows,), tl.float32)
    sums = tl.zeros((rows, wide), tl.float32)
    for start in range(first, last, step):
        token = start + tl.arange(0, step)
        there = token < last
        place = tl.load(table + sequence * table_width + token // block, mask=there, other=0).to(tl.int64)
        offset = ((place * block + token % block) * kv_heads + kv_head) * dim
        seen = there[:, None] & (column[None, :] < dim)
        k = tl.load(keys + offset[:, None] + column[None, :], mask=seen, other=0.0).to(q.dtype)
        v = tl.load(values + offset[:, None] + column[None, :], mask=seen, other=0.0).to(q.dtype)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(there[None, :], score, float("-inf"))
        higher = tl.maximum(best, tl.max(score, 1))
        shrink = tl.exp(best - higher)
        chance = tl.exp(score - higher[:, None])
        total = total * shrink + tl.sum(chance, 1)
        sums = sums * shrink[:, None] + tl.dot(chance.to(q.dtype), v)
        best = higher
    there = total > 0  # a part beyond the end of the sequence has no tokens
    sums = sums / tl.where(there, total, 1.0)[:, None]
    place = (sequence * heads + head) * splits + part
    tl.store(out + place[:, None] * dim + column[None, :], sums, mask=inside)
    logarithm = tl.where(there, best + tl.log(tl.where(there, total, 1.0)), float("-inf"))
    tl.store(weight + place, logarithm, mask=row < group)


@triton.jit
def _joined(out, weight, answer, splits, many: tl.constexpr, dim: tl.constexpr, wide: tl.constexpr):
    """Combine the parts of one query head by their weights."""
    head = tl.program_id(0)
    part, column = tl.arange(0, many), tl.arange(0, wide)
    there = part < splits
    logarithm = tl.load(weight + head * splits + part, mask=there, other=float("-inf"))
    share = tl.exp(logarithm - tl.max(logarithm, 0))
    seen = there[:, None] & (column[None, :] < dim)
    parts = tl.load(out + (head * splits + part[:, None]) * dim + column[None, :], mask=seen, other=0.0)
    joined = tl.sum(parts * share[:, None], 0) / tl.sum(share, 0)
    tl.store(answer + head * dim + column, joined.to(answer.dtype.element_ty), mask=column < dim)


def splits_of(batch: int, kv_heads: int, longest: int, processors: int) -> int:
    """Return how many parts a sequence is split into, a power of two.

    There are about two programs per processor, and a part has at least four steps.
    """
    wanted = min(2 * processors // max(batch * kv_heads, 1), -(-longest // (4 * BLOCK_TOKENS)), 128)
    return int(2 ** (max(wanted, 1) - 1).bit_length())


def paged_decode(query: Any, keys: Any, values: Any, table: Any, used: Any, longest: int) -> Any:
    """Attend with ``query``, [batch, heads, head_dim], to a paged cache; the answer has the same shape.

    ``keys``, ``values``: [blocks, tokens of a block, kv_heads, head_dim]; ``table``, ``used``: int32, as in Paged.
    ``longest``: most tokens of a sequence. The host must know it, so that a CUDA graph can hold the call.
    """
    batch, heads, dim = query.shape
    block, kv_heads = keys.shape[1], keys.shape[2]
    processors = torch.cuda.get_device_properties(query.device).multi_processor_count if query.is_cuda else 1
    splits = splits_of(batch, kv_heads, longest, processors)
    part_length = -(-longest // (splits * BLOCK_TOKENS)) * BLOCK_TOKENS
    group = heads // kv_heads
    wide = triton.next_power_of_2(dim)
    out = torch.empty(batch, heads, splits, dim, device=query.device, dtype=torch.float32)
    weight = torch.empty(batch, heads, splits, device=query.device, dtype=torch.float32)
    _parts[(batch, kv_heads, splits)](
        query, keys, values, table, used, out, weight, dim**-0.5, table.shape[1], heads, kv_heads, splits, part_length,
        group=group, rows=max(16, triton.next_power_of_2(group)), dim=dim, wide=wide, block=block, step=BLOCK_TOKENS,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    answer = torch.empty_like(query)
    _joined[(batch * heads,)](out, weight, answer, splits, many=splits, dim=dim, wide=wide)
    return answer
