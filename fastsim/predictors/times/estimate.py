"""Operator times of a model from forests, and from bytes and bandwidth where nothing was measured.

The terms and coefficients are those that agreed with measured serving runs of models outside their fit (see README
of data/predictors): small kernels move their bytes at a share of the DRAM bandwidth and cost a launch each; the host
time that the GPU does not hide is that of the engine's release (data/engines); a chunk after a prefix takes its share
of the attention of the whole prompt.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fastsim.deployment.operators.kinds import Attention
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.capture import SIZES, largest_captured, padded

from . import recurrence
from .communication import all_reduce_ms, all_to_all_ms, gather_scatter_ms, send_ms
from .device_forests import Sources
from .launches import launches_ms
from .reach import Reach
from .sampler import sampler_ms
from .shapes import gemm_rows
from .times import Floats, OperatorTimes, blocks, monotone, monotone_grid

GQA_OVERHEAD = 0.1  # added to attention of several sequences, in Vidur's composition only
TINY_MS = 1e-6  # replaces 0 where a logarithm is taken


def _token_grid(largest: int) -> np.ndarray:
    """Numbers of tokens at which GEMMs are predicted, float64[points]: the sizes that engines capture, then coarser."""
    grid = np.concatenate([padded(np.arange(1, 513), SIZES), np.arange(576, 4097, 64), np.arange(4608, 32769, 512)])
    more = np.arange(36864, max(largest, 36864) + 4096, 4096)
    grid = np.unique(np.concatenate([grid, more]))
    return grid[: np.searchsorted(grid, largest) + 1].astype(np.float64)


def _gemm_times(sources: Sources, reach: Reach) -> dict[str, Floats]:
    """Times of the layers' GEMMs by tokens, and of the LM head by sequences; each forest is called once."""
    ops = sources.operators
    grid, few = _token_grid(reach.max_tokens), _token_grid(reach.max_num_seqs)
    asked = [(gemm, grid, reach.max_tokens) for gemm in ops.gemms] + [(ops.lm_head, few, reach.max_num_seqs)]
    times = {}
    for precision in sorted({gemm.precision for gemm, _, _ in asked}):
        group = [pair for pair in asked if pair[0].precision == precision]
        shape = np.concatenate([gemm_rows(gemm, at) for gemm, at, _ in group])
        answers = np.split(sources.gemm(group[0][0]).ms(shape), np.cumsum([at.size for _, at, _ in group])[:-1])
        for (gemm, at, size), ms in zip(group, answers, strict=True):
            ms = np.maximum(monotone(ms), sources.gemm_least_ms(gemm, at))
            times[gemm.name] = np.interp(np.arange(size + 1), at, ms)
    return times


def _decode(sources: Sources, attn: Attention, reach: Reach) -> Floats:
    """Decode attention, float64[batch, kv / kv_step], ms: interpolated, and not below the time to read from cold DRAM,
    as short rows were measured from cache.
    """
    batches, lengths, knots = sources.decode_knots(attn)
    batch = np.arange(reach.max_num_seqs + 1, dtype=np.float64)
    kv = np.arange(0, reach.max_kv + reach.kv_step, reach.kv_step, dtype=np.float64)
    seen = np.minimum(kv, attn.window) if attn.window else kv
    knots = monotone_grid(knots)
    by_batch = np.array([np.interp(batch, batches, column) for column in knots.T])
    more, longer = np.maximum(1.0, batch / batches[-1]), np.maximum(1.0, seen / lengths[-1])
    forest = sources.attention(attn, "decode")
    floor = forest.dram_floor() if forest else None
    grid = np.empty((batch.size, seen.size))
    for rows in blocks(grid):
        some = grid[rows]
        _interpolate(some, seen, lengths, by_batch[:, rows].T)
        if more[rows].max() > 1 or longer[-1] > 1:
            some *= more[rows, np.newaxis] * longer
        tokens = batch[rows, np.newaxis] * seen
        least = sources.decode_least_ms(attn, tokens)
        if floor is not None:
            launch_ms, bandwidth = floor
            least = np.maximum(least, launch_ms + tokens * attn.kv_bytes_per_token() / (bandwidth * 1e6))
        np.maximum(some, least, out=some)
    return grid


def _interpolate(grid: Floats, at: Floats, knots: Floats, values: Floats) -> None:
    """Fill each row of a grid with ``np.interp`` of ``at``, which ascends, between ``knots`` with a row of values."""
    first = np.searchsorted(at, knots)  # where each line begins
    grid[:, : first[0]] = values[:, :1]
    grid[:, first[-1] :] = values[:, -1:]
    slopes = np.diff(values) / np.diff(knots)
    for line in range(len(knots) - 1):
        part = slice(first[line], first[line + 1])
        np.multiply(slopes[:, line : line + 1], at[part] - knots[line], out=grid[:, part])
        grid[:, part] += values[:, line : line + 1]


def _prefill(sources: Sources, attn: Attention, reach: Reach) -> Floats:
    """Prefill attention of one chunk, float64[kv / kv_step, chunk / chunk_step], ms.

    Only whole prompts are measured. With t(f) the time of a whole prompt of f tokens, the chunk from token p to
    token f takes (t(f) - t(1)) * (f^2 - p^2) / f^2 + t(1).
    """
    lengths, knots = sources.prefill_knots(attn)
    knots = monotone(knots)
    processed = np.arange(0, reach.max_kv + reach.kv_step, reach.kv_step, dtype=np.float64)
    chunks = np.arange(0, reach.max_chunk + reach.chunk_step, reach.chunk_step, dtype=np.float64)
    # A chunk ends at one of few places: what depends on the end alone is computed once for each of them.
    step = math.gcd(reach.kv_step, reach.chunk_step)
    every = np.arange(0, processed[-1] + chunks[-1] + step, step)

    def by_end(values: Floats) -> Floats:
        """What holds at the end of each chunk, float64[kv / kv_step, chunk / chunk_step], of values at ``every``."""
        strides = [values.itemsize * one // step for one in (reach.kv_step, reach.chunk_step)]
        return as_strided(values, (processed.size, chunks.size), strides, writeable=False)

    # Time per pair of query and key is smoother than time itself; beyond the longest prompt it is taken as constant.
    per_pair = np.log(np.maximum(knots - knots[0], TINY_MS)[1:] / lengths[1:] ** 2)
    ratio = by_end(np.exp(np.interp(np.log(np.maximum(every, 1.0)), np.log(lengths[1:]), per_pair)))
    window = float(attn.window or np.inf)

    def pairs(length: Floats) -> Floats:
        """Pairs of a query and a key that causal attention of ``length`` tokens computes."""
        inside = np.minimum(length, window)
        return inside**2 + 2 * inside * (length - inside)

    end, until_end, before = by_end(every), by_end(pairs(every)), pairs(processed)
    work = np.empty(end.shape)
    for rows in blocks(work):
        work[rows] = ratio[rows] * (until_end[rows] - before[rows, np.newaxis]) + knots[0]
    work = monotone_grid(work)
    for rows in blocks(work):
        read = np.minimum(end[rows], window + end[rows] - processed[rows, np.newaxis])
        least = sources.prefill_least_ms(attn, until_end[rows] - before[rows, np.newaxis], read)
        np.maximum(work[rows], least, out=work[rows])
    return work


def estimate(resolved: Resolved, sources: Sources, reach: Reach) -> OperatorTimes:
    """Operator times of a deployment's model, ms, per layer; operators of some layers only are spread over all
    layers.
    """
    ops, node = sources.operators, resolved.node
    tp, pp = resolved.tensor_parallel_size, resolved.pipeline_parallel_size
    count, sequences = np.arange(reach.max_tokens + 1), np.arange(reach.max_num_seqs + 1)
    tokens = _gemm_times(sources, reach)
    parts = {"lm_head": tokens.pop(ops.lm_head.name), "final_norm": sources.small_ms(ops.final_norm, sequences)}
    parts["sampler"] = sampler_ms(resolved, sequences)
    tokens = {gemm.name: _spread(tokens[gemm.name], gemm.count, ops.num_layers) for gemm in ops.gemms}
    for kernel in ops.elementwise:
        tokens[kernel.name] = _spread(sources.small_ms(kernel, count), kernel.count, ops.num_layers)
    for experts in ops.all_experts:
        grid = _token_grid(reach.max_tokens)
        ms = np.interp(count, grid, monotone(sources.experts_ms(experts, grid)))
        tokens[experts.name] = _spread(ms, experts.count, ops.num_layers)
    if not ops.experts:
        for name in ("attn_kv_cache_save", "add"):  # part of attention, and of the norms
            tokens.setdefault(name, np.zeros(count.size))
    cap = largest_captured(resolved.scheduler, resolved.enforce_eager)
    if tp > 1:
        ms = all_reduce_ms(sources, node, tp, count, cap)
        tokens["all_reduce"] = _spread(ms, ops.num_all_reduces, 2 * ops.num_layers)
    if ops.num_all_to_alls:
        tokens["moe_all_to_all"] = _spread(
            all_to_all_ms(sources, node, count, cap), ops.num_all_to_alls, ops.num_layers
        )
    if ops.num_gathers:
        ms = gather_scatter_ms(sources, node, tp, count)
        tokens["moe_gather_scatter"] = _spread(ms, ops.num_gathers, ops.num_layers)
    if pp > 1:
        tokens["send_recv"] = send_ms(sources, node, tp * pp, count)
    for part in parts.values():  # without sequences there is no work
        part[0] = 0.0
    last = parts["lm_head"] + parts["final_norm"] + parts["sampler"]
    for attn in ops.attentions:
        parts[f"{attn.name}_decode"] = _spread(_decode(sources, attn, reach), attn.count, ops.num_layers)
        parts[f"{attn.name}_prefill"] = _spread(_prefill(sources, attn, reach), attn.count, ops.num_layers)
    mixers = [attn.name for attn in ops.attentions]
    if ops.recurrence:
        mixers.append("linear")
        count_of = ops.recurrence.count
        parts["linear_decode"] = _spread(recurrence.decode_ms(sources, ops.recurrence, reach), count_of, ops.num_layers)
        parts["linear_prefill"] = _spread(
            recurrence.prefill_ms(sources, ops.recurrence, reach), count_of, ops.num_layers
        )
    host = resolved.host_times
    overhead = GQA_OVERHEAD if resolved.model.num_key_value_heads < resolved.model.num_attention_heads else 0.0
    return OperatorTimes(
        tokens=tokens,
        decode=_sum([parts[f"{name}_decode"] for name in mixers]),
        prefill=_sum([parts[f"{name}_prefill"] for name in mixers]),
        kv_step=reach.kv_step,
        chunk_step=reach.chunk_step,
        decode_overhead=overhead,
        prefill_overhead=overhead,
        first=sources.small_ms(ops.embedding, count[:3]),
        last=last,
        host=_host(host.host_ms_per_step, host.host_ms_per_sequence, sequences),
        least=_host(host.hidden_ms_per_step + launches_ms(resolved), host.hidden_ms_per_sequence, sequences),
        parts=parts,
    )


def _host(per_step: float, per_sequence: float, sequences: np.ndarray) -> Floats:
    """Host time of steps of ``sequences`` (int[n]) requests, float64[n], ms; a step without requests takes none."""
    return np.where(sequences > 0, per_step + per_sequence * sequences.astype(np.float64), 0.0)


def _spread(ms: Floats, count: int, num_layers: int) -> Floats:
    return ms if count == num_layers else ms * (count / num_layers)


def _sum(grids: list[Floats]) -> Floats:
    return grids[0] if len(grids) == 1 else np.sum(grids, axis=0)
