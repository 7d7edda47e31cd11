"""Plans what to measure: a coarse grid first, then candidates between its points, dense where times jump.

The time of a GEMM jumps where one more tile of 64, 128 or 256 rows begins, and where its tiles fill all SMs once more.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .backends import FP8_FAMILIES, backends, candidates, missing
from .case import Case, impossible

if TYPE_CHECKING:
    from fastsim.deployment.operators.decoder import Operators

Shape = tuple[int, ...]
Shapes = dict[str, list[Shape]]

TOKENS = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LENGTHS = (16, 64, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
CHUNKS, PREFIXES = (64, 256, 512, 1024, 2048), (512, 2048, 8192, 32768)
SKEWS = (2, 8)  # tokens of the longest sequence over the mean
TILES = (64, 128, 256)
WIDTHS = (1024, 2560, 4096, 8192, 14336, 28672)  # n and k, to cover any model
# Heads, KV heads and width of a head, to cover any model.
HEADS = ((32, 32, 128), (32, 8, 128), (16, 4, 128), (16, 2, 128), (8, 1, 128), (4, 1, 128), (32, 8, 64), (8, 8, 64))
EXPERTS = ((4096, 14336, 8, 2), (2048, 1024, 64, 8), (4096, 1536, 128, 8), (7168, 2048, 256, 8))
VOCABULARY = 128256
MESSAGES = (1024, 8192, 65536, 524288, 4194304, 33554432)  # elements


class Limits(NamedTuple):
    """What one case may take at most, FLOPs and bytes; the SMs of the device; the group sizes of collectives."""

    flops: float
    bytes: float
    num_sms: int
    ranks: tuple[int, ...] = ()


class Plan(NamedTuple):
    """Cases to measure in order, further ones to choose from, and why some families are left out."""

    coarse: list[Case]
    candidates: list[Case]
    unavailable: dict[str, str]


def limits(machine: Mapping[str, str | float]) -> Limits:
    """Return limits within which a case takes the device about a second. ``machine``: as ``machine.machine`` has it."""
    if "num_sms" not in machine:
        return Limits(2e9, 1e8, max(1, int(machine["cpus"])))
    gpus = int(machine.get("gpus", 1))
    ranks = tuple(size for size in (2, 4, 8) if size <= gpus)
    return Limits(1e14, 0.3e9 * float(machine["memory_gb"]), int(machine["num_sms"]), ranks)


def plan(
    splits: "Sequence[Operators]", vocabulary: int, precisions: Sequence[str], device: str, limit: Limits, seed: int
) -> Plan:
    """Plan the cases of a model under each tensor parallel size (``splits``), or of any model when there is none.

    The coarse grid is in an order drawn from ``seed``, so that its first cases already cover all operators.
    """
    coarse, more = (_of_model(splits, vocabulary, limit, dense) if splits else _any(limit, dense) for dense in (0, 1))
    unavailable: dict[str, str] = {}
    cases = [_cases(shapes, precisions, device, limit, unavailable) for shapes in (coarse, more)]
    known = set(cases[0])
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(cases[0]))
    return Plan([cases[0][i] for i in order], [case for case in cases[1] if case not in known], unavailable)


def _cases(
    shapes: Shapes, precisions: Sequence[str], device: str, limit: Limits, unavailable: dict[str, str]
) -> list[Case]:
    out = []
    for family, precision in product(shapes, precisions):
        if precision != "bf16" and family not in FP8_FAMILIES:
            continue
        found = backends(family, precision, device)
        if not found:
            reasons = dict.fromkeys(missing(family, precision, name, device) for name in candidates(family))
            unavailable[f"{family} {precision}"] = "; ".join(reasons)
            continue
        for shape in dict.fromkeys(shapes[family]):
            case = Case(family, precision, shape, found[0])
            flops, moved = work(family, shape)
            if flops <= limit.flops and moved <= limit.bytes and not impossible(case):
                out.append(case)
    return out


def work(family: str, shape: Shape) -> tuple[float, float]:
    """Estimate the FLOPs and bytes of one call."""
    match family, shape:
        case ("gemm" | "lm_head", (m, n, k)):
            return 2.0 * m * n * k, 2.0 * (m * n + n * k + m * k)
        case "prefill_attention", (b, s, h, kv, d):
            return 2.0 * b * h * d * s * s, 4.0 * b * s * d * (h + kv)
        case "chunk_attention", (b, s, prefix, h, kv, d):
            return 4.0 * b * h * d * s * (prefix + s / 2), 4.0 * b * d * (s * h + (prefix + s) * kv)
        case "decode_attention", (b, s, h, kv, d):
            return 4.0 * b * s * h * d, 4.0 * b * s * kv * d
        case "decode_skewed", (b, s, _, h, kv, d):
            return 4.0 * b * s * h * d, 4.0 * b * s * kv * d
        case "moe", (tokens, hidden, wide, experts, topk, tp, ep):
            rows = tokens * topk / ep
            return 6.0 * rows * hidden * wide / tp, 6.0 * hidden * wide / tp * experts / ep + 6.0 * rows * hidden
        case "mla_prefill", (b, s, h):
            return 320.0 * b * h * s * s, 1200.0 * b * s * h
        case "mla_decode", (b, s, h):
            return 2200.0 * b * h * s, 1200.0 * b * s
        case "embedding", (tokens, vocabulary, hidden):
            return 0.0, 2.0 * hidden * (2 * tokens + vocabulary)
    return 0.0, 8.0 * float(np.prod(shape))


def tokens(num_sms: int, n: int, largest: int = TOKENS[-1]) -> list[int]:
    """Return the row counts on both sides of each jump in the time of a GEMM with ``n`` columns.

    It jumps after full tiles, and after as many tiles as all SMs process at once.
    """
    edges = {tile * count for tile in TILES for count in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)}
    for tile, rounds in product((128, 256), range(1, 5)):
        columns = -(-n // 128)
        edges.add(tile * max(1, rounds * num_sms // columns))
    fine = {round(2 ** (step / 3)) for step in range(3 * 14 + 1)}
    return sorted(m for m in {*edges, *(edge + 1 for edge in edges), *fine} if m <= largest)


def _between(points: Iterable[int]) -> list[int]:
    """Return the points, and between each two neighbours their geometric mean."""
    found = sorted(points)
    return sorted({*found, *(round((a * b) ** 0.5) for a, b in pairwise(found))})


def _gemms(sizes: Iterable[tuple[int, int]], limit: Limits, dense: int) -> Iterator[Shape]:
    for n, k in sizes:
        for m in tokens(limit.num_sms, n) if dense else TOKENS:
            yield m, n, k


def _attention(heads: int, kv_heads: int, dim: int, limit: Limits, dense: int) -> Iterator[tuple[str, Shape]]:
    lengths, batches = list(LENGTHS), list(BATCHES)
    if dense:
        waves = (rounds * limit.num_sms // kv_heads for rounds in (1, 2))  # batches that fill all SMs
        lengths, batches = _between(lengths), sorted({*_between(batches), *(w + 1 for w in waves)})
    tail = (heads, kv_heads, dim)
    for batch, length in product((1, 2, 8) if not dense else (1, 2, 4, 8, 16), lengths):
        yield "prefill_attention", (batch, length, *tail)
        if dense and length % 128 == 0:
            yield "prefill_attention", (batch, length + 1, *tail)
    for batch, length in product(batches, lengths):
        yield "decode_attention", (batch, length, *tail)
    if dense:
        return
    for chunk, prefix in product(CHUNKS, PREFIXES):
        yield "chunk_attention", (1, chunk, prefix, *tail)
    for batch, length, skew in product((4, 16, 64, 256), (256, 1024, 4096), SKEWS):
        yield "decode_skewed", (batch, length, length * min(skew, batch - 1), *tail)


def _latent(heads: int, dense: int) -> Iterator[tuple[str, Shape]]:
    lengths, batches = (_between(LENGTHS), _between(BATCHES)) if dense else (LENGTHS, BATCHES)
    for length in lengths:
        yield "mla_prefill", (1, length, heads)
    for batch, length in product(batches, lengths):
        yield "mla_decode", (batch, length, heads)


def _small(hidden: int, vocabulary: int, limit: Limits) -> Iterator[tuple[str, Shape]]:
    for count in TOKENS:
        for family in ("rms_norm", "add_rms_norm", "add", "quantise"):
            yield family, (count, hidden)
    for count in TOKENS[::3]:
        yield "embedding", (count, vocabulary, hidden)
    for count in BATCHES[::2]:
        yield "lm_head", (count, vocabulary, hidden)
        yield "host_step", (count, 1024)
        for family in ("greedy", "sampling", "sampling_top_p"):
            yield family, (count, vocabulary)
    yield "host_launch", (100,)
    for elements, ranks in product(MESSAGES, limit.ranks):
        for family in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"):
            yield family, (elements, ranks)


def _heads_small(heads: int, kv_heads: int, dim: int) -> Iterator[tuple[str, Shape]]:
    for count in TOKENS[::2]:
        yield "rope", (count, heads, kv_heads, dim)
        yield "kv_write", (count, kv_heads, dim)


def _collected(pairs: Iterable[tuple[str, Shape]]) -> Shapes:
    found: Shapes = {}
    for family, shape in pairs:
        found.setdefault(family, []).append(shape)
    return found


def _of_model(splits: "Sequence[Operators]", vocabulary: int, limit: Limits, dense: int) -> Shapes:
    def pairs() -> Iterator[tuple[str, Shape]]:
        for ops in splits:
            sizes = {(gemm.n, gemm.k): None for gemm in (*ops.gemms, ops.lm_head)}
            yield from (("gemm", shape) for shape in _gemms(sizes, limit, dense))
            for one in ops.attentions:
                if one.latent_dim:
                    yield from _latent(one.heads, dense)
                else:
                    yield from _attention(one.heads, one.kv_heads, one.head_dim, limit, dense)
                    if not dense:
                        yield from _heads_small(one.heads, one.kv_heads, one.head_dim)
            if ops.experts:
                e = ops.experts
                for count in _between(TOKENS) if dense else TOKENS:
                    yield "moe", (count, e.hidden, e.intermediate, e.num_experts, e.top_k, e.tp, e.ep)
                    if not dense:
                        yield "moe_top_k", (count, e.num_experts, e.top_k)
            if not dense:
                widths = {gemm.k for gemm in ops.gemms if gemm.name == "mlp_down_proj"}
                yield from (("activation", (count, width)) for count in TOKENS for width in widths)
                yield from _small(ops.hidden_size, vocabulary, limit)

    return _collected(pairs())


def _any(limit: Limits, dense: int) -> Shapes:
    def pairs() -> Iterator[tuple[str, Shape]]:
        yield from (("gemm", shape) for shape in _gemms(product(WIDTHS, WIDTHS), limit, dense))
        for heads, kv_heads, dim in HEADS:
            yield from _attention(heads, kv_heads, dim, limit, dense)
        for sizes in EXPERTS:
            for count, tp in product(_between(TOKENS) if dense else TOKENS, (1, 4)):
                yield "moe", (count, *sizes, tp, 1)
        if not dense:
            yield from _heads_small(32, 8, 128)
            yield from (("activation", (count, 14336)) for count in TOKENS)
            for hidden in (2048, 4096, 8192):
                yield from _small(hidden, VOCABULARY, limit)

    return _collected(pairs())
