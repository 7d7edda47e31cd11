"""``vidur:DIR``: operator times from Vidur's profiles; measured points are kept, and interpolated or predicted
between.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.predictors.chip import Chip, Columns, Floats
from fastsim.predictors.families import Size, features
from fastsim.predictors.forests.features import stacked
from fastsim.predictors.forests.fit import fit
from fastsim.predictors.measurements import vidur

from .reach import Reach
from .times import OperatorTimes

if TYPE_CHECKING:
    from fastsim.deployment.resolved import Resolved

TREES = Size(30, 600)
TINY_MS = 1e-4  # below the profiler's resolution of 1 us; replaces 0 where a logarithm is taken
GQA_OVERHEAD = 0.1  # that Vidur adds to attention of several sequences where KV heads are shared
LAUNCH_MS = 0.02  # that Vidur adds to each all-reduce


def _line(at: Floats, ms: Floats, size: int) -> Floats:
    """Times by tokens or sequences, float64[size]: the median of each measured point, interpolated, with the last
    slope.
    """
    points = np.unique(at)
    values = np.array([np.median(ms[at == point]) for point in points])
    index = np.arange(size, dtype=np.float64)
    out: Floats = np.interp(index, points, values)
    middle = np.searchsorted(points, points[-1] / 2)
    if points[-1] > points[middle]:
        slope = max(0.0, (values[-1] - values[middle]) / (points[-1] - points[middle]))
        out += slope * np.maximum(0.0, index - points[-1])
    return out


def _knots(values: Floats, last: int) -> Floats:
    """Measured values, and beyond them doublings up to ``last``."""
    measured = np.unique(values)
    more = [measured[-1] * 2.0**i for i in range(1, 40) if measured[-1] * 2.0 ** (i - 1) < last]
    return np.concatenate([measured, more])


def _grid(
    knots: Sequence[Floats], known: Floats, at: tuple[Floats, Floats], ms: Floats, ask: Sequence[Floats]
) -> Floats:
    """Interpolate ``known`` (float64[knots, knots], with measured points put in) at the points ``ask``."""
    rows, columns = (np.searchsorted(knot, values) for knot, values in zip(knots, at, strict=True))
    total, count = np.zeros(known.shape), np.zeros(known.shape)
    np.add.at(total, (rows, columns), ms)
    np.add.at(count, (rows, columns), 1)
    table = np.where(count > 0, total / np.maximum(count, 1), known)
    by_row = np.array([np.interp(ask[1], knots[1], row) for row in table])
    return np.array([np.interp(ask[0], knots[0], column) for column in by_row.T]).T


def _decode(path: Path, resolved: "Resolved", chip: Chip, reach: Reach) -> Floats:
    model, tp = resolved.model, resolved.tensor_parallel_size
    batch, kv, ms = vidur.read_attention(path, model, tp, decode=True)
    heads, kv_heads = model.num_attention_heads // tp, max(1, model.num_key_value_heads // tp)

    def seen(b: Floats, s: Floats) -> tuple[Columns, Columns]:
        fixed = np.tile([heads, kv_heads, model.head_dim], (b.size, 1))
        return features("decode_attention", np.column_stack([b, np.maximum(s, 1.0), fixed]), chip)

    knots = (_knots(batch, reach.max_num_seqs), _knots(kv, reach.max_kv))
    ask = (np.arange(reach.max_num_seqs + 1.0), np.arange(0.0, reach.max_kv + reach.kv_step, reach.kv_step))
    return _fitted(seen, (batch, kv), ms, knots, ask)


def _chunk(chunk: Floats, prefix: Floats, heads: int, kv_heads: int, dim: int, chip: Chip) -> tuple[Columns, Columns]:
    """Features and terms of a prompt chunk after ``prefix`` tokens, with and without the masked half of attention."""
    end = prefix + chunk
    pairs, square = chunk * prefix + chunk * (chunk + 1) / 2, chunk * end
    row = 4 * heads * dim / (chip.tflops * 1e9)
    moved = 2 * dim * (2 * kv_heads * end + 2 * heads * chunk) / (chip.bandwidth_gb_s * 1e6)
    waves = np.ceil(heads * np.ceil(chunk / 128) / chip.num_sms)
    logs = {"chunk": chunk, "end": end, "pairs": pairs, "square": square, "waves": waves}
    columns = {name: np.log(value) for name, value in logs.items()} | {"prefix": prefix / end}
    columns["fill"] = heads * np.ceil(chunk / 128) / (waves * chip.num_sms)
    terms = {
        "launch": np.ones_like(chunk),
        "causal": pairs * row,
        "whole": square * row,
        "memory": moved,
        "in_waves": waves * chip.num_sms * 128 * end * 4 * dim / (chip.tflops * 1e9),
        "per_key_block": np.ceil(end / 128) * 1e-3,
    }
    return columns, terms


def _prefill(path: Path, resolved: "Resolved", chip: Chip, reach: Reach) -> Floats:
    model, tp = resolved.model, resolved.tensor_parallel_size
    chunk, kv, ms = vidur.read_attention(path, model, tp, decode=False)
    heads, kv_heads = model.num_attention_heads // tp, max(1, model.num_key_value_heads // tp)

    def seen(c: Floats, prefix: Floats) -> tuple[Columns, Columns]:
        return _chunk(np.maximum(c, 1.0), prefix, heads, kv_heads, model.head_dim, chip)

    knots = (_knots(np.append(chunk, 1), reach.max_chunk), _knots(np.append(kv, 0), reach.max_kv))
    chunks = np.arange(0.0, reach.max_chunk + reach.chunk_step, reach.chunk_step)
    ask = (chunks, np.arange(0.0, reach.max_kv + reach.kv_step, reach.kv_step))
    return np.ascontiguousarray(_fitted(seen, (chunk, kv), ms, knots, ask).T)


def _fitted(seen: Any, at: tuple[Floats, Floats], ms: Floats, knots: Sequence[Floats], ask: Sequence[Floats]) -> Floats:
    columns, terms = seen(*at)
    fitted = fit(stacked(columns), terms, np.maximum(ms, TINY_MS), TREES)
    first, second = (grid.ravel() for grid in np.meshgrid(*knots, indexing="ij"))
    columns, terms = seen(first, second)
    known = fitted.base(terms) * np.exp(fitted.by_tree(stacked(columns)).mean(axis=1))
    return _grid(knots, known.reshape(knots[0].size, knots[1].size), at, ms, ask)


def operator_times(folder: Path, resolved: "Resolved", reach: Reach) -> tuple[OperatorTimes, dict[str, Any]]:
    """Operator times of a deployment from a checkout of Vidur, and what they come from (JSON-able).

    Measured points are kept as they are. Between them forests predict attention, and what depends on tokens alone is
    interpolated. Raises TableError for files that are missing, Git LFS pointers, and selections without rows.
    """
    files, model = vidur.find(folder, resolved), resolved.model
    tp, pp = resolved.tensor_parallel_size, resolved.pipeline_parallel_size
    device = resolved.device
    chip = Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)
    size = reach.max_tokens + 1
    measured, times = vidur.read_mlp(files.mlp, model, tp)
    tokens = {name: _line(measured, ms, size) for name, ms in times.items()}
    tokens["attn_kv_cache_save"] = np.zeros(size)  # part of attention in these profiles
    if files.all_reduce:
        tokens["all_reduce"] = _line(
            *vidur.read_network(files.all_reduce, "all_reduce", tp, tp, model.hidden_size), size
        )
    if files.send_recv:
        devices = 1 if tp * pp > resolved.node.num_devices else 2
        tokens["send_recv"] = _line(
            *vidur.read_network(files.send_recv, "send_recv", 2, devices, model.hidden_size), size
        )
    overhead = GQA_OVERHEAD if model.num_key_value_heads < model.num_attention_heads else 0.0
    sequences = reach.max_num_seqs + 1
    host = _line(*vidur.read_host(files.host, tp), sequences) if files.host else np.zeros(sequences)
    built = OperatorTimes(
        tokens=tokens,
        decode=_decode(files.attention, resolved, chip, reach),
        prefill=_prefill(files.attention, resolved, chip, reach),
        kv_step=reach.kv_step,
        chunk_step=reach.chunk_step,
        decode_overhead=overhead,
        prefill_overhead=overhead,
        launch_ms=LAUNCH_MS if tp > 1 else 0.0,
        host=host,
    )
    about = {"digest": files.digest(), "measured": sorted([*tokens, "attn_decode", "attn_prefill"]), "modelled": []}
    return built, about
