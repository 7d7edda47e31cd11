"""Attention of whole prompts, of chunks after a cached prefix, and of decodes on a paged KV cache."""

from .buffers import ACTIVATIONS, Tensor, generator, normal, sets_of
from .paged import lengths_of, paged
from .timing import Work

LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128  # widths in multi-head latent attention, the same in every DeepSeek model


def causal(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention; all are [batch, heads, tokens, head_dim], and the queries belong to the last tokens."""
    import torch

    new, total = query.shape[2], keys.shape[2]
    grouped = query.shape[1] != keys.shape[1]
    attend = torch.nn.functional.scaled_dot_product_attention
    if new == total:
        return attend(query, keys, values, is_causal=True, enable_gqa=grouped)
    if query.is_cuda:  # the flash kernels apply this mask themselves, so no tensor is made for it
        from torch.nn.attention.bias import causal_lower_right

        return attend(query, keys, values, attn_mask=causal_lower_right(new, total), enable_gqa=grouped)
    mask = torch.ones(new, total, dtype=torch.bool, device=query.device).tril(total - new)
    return attend(query, keys, values, attn_mask=mask, enable_gqa=grouped)


def latent(query: Tensor, cache: Tensor) -> Tensor:
    """Attend with query [batch, heads, LATENT + ROPE] to the compressed KV that all heads share.

    ``cache``: [batch, tokens, LATENT + ROPE]. Returns [batch, heads, LATENT].
    """
    import torch

    scores = torch.bmm(query, cache.transpose(1, 2)) * (NOPE + ROPE) ** -0.5
    return torch.bmm(scores.float().softmax(-1).to(query.dtype), cache[:, :, :LATENT])


def prefill(family: str, shape: tuple[int, ...], device: str, seed: int) -> Work:
    """Prepare attention of prompts, or of chunks after a prefix, on contiguous keys and values, by PyTorch's SDPA."""
    random = generator(device, seed)
    batch, new = shape[:2]
    if family == "mla_prefill":
        heads = kv_heads = shape[2]
        dim, value_dim, cached = NOPE + ROPE, VALUE, 0
    else:
        heads, kv_heads, dim = shape[-3:]
        value_dim, cached = dim, shape[2] if family == "chunk_attention" else 0
    sets = _sets(4 * batch * cached * kv_heads * dim, device)

    def tensor(heads: int, tokens: int, dim: int) -> Tensor:
        return normal((batch, tokens, heads, dim), device, random).transpose(1, 2)

    inputs = [
        (tensor(heads, new, dim), tensor(kv_heads, cached + new, dim), tensor(kv_heads, cached + new, value_dim))
        for _ in range(sets)
    ]
    return Work(lambda i: causal(*inputs[i]), sets)


def on_blocks(family: str, shape: tuple[int, ...], precision: str, backend: str, device: str, seed: int) -> Work:
    """Prepare attention of decodes, chunks or prompts on a paged KV cache."""
    from .libraries import attend_on, block_of

    random = generator(device, seed)
    batch, (heads, kv_heads, dim) = shape[0], shape[-3:]
    lengths = lengths_of(family, shape)
    new = 1 if family.startswith("decode") else shape[1]
    cached = sum(lengths) - (new * batch if new > 1 else 0)
    sets = _sets(cached * kv_heads * dim * (2 if precision == "fp8" else 4), device)
    cache = paged(lengths, sets, (block_of(backend, device), kv_heads, dim), precision, device, random)
    queries = [normal((batch, new, heads, dim), device, random) for _ in range(min(sets, ACTIVATIONS))]
    attend = attend_on(backend, queries[0], cache)
    return Work(lambda i: attend(queries[i % len(queries)], i), sets)


def _sets(cold_bytes: int, device: str) -> int:
    """Number of input sets; a prompt without a prefix reads only activations, so that no cold bytes are needed."""
    return sets_of(cold_bytes, device) if cold_bytes else ACTIVATIONS


def mla_decode(shape: tuple[int, ...], device: str, seed: int) -> Work:
    """Prepare latent attention of one token per sequence, as two batched matrix products."""
    batch, length, heads = shape
    random = generator(device, seed)
    sets = sets_of(2 * batch * length * (LATENT + ROPE), device)
    caches = [normal((batch, length, LATENT + ROPE), device, random) for _ in range(sets)]
    queries = [normal((batch, heads, LATENT + ROPE), device, random) for _ in range(ACTIVATIONS)]
    return Work(lambda i: latent(queries[i % ACTIVATIONS], caches[i]), sets)
