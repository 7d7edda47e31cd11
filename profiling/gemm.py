"""The GEMM of a linear layer, [m, k] times [k, n], and the LM head."""

from .buffers import ACTIVATIONS, generator, normal, sets_of
from .timing import Work


def gemm(shape: tuple[int, ...], precision: str, device: str, seed: int) -> Work:
    """Prepare ``x @ weight.T`` as a linear layer computes it; the weights are not in the cache."""
    import torch

    m, n, k = shape
    random = generator(device, seed)
    sets = sets_of(n * k * (1 if precision == "fp8" else 2), device)
    inputs = [normal((m, k), device, random, precision) for _ in range(min(sets, ACTIVATIONS))]
    weights = [normal((n, k), device, random, precision, k**-0.5) for _ in range(sets)]
    if precision == "bf16":
        return Work(lambda i: torch.nn.functional.linear(inputs[i % len(inputs)], weights[i]), sets)
    # One scale per token and one per output column, as serving engines quantise dynamically.
    scale_in, scale_out = torch.ones(m, 1, device=device), torch.ones(1, n, device=device)

    def call(i: int) -> torch.Tensor:
        return torch._scaled_mm(
            inputs[i % len(inputs)],
            weights[i].t(),
            scale_a=scale_in,
            scale_b=scale_out,
            out_dtype=torch.bfloat16,
            use_fast_accum=device.startswith("cuda"),
        )

    return Work(call, sets)


def lm_head(shape: tuple[int, ...], device: str, seed: int) -> Work:
    """Prepare the LM head: pick the last token of each sequence of a batch, and multiply by the embedding."""
    import torch

    tokens, vocab, hidden = shape
    random = generator(device, seed)
    sets = sets_of(vocab * hidden * 2, device)
    states = normal((2 * tokens, hidden), device, random)
    last = torch.arange(1, 2 * tokens, 2, device=device)
    weights = [normal((vocab, hidden), device, random, scale=hidden**-0.5) for _ in range(sets)]
    return Work(lambda i: torch.nn.functional.linear(states[last], weights[i]), sets)
