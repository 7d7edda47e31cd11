"""The small kernels between GEMMs and attention: what each computes, and its inputs.

Plain PyTorch launches a kernel per operation; torch.compile fuses each function into one kernel, as serving engines do.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

from .buffers import ACTIVATIONS, MOST_SETS, Tensor, generator, integers, normal, sets_of
from .timing import Work

EPSILON = 1e-6
FP8_MAX = 448.0
TOP_P = 0.9


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Divide x by its root mean square, in float32, and multiply by the weight."""
    wide = x.float()
    return (wide * (wide.square().mean(-1, keepdim=True) + EPSILON).rsqrt()).to(x.dtype) * weight


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the RMS norm of x + residual, and the sum."""
    total = x + residual
    return rms_norm(total, weight), total


def add(x: Tensor, residual: Tensor) -> Tensor:
    """Add the residual."""
    return x + residual


def activation(x: Tensor) -> Tensor:
    """Return silu(gate) * up; x is [tokens, 2 * width], gate first."""
    import torch

    gate, up = x.chunk(2, -1)
    return torch.nn.functional.silu(gate) * up


def quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return x in fp8, and the scale of each token."""
    import torch

    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / FP8_MAX
    return (x.float() / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def rope(query: Tensor, key: Tensor, positions: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate the halves of each head by the angles of the token's position.

    ``cache``: [positions, head_dim], cosines in the first half of a row and sines in the second.
    """
    import torch

    cos, sin = cache[positions].unsqueeze(-2).chunk(2, -1)

    def turned(x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)

    return turned(query), turned(key)


def rope_cache(positions: int, head_dim: int, device: str, base: float = 10000.0) -> Tensor:
    """Return the angles of ``rope``: bf16[positions, head_dim], cosines and then sines."""
    import torch

    speeds = base ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.arange(positions, device=device, dtype=torch.float32)[:, None] * speeds
    return torch.cat((angles.cos(), angles.sin()), -1).bfloat16()


def kv_write(key: Tensor, value: Tensor, cache: Tensor, slots: Tensor) -> None:
    """Write keys and values into their slots of the paged cache, [2, slots, kv_heads, head_dim]."""
    cache[0].index_copy_(0, slots, key)
    cache[1].index_copy_(0, slots, value)


def moe_top_k(scores: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Return the weights and the indices of the ``topk`` experts of each token."""
    weights, experts = scores.float().softmax(-1).topk(topk, -1)
    return weights / weights.sum(-1, keepdim=True), experts


def greedy(logits: Tensor) -> Tensor:
    """Return the most probable token of each sequence."""
    return logits.float().argmax(-1)


def sampling(logits: Tensor, temperature: Tensor) -> Tensor:
    """Draw a token of each sequence by the exponential race, which does not make the host wait for the GPU."""
    import torch

    chances = (logits.float() / temperature).softmax(-1)
    return (chances / torch.empty_like(chances).exponential_()).argmax(-1)


def sampling_top_p(logits: Tensor, temperature: Tensor) -> Tensor:
    """Draw a token of each sequence among the most probable tokens, as many as have TOP_P of the probability."""
    ordered, index = (logits.float() / temperature).sort(-1)
    unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - TOP_P
    kept = ordered.masked_fill(unlikely, float("-inf"))
    return sampling(kept.scatter(-1, index, kept), temperature.new_ones(()))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rms_norm": rms_norm,
    "add_rms_norm": add_rms_norm,
    "add": add,
    "activation": activation,
    "quantise": quantise,
    "rope": rope,
    "kv_write": kv_write,
    "moe_top_k": moe_top_k,
    "greedy": greedy,
    "sampling": sampling,
    "sampling_top_p": sampling_top_p,
}


def elementwise(family: str, shape: tuple[int, ...], backend: str, device: str, seed: int) -> Work:
    """Prepare one of FUNCTIONS; the backend ``compiled`` fuses it with torch.compile."""
    import torch

    random = generator(device, seed)
    function = fused(family) if backend == "compiled" else FUNCTIONS[family]
    inputs = [_inputs(family, shape, device, random) for _ in range(ACTIVATIONS)]
    if family != "kv_write":
        return Work(lambda i: function(*inputs[i]), ACTIVATIONS)
    tokens, kv_heads, dim = shape
    sets = max(ACTIVATIONS, sets_of(4 * tokens * kv_heads * dim, device))
    pool = torch.zeros(2, tokens * sets, kv_heads, dim, dtype=torch.bfloat16, device=device)
    slots = torch.randperm(tokens * sets, device=device, generator=random).split(tokens)
    return Work(lambda i: function(*inputs[i % ACTIVATIONS], pool, slots[i]), sets)


@cache
def fused(family: str) -> Callable[..., Any]:
    """Compile one of FUNCTIONS for all shapes: compiling it for each shape would take longer than the measurements."""
    import torch
    import torch._dynamo

    torch._dynamo.config.cache_size_limit = 64  # sizes of 1 and multiples of 16 are compiled separately
    compiled: Callable[..., Any] = torch.compile(FUNCTIONS[family], dynamic=True, fullgraph=True)
    return compiled


def _inputs(family: str, shape: tuple[int, ...], device: str, random: Any) -> tuple[Any, ...]:
    import torch

    tokens, width = shape[0], shape[1]
    if family == "activation":
        return (normal((tokens, 2 * width), device, random),)
    if family == "rope":
        _, heads, kv_heads, dim = shape
        angles = rope_cache(8192, dim, device)
        query, key = normal((tokens, heads, dim), device, random), normal((tokens, kv_heads, dim), device, random)
        return query, key, integers(8192, (tokens,), device, random), angles
    if family == "kv_write":
        return normal(shape, device, random), normal(shape, device, random)
    if family == "moe_top_k":
        return normal((tokens, width), device, random), shape[2]
    first = normal((tokens, width), device, random)
    if family in ("sampling", "sampling_top_p"):
        return first, torch.full((tokens, 1), 0.7, device=device)
    if family == "rms_norm":
        return first, normal((width,), device, random)
    if family == "add":
        return first, normal((tokens, width), device, random)
    if family == "add_rms_norm":
        return first, normal((tokens, width), device, random), normal((width,), device, random)
    return (first,)


def embedding(shape: tuple[int, ...], device: str, seed: int) -> Work:
    """Prepare the look-up of token embeddings; each call has other token ids."""
    import torch

    tokens, vocab, hidden = shape
    random = generator(device, seed)
    table = normal((vocab, hidden), device, random)
    ids = [integers(vocab, (tokens,), device, random) for _ in range(MOST_SETS)]
    return Work(lambda i: torch.nn.functional.embedding(ids[i], table), MOST_SETS)
