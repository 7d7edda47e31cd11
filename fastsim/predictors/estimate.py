"""``default``: operator times of a dense model from forests, and from bytes where nothing is measured.

The terms and coefficients are those that held against measured serving runs of models outside their fit (see
README of data/predictors): small kernels move their bytes at 0.8 of DRAM bandwidth and cost 2 us of launch each;
each sequence costs the host 0.02 ms per iteration that the GPU does not hide; a chunk after a prefix is its
share of the attention of the whole prompt.
"""

import numpy as np

from fastsim.catalog import Model, Node
from fastsim.operators import BYTES, Elementwise, Operators, operators

from . import shipped
from .compose import capture_cap, padded
from .limits import Limits
from .roofline import Chip
from .shipped import Forest
from .times import Floats, OperatorTimes

EFFICIENCY = 0.8  # of DRAM bandwidth, elementwise kernels
LAUNCH_MS = 0.002  # per small kernel inside a CUDA graph
HOST_MS = 0.02  # per sequence and iteration
GQA_OVERHEAD = 0.1  # of attention of several sequences, in Vidur's composition only
TINY_MS = 1e-6  # in place of 0 where a logarithm is taken
PCIE_GB_S = 32.0  # between GPUs that a pairwise link does not join

MODELLED = ("elementwise", "embedding", "send_recv", "host", "prefill after a prefix")


def monotone(values: Floats, axis: int = -1) -> Floats:
    """The middle of the running maximum and the running minimum from behind.

    Forests and measurements step back here and there; where more work costs less, a search would exploit it.
    """
    flipped = np.flip(np.minimum.accumulate(np.flip(values, axis), axis), axis)
    return np.asarray((np.maximum.accumulate(values, axis) + flipped) / 2)


def _token_grid(largest: int) -> np.ndarray:
    """Tokens at which GEMMs are asked for: what engines capture, then coarser (float64[points])."""
    grid = np.concatenate([padded(np.arange(1, 513), 512), np.arange(576, 4097, 64), np.arange(4608, 32769, 512)])
    more = np.arange(36864, max(largest, 36864) + 4096, 4096)
    grid = np.unique(np.concatenate([grid, more]))
    return grid[: np.searchsorted(grid, largest) + 1].astype(np.float64)


def _gemm_times(forest: Forest, ops: Operators, limits: Limits) -> tuple[dict[str, Floats], Floats]:
    """Times of the layer's GEMMs by tokens, and of the LM head by sequences; one call of the forest."""
    grid, few = _token_grid(limits.max_tokens), _token_grid(limits.max_num_seqs)
    asked = [(gemm, grid, limits.max_tokens) for gemm in ops.gemms] + [(ops.lm_head, few, limits.max_num_seqs)]
    shape = np.concatenate([np.column_stack([at, *np.full((2, at.size), [[g.n], [g.k]])]) for g, at, _ in asked])
    answers = np.split(forest.ms(shape), np.cumsum([at.size for _, at, _ in asked])[:-1])
    times = {
        gemm.name: np.interp(np.arange(size + 1), at, monotone(ms))
        for (gemm, at, size), ms in zip(asked, answers, strict=True)
    }
    return times, times.pop(ops.lm_head.name)


def _small(operator: Elementwise, count: np.ndarray, chip: Chip) -> Floats:
    moved: Floats = operator.bytes_per_token * count / (EFFICIENCY * chip.bandwidth_gb_s * 1e6)
    return moved + operator.num_kernels * LAUNCH_MS


def _decode(forest: Forest, ops: Operators, limits: Limits, window: int | None) -> Floats:
    """float64[batch, kv / kv_step], ms: lines between measured points, and the floor of cold DRAM."""
    heads = ops.attention
    batches, lengths = forest.knots("batch"), forest.knots("kv_length")
    at = [(b, kv, heads.heads, heads.kv_heads, heads.head_dim) for b in batches for kv in lengths]
    knots = forest.ms(np.array(at)).reshape(batches.size, lengths.size)
    batch = np.arange(limits.max_num_seqs + 1)
    kv = np.arange(0, limits.max_kv + limits.kv_step, limits.kv_step)
    seen = np.minimum(kv, window) if window else kv
    floor = forest.card["dram_floor"]
    moved = batch[:, None] * seen * heads.kv_bytes_per_token()
    cold = floor["launch_ms"] + moved / (floor["bandwidth_gb_s"] * 1e6)
    knots = monotone(monotone(knots, 0), 1)
    by_batch = np.array([np.interp(batch, batches, column) for column in knots.T])
    grid = np.array([np.interp(seen, lengths, row) for row in by_batch.T])
    beyond = np.maximum(1.0, batch / batches[-1])[:, None] * np.maximum(1.0, seen / lengths[-1])
    return np.asarray(np.maximum(grid * beyond, cold))


def _prefill(forest: Forest, ops: Operators, limits: Limits, window: int | None) -> Floats:
    """float64[kv / kv_step, chunk / chunk_step], ms, of one chunk.

    A chunk after p tokens up to f is (t(f) - t(1)) * (f^2 - p^2) / f^2 + t(1), t the time of a whole prompt:
    only those are measured.
    """
    heads = ops.attention
    lengths = forest.knots("length")
    shape = np.array([(1, length, heads.heads, heads.kv_heads, heads.head_dim) for length in lengths])
    knots = monotone(forest.ms(shape))
    processed = np.arange(0, limits.max_kv + limits.kv_step, limits.kv_step, dtype=np.float64)[:, None]
    end = processed + np.arange(0, limits.max_chunk + limits.chunk_step, limits.chunk_step)
    # Time per query and key is smooth where time itself is not; beyond the longest prompt it stays as it is.
    per_pair = np.log(np.maximum(knots - knots[0], TINY_MS)[1:] / lengths[1:] ** 2)
    ratio = np.exp(np.interp(np.log(np.maximum(end, 1.0)), np.log(lengths[1:]), per_pair))
    reach = float(window or np.inf)

    def pairs(length: Floats) -> Floats:
        inside = np.minimum(length, reach)
        return inside**2 + 2 * inside * (length - inside)

    work = ratio * (pairs(end) - pairs(processed)) + knots[0]
    return monotone(monotone(work, 0), 1)


def _all_reduce(system: str, ops: Operators, node: Node, tp: int, num_tokens: np.ndarray, cap: int) -> Floats:
    """The measured curve, of a CUDA graph up to ``cap`` tokens and eager beyond; slower links bound it."""
    card = shipped.card(system, "all_reduce")
    elements = np.maximum(1, num_tokens) * ops.hidden_size
    times = []
    for mode in ("graph", "eager"):
        curves = card["curves"][mode]
        sizes = sorted(map(int, curves))
        size, ms = np.array(curves[str(min([known for known in sizes if known >= tp], default=sizes[-1]))]).T
        times.append(np.exp(np.interp(np.log(elements), np.log(size), np.log(monotone(ms)))))
    measured: Floats = np.where(num_tokens <= cap, *times)
    link = min(node.link_gb_s, PCIE_GB_S) if node.pairwise and tp > 2 else node.link_gb_s
    if link >= card["link_gb_s"]:
        return measured
    ring = 2 * (tp - 1) / tp * BYTES * elements / (link * 1e6) + node.link_latency_us * 1e-3
    return np.asarray(np.maximum(measured, ring))


def estimate(model: Model, system: str, chip: Chip, node: Node, tp: int, pp: int, limits: Limits) -> OperatorTimes:
    """Operator times of ``model`` on ``tp`` GPUs of a stage, ms; ``system``: whose forests to ask."""
    ops = operators(model, tp)
    forests = shipped.load_all(system, chip)
    tokens, lm_head = _gemm_times(forests["gemm"], ops, limits)
    count = np.arange(limits.max_tokens + 1)
    for kernel in ops.elementwise:
        tokens[kernel.name] = _small(kernel, count, chip)
    for name in ("attn_kv_cache_save", "add"):  # part of attention, and of the norms
        tokens.setdefault(name, np.zeros(count.size))
    if tp > 1:
        cap = capture_cap(limits.max_num_seqs)
        tokens["all_reduce"] = _all_reduce(system, ops, node, tp, count, cap)
    if pp > 1:
        link = node.link_gb_s if tp * pp <= node.num_devices else node.network_gb_s
        tokens["send_recv"] = BYTES * ops.hidden_size * count / (link * 1e6) + node.link_latency_us * 1e-3
    sequences = np.arange(limits.max_num_seqs + 1)
    last = lm_head + _small(ops.final_norm, sequences, chip)
    last[0] = 0.0
    window = model.sliding_window
    overhead = GQA_OVERHEAD if model.num_key_value_heads < model.num_attention_heads else 0.0
    return OperatorTimes(
        tokens=tokens,
        decode=_decode(forests["decode_attention"], ops, limits, window),
        prefill=_prefill(forests["prefill_attention"], ops, limits, window),
        kv_step=limits.kv_step,
        chunk_step=limits.chunk_step,
        decode_overhead=overhead,
        prefill_overhead=overhead,
        first=_small(ops.embedding, count[:3], chip),
        last=last,
        host=HOST_MS * sequences.astype(np.float64),
    )
