"""Features that a forest sees of a shape, and the times that a chip would need for the parts of its work.

A forest predicts log(time / base), where base is a sum of such parts (``terms``, ms) with fitted weights that the
model card holds. A leaf thus says how far a kernel stays behind the chip, which carries over to shapes it has not
seen.
"""

import numpy as np

from fastsim.predictors.chip import Chip, Columns, Features, Floats, Precision

BF16 = 2
L2_BYTES = tuple(c * 1e6 for c in (24, 36, 48, 64, 96, 128))  # sizes of L2 caches; the fit picks the chip's
SORTED_BATCH = 992  # up to this batch size FlashAttention-3 runs a separate kernel that plans its work
LATENT, ROPE, NOPE, VALUE = 512, 64, 128, 128  # of multi-head latent attention, in every DeepSeek model


def _waves(seen: Columns, name: str, tiles: Floats, chip: Chip) -> Floats:
    """Rounds in which ``tiles`` run on the SMs; adds features for their number and for how full they are."""
    waves = np.ceil(tiles / chip.num_sms)
    seen[f"waves_{name}"] = np.log(waves)
    seen[f"fill_{name}"] = tiles / (waves * chip.num_sms)
    return waves


def _work(flops: Floats, moved: Floats, chip: Chip, speed: float) -> tuple[Columns, Columns]:
    compute, memory = flops / (chip.tflops * speed * 1e9), moved / (chip.bandwidth_gb_s * 1e6)
    roofline = np.maximum(compute, memory)
    seen = {
        "flops": np.log(flops),
        "bytes": np.log(moved),
        "intensity": np.log(flops / moved),
        "compute_to_memory": np.log(compute / memory),
        "roofline_ms": np.log(roofline),
    }
    terms = {"launch": np.ones_like(flops), "memory": memory, "compute": compute}
    return seen, terms


def _beyond_cache(moved: Floats, memory: Floats) -> Columns:
    """Memory time of data that does not fit a cache, since benchmarks read the same data again and again."""
    return {f"memory_beyond_{size / 1e6:.0f}MB": memory * (moved > size) for size in L2_BYTES}


def gemm(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """A matrix product (m x k) times (k x n)."""
    m, n, k = shape.T
    moved = kind.activation * m * k + kind.weight * k * n + BF16 * m * n
    seen, terms = _work(2 * m * n * k, moved, chip, kind.speed)
    terms["roofline"] = np.maximum(terms["compute"], terms["memory"])
    seen |= {"input": np.log(m * k), "weights": np.log(k * n), "output": np.log(m * n)}
    # Block-scaled weights whose sizes are not multiples of a block run another kernel.
    seen |= {"whole_n": (n % 128 == 0).astype(np.float64), "whole_k": (k % 128 == 0).astype(np.float64)}
    for rows, columns in ((64, 64), (64, 128), (128, 128), (128, 256), (256, 128)):
        tiles = np.ceil(m / rows) * np.ceil(n / columns)
        _waves(seen, f"{rows}x{columns}", tiles, chip)
        seen[f"tile_fill_{rows}x{columns}"] = m * n / (tiles * rows * columns)
    return seen, terms


def prefill(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """Causal attention of whole prompts, which also writes their keys and values to the cache."""
    b, s, h, kv, d = shape.T
    write = 2 * b * s * kv * d * kind.weight
    seen, terms = _work(2 * b * h * d * s * (s + 1), BF16 * b * s * d * (2 * h + 2 * kv) + write, chip, 1)
    seen |= {"group": np.log(h / kv), "batch_heads": np.log(b * h), "batch_kv_heads": np.log(b * kv)}
    seen["tokens"] = np.log(b * s)
    row = 4 * s * d * chip.num_sms / (chip.tflops * 1e9)  # of one query on all SMs
    _waves(seen, "kv_heads", b * kv, chip)
    _waves(seen, "heads", b * h, chip)
    for rows in (64, 128, 192):
        waves = _waves(seen, f"{rows}", b * h * np.ceil(s / rows), chip)
        terms[f"compute_in_waves_{rows}"] = waves * rows * row
        if rows == 128:
            terms["per_wave"] = waves * 1e-3
    _waves(seen, "packed", b * kv * np.ceil(s * h / kv / 128), chip)
    terms |= {"kv_write": write / (chip.bandwidth_gb_s * 1e6), "per_sequence": b * 1e-5}
    return seen, terms


def decode(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """Attention of one new token of each sequence to its KV cache."""
    b, s, h, kv, d = shape.T
    cache = 2 * b * s * kv * d * kind.weight
    seen, terms = _work(4 * b * h * d * s, cache + BF16 * 2 * b * h * d, chip, 1)
    seen |= {"group": np.log(h / kv), "batch_heads": np.log(b * h), "batch_kv_heads": np.log(b * kv)}
    seen |= {"tokens": np.log(b * s), "sorted": (b <= SORTED_BATCH).astype(np.float64)}
    heads, groups = _waves(seen, "heads", b * h, chip), _waves(seen, "kv_heads", b * kv, chip)
    splits = np.ceil(b * kv * np.ceil(s / 128) / chip.num_sms)
    few = b <= SORTED_BATCH
    terms |= _beyond_cache(cache, cache / (chip.bandwidth_gb_s * 1e6))
    terms |= {
        "memory_in_waves": groups * chip.num_sms * 2 * s * d * kind.weight / (chip.bandwidth_gb_s * 1e6),
        "queries": BF16 * 2 * b * h * d / (chip.bandwidth_gb_s * 1e6),
        "per_wave_of_heads": heads * 1e-3,
        "per_wave": groups * 1e-3,
        "per_wave_sorted": groups * few * 1e-3,
        "per_wave_and_width": groups * d * 1e-5,
        "per_wave_and_width_sorted": groups * few * d * 1e-5,
        "per_wave_of_splits": splits * d * 1e-5,
        "per_sequence": b * 1e-5,
        "per_sequence_sorted": b * few * 1e-5,
    }
    return seen, terms


def moe(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """The experts of one GPU, with tokens spread evenly over them."""
    tokens, hidden, wide, num_experts, topk, tp, ep = shape.T
    rows, local, width = tokens * topk / ep, num_experts / ep, np.maximum(1.0, wide / tp)
    active = np.clip(rows, 1.0, local)
    each = np.maximum(1.0, rows / local)
    weights = 3 * hidden * width * active * kind.weight
    moved = weights + tokens * hidden * (BF16 + kind.activation) + rows * (BF16 * (hidden + 2 * width) + 2 * width)
    flops = 6 * np.maximum(rows, 1.0) * hidden * width
    seen, terms = _work(flops, moved, chip, kind.speed)
    terms["roofline"] = np.maximum(terms["compute"], terms["memory"])
    seen |= {"rows": np.log(np.maximum(rows, 1.0)), "rows_of_expert": np.log(each), "active": np.log(active)}
    seen |= {"local": np.log(local), "width": np.log(width), "weights": np.log(weights)}
    for size in (16, 64, 128):
        padded = active * np.ceil(each / size) * size
        terms[f"compute_padded_{size}"] = 6 * padded * hidden * width / (chip.tflops * kind.speed * 1e9)
        _waves(seen, f"up_{size}", padded / size * np.ceil(2 * width / 128), chip)
        _waves(seen, f"down_{size}", padded / size * np.ceil(hidden / 128), chip)
    bandwidth = chip.bandwidth_gb_s * 1e6
    terms |= {"rows_moved": rows * (hidden + width) * BF16 / bandwidth, "tokens_moved": tokens * hidden / bandwidth}
    terms |= {"weights": weights / bandwidth, "per_choice": tokens * topk * 1e-6, "per_expert": num_experts * 1e-5}
    return seen, terms


def mla_prefill(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """Latent attention of whole prompts, causal, on expanded keys and values."""
    b, s, h = shape.T
    width = NOPE + ROPE + VALUE
    moved = BF16 * b * s * h * (2 * NOPE + 2 * ROPE + 2 * VALUE) + kind.weight * b * s * (LATENT + ROPE)
    seen, terms = _work(b * h * width * s * (s + 1), moved, chip, 1)
    seen |= {"batch_heads": np.log(b * h), "tokens": np.log(b * s)}
    row = 2 * s * width * chip.num_sms / (chip.tflops * 1e9)
    for rows in (64, 128):
        waves = _waves(seen, f"{rows}", b * h * np.ceil(s / rows), chip)
        terms[f"compute_in_waves_{rows}"] = waves * rows * row
    terms |= {"per_wave": waves * 1e-3, "per_sequence": b * 1e-5}
    return seen, terms


def mla_decode(shape: Floats, chip: Chip, kind: Precision) -> tuple[Columns, Columns]:
    """Latent attention of one new token of each sequence to its compressed KV cache, which all heads share."""
    b, s, h = shape.T
    cache = b * s * (LATENT + ROPE) * kind.weight
    queries = BF16 * b * h * (2 * LATENT + ROPE)
    seen, terms = _work(2 * b * h * s * (2 * LATENT + ROPE), cache + queries, chip, 1)
    seen |= {"batch_heads": np.log(b * h), "tokens": np.log(b * s)}
    bandwidth = chip.bandwidth_gb_s * 1e6
    groups = _waves(seen, "sequences", b * np.ceil(h / 64), chip)
    splits = _waves(seen, "splits", b * np.ceil(h / 64) * np.ceil(s / 256), chip)
    terms |= _beyond_cache(cache, cache / bandwidth)
    terms |= {
        "compute_padded": 2 * b * np.ceil(h / 64) * 64 * s * (2 * LATENT + ROPE) / (chip.tflops * 1e9),
        "memory_in_waves": groups * chip.num_sms * s * (LATENT + ROPE) * kind.weight / bandwidth,
        "queries": queries / bandwidth,
        "per_wave": groups * 1e-3,
        "per_wave_of_splits": splits * 1e-3,
        "per_sequence": b * 1e-5,
    }
    return seen, terms


def stacked(columns: Columns) -> Features:
    """Feature columns as a forest takes them: float32[rows, features]."""
    return np.column_stack(list(columns.values())).astype(np.float32)
