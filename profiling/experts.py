"""The routed experts of a layer on one GPU: gate and up, activation, down, and the sum over the experts of a token."""

from typing import Any

from .buffers import ACTIVATIONS, Tensor, generator, normal, sets_of
from .elementwise import activation, fused, quantise
from .timing import Work


def grouped(rows: Tensor, weights: Tensor, ends: Tensor, scale: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Multiply each row, [rows, k], by the transposed weights of its expert, [experts, n, k].

    Rows are sorted by expert; ``ends``, int32[experts], is where the rows of each expert end.
    """
    import torch

    turned = weights.transpose(1, 2)
    if scale is None:
        return torch._grouped_mm(rows, turned, offs=ends)
    scale_in, scale_out = scale
    return torch._scaled_grouped_mm(
        rows, turned, scale_in, scale_out, offs=ends, out_dtype=torch.bfloat16, use_fast_accum=True
    )


def looped(rows: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
    """Compute what ``grouped`` computes with one GEMM per expert; the host must know the row count of each."""
    import torch

    parts = [part @ weight.t() for part, weight in zip(rows.split(counts), weights, strict=True) if len(part)]
    return torch.cat(parts)


def routing(tokens: int, num_experts: int, local: int, topk: int, device: str, random: Any) -> tuple[Tensor, ...]:
    """Draw experts uniformly for each token, and return the rows of this GPU, which has the first ``local`` experts.

    Returns the token of each row, in order of expert; the number of rows of each expert; the weight of each row. If no
    token has an expert on this GPU, the first token goes to expert 0.
    """
    import torch

    scores = torch.rand(tokens, num_experts, device=device, generator=random)
    chosen = scores.topk(topk, -1).indices.flatten()
    owner = torch.arange(tokens, device=device).repeat_interleave(topk)
    here = chosen < local
    if not bool(here.any()):
        chosen[0], here[0] = 0, True
    chosen, owner = chosen[here], owner[here]
    order = chosen.argsort(stable=True)
    counts = torch.bincount(chosen, minlength=local)
    return owner[order], counts, torch.rand(len(order), 1, device=device, generator=random).bfloat16()


def moe(shape: tuple[int, ...], precision: str, backend: str, device: str, seed: int) -> Work:
    """Prepare the experts of a layer. ``backend``: grouped (torch._grouped_mm), or torch (a loop over the experts)."""
    import torch

    tokens, hidden, intermediate, num_experts, topk, tp, ep = shape
    width, local = max(1, intermediate // tp), max(1, num_experts // ep)
    random = generator(device, seed)
    size = 1 if precision == "fp8" else 2
    sets = sets_of(3 * hidden * width * local * size, device)
    inputs = [normal((tokens, hidden), device, random) for _ in range(min(sets, ACTIVATIONS))]
    up = [normal((local, 2 * width, hidden), device, random, precision, hidden**-0.5) for _ in range(sets)]
    down = [normal((local, hidden, width), device, random, precision, width**-0.5) for _ in range(sets)]
    routes = [routing(tokens, num_experts, local, topk, device, random) for _ in range(sets)]
    ends = [counts.cumsum(0).to(torch.int32) for _, counts, _ in routes]
    places = [owner.argsort(stable=True) for owner, _, _ in routes]
    lists = [counts.tolist() for _, counts, _ in routes]
    scales = torch.ones(local, 2 * width, device=device), torch.ones(local, hidden, device=device)
    shrink, act = (fused("quantise"), fused("activation")) if backend == "grouped" else (quantise, activation)

    def product(rows: Tensor, weights: Tensor, i: int, scale: Tensor) -> Tensor:
        if backend == "torch":
            return looped(rows, weights, lists[i])
        if precision == "bf16":
            return grouped(rows, weights, ends[i])
        narrow, scale_in = shrink(rows)
        return grouped(narrow, weights, ends[i], (scale_in.flatten(), scale))

    def call(i: int) -> Tensor:
        x = inputs[i % len(inputs)]
        owner, _, weight = routes[i]
        rows = product(x[owner], up[i], i, scales[0])
        rows = product(act(rows), down[i], i, scales[1]) * weight
        if ep == 1:  # all experts of each token are here, so that no atomic additions are needed
            return rows[places[i]].view(tokens, topk, hidden).sum(1)
        return torch.zeros_like(x).index_add_(0, owner, rows)

    return Work(call, sets)
