"""From operator times to the tables that a kernel reads, in Vidur's composition and in fastsim's."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.tables import FastsimTables, VidurTables
from fastsim.predictors.capture import capture_cap, padded, sizes_up_to
from fastsim.predictors.times.times import Floats, OperatorTimes

NO_ROW, NO_GRID = np.zeros(0), np.zeros((0, 0))
NO_VIDUR = VidurTables(NO_ROW, NO_ROW, NO_ROW, NO_ROW, NO_ROW, NO_ROW, NO_GRID, NO_GRID, 1, 1.0, 1.0, 0, 0.0)
NO_FASTSIM = FastsimTables(
    NO_ROW, 0.0, NO_ROW, 0.0, NO_ROW, NO_ROW, NO_ROW, NO_ROW, 0.0, NO_GRID, NO_GRID, 1, 1, 0.0, 1.0
)


def vidur_tables(times: OperatorTimes, tensor_parallel_size: int, num_layers: int) -> VidurTables:
    """The tables of Vidur's composition, with its order of additions (Vidur's base_execution_time_predictor).

    Everything but the KV write is looked up at the number of tokens rounded up to 8; beyond the source's entries
    there is NaN. ``num_layers``: of one stage.
    """
    size = max(table.size for table in times.tokens.values())
    rounded = (np.arange(size) + 7) // 8 * 8

    def exact(name: str) -> Floats:
        out = np.full(size, np.nan)
        out[: times.tokens[name].size] = times.tokens[name]
        return out

    def at(name: str) -> Floats:
        if name not in times.tokens:
            return np.zeros(size)
        table = exact(name)
        return np.where(rounded < size, table[np.minimum(rounded, size - 1)], np.nan)

    if tensor_parallel_size > 1:
        all_reduce = at("all_reduce") + times.launch_ms + times.skew_ms * tensor_parallel_size**1.25
    else:
        all_reduce = np.zeros(size)
    attention = at("attn_pre_proj") + at("attn_post_proj") + at("attn_rope") + exact("attn_kv_cache_save")
    mlp = at("mlp_up_proj") + at("mlp_down_proj") + at("mlp_act") + all_reduce + at("post_attention_layernorm")
    return VidurTables(
        before_attention=attention,
        all_reduce=all_reduce,
        input_norm=at("input_layernorm"),
        mlp=mlp,
        add=at("add"),
        send=at("send_recv"),
        decode=times.decode,
        prefill=times.prefill,
        kv_step=times.kv_step,
        decode_factor=1.0 + times.decode_overhead,
        prefill_factor=1.0 + times.prefill_overhead,
        num_layers=num_layers,
        host_ms=0.0,
    )


def line(values: Floats, size: int, first: int = 0) -> Floats:
    """A row without gaps, at least ``size`` long, interpolated between its entries and extrapolated beyond them.

    The slope beyond is that of the last half of the row, since a measured end is noisy. Before the first entry, at
    ``first`` or later, that entry holds.
    """
    known = np.flatnonzero(~np.isnan(values))
    row: Floats = _lines(values[np.newaxis], size, known[known >= first])[0]
    return row


def _lines(values: Floats, size: int, known: NDArray[np.int64]) -> Floats:
    """Rows like those of ``line``, whose entries are at the same places, ``known``."""
    at, entries = np.arange(max(size, values.shape[1])), values[:, known]
    rows = np.repeat(entries[:, :1], at.size, axis=1)
    last = known[-1]
    if known.size == last + 1 - known[0]:
        rows[:, known[0] : last] = entries[:, :-1]
    elif known.size > 1:
        before = np.searchsorted(known, at[known[0] : last], side="right") - 1
        slopes = np.diff(entries) / np.diff(known)
        rows[:, known[0] : last] = slopes[:, before] * (at[known[0] : last] - known[before]) + entries[:, before]
    rows[:, last:] = entries[:, -1:]
    half = known[np.searchsorted(known, last // 2)]
    if half < last:
        slope = np.maximum(0.0, (values[:, last] - values[:, half]) / (last - half))
        rows[:, last:] += slope[:, np.newaxis] * (at[last:] - last)
    return rows


def end_slope(table: Floats) -> float:
    """Slope of the last half of a table, at least 0, by which the table is extrapolated."""
    half = table.size // 2
    return max(0.0, float(table[-1] - table[half]) / max(1, table.size - 1 - half))


def grid(values: Floats, rows: int) -> Floats:
    """A grid without gaps with at least ``rows`` rows, and two rows and columns at least, which interpolation needs.

    Where ``values`` is one, it is returned.
    """
    width = max(2, values.shape[1])
    shape = max(2, rows, values.shape[0]), width
    if values.shape == shape and not np.isnan(np.min(values)):
        return values
    gaps = np.isnan(values)
    lines, whole = np.flatnonzero(~gaps.all(axis=1)), set(np.flatnonzero(~gaps.any(axis=1)))
    out = np.full(shape, np.nan)
    for i in lines:
        out[i] = values[i] if i in whole and width == values.shape[1] else line(values[i], width)
    if len(lines) < out.shape[0]:
        out = _lines(out.T, out.shape[0], lines).T
    return np.ascontiguousarray(out)


def fastsim_tables(
    times: OperatorTimes,
    tensor_parallel_size: int,
    num_layers: float,
    max_num_seqs: int,
    skew: float,
    captured: Sequence[int] | None = None,
    mixed: float = 1.0,
) -> FastsimTables:
    """The tables of fastsim's composition: everything summed over the layers of one stage, on average.

    Batches are padded to the sizes that an engine has ``captured``, None for those of vLLM. ``skew``: decode attention
    of sequences of several lengths is looked up at mean + skew * (longest - mean) KV tokens, and takes ``mixed`` times
    as long in a batch with prompts.
    """
    size = max(table.size for table in times.tokens.values())
    layer = np.zeros(size)
    for name in times.tokens:
        if name not in ("all_reduce", "send_recv"):
            layer += of_layer(times, name, size)
    if tensor_parallel_size > 1:
        layer += of_layer(times, "all_reduce", size, tensor_parallel_size)
    token_ms = num_layers * layer[ran_sizes(size, max_num_seqs, captured)]
    token_ms[0] = 0.0
    decode = num_layers * grid(times.decode, max_num_seqs + 1)
    decode[0] = 0.0
    send = of_layer(times, "send_recv", size)
    first = line(times.first, 2)
    return FastsimTables(
        token_ms=token_ms,
        token_slope=end_slope(token_ms),
        first_ms=first,
        first_slope=end_slope(first),
        last_ms=line(times.last, max_num_seqs + 1),
        host_ms=line(times.host, max_num_seqs + 1),
        least_ms=line(times.least, max_num_seqs + 1),
        send_ms=send,
        send_slope=end_slope(send),
        decode_ms=decode,
        prefill_ms=num_layers * grid(times.prefill, 2),
        kv_step=times.kv_step,
        chunk_step=times.chunk_step,
        skew=skew,
        mixed=mixed,
    )


def of_layer(times: OperatorTimes, name: str, size: int, tensor_parallel_size: int = 1) -> Floats:
    """What an operator takes in a layer, float64[size], ms, by tokens of the batch: all-reduces twice."""
    row = line(times.tokens[name], size, first=1) if name in times.tokens else np.zeros(size)
    if name == "all_reduce":
        row = 2.0 * (row + times.launch_ms + times.skew_ms * tensor_parallel_size**1.25)
    return row


def ran_sizes(size: int, max_num_seqs: int, captured: Sequence[int] | None) -> NDArray[np.int64]:
    """The sizes that batches of 0 to ``size`` - 1 tokens run at, int64[size]; see ``fastsim_tables``."""
    sizes = captured or sizes_up_to(capture_cap(max_num_seqs))
    ran: NDArray[np.int64] = np.minimum(padded(np.arange(size), sizes), size - 1)
    return ran
