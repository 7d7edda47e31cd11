"""Time of an iteration of one pipeline stage: look-ups and additions in dense tables of ms, or a sum of terms in ns."""

import math

from ._jit import inlined
from .state import (
    CELL,
    DECODE_KV,
    LONGEST_KV,
    NUM_DECODES,
    NUM_PREFILL_TOKENS,
    NUM_PREFILLS,
    NUM_SEQS,
    NUM_TOKENS,
    PREFILL_KV,
    PREFILL_PAIRS,
    PREFILL_SQUARES,
    RISE,
    SEGMENT_END,
    VALUE,
)
from .tables import (
    COMPOSE_AFFINE,
    COMPOSE_FASTSIM,
    COMPOSE_VIDUR,
    CONSTANT_NS,
    NUM_AFFINE,
    PER_ATTENTION_PAIR_NS,
    PER_CONTEXT_TOKEN_NS,
    PER_DECODE_NS,
    PER_PREFILL_TOKEN_NS,
    PER_SEQUENCE_NS,
    PER_TOKEN_NS,
    TICK_S,
    Cost,
    FastsimTables,
    Floats,
    Longs,
    VidurTables,
)


@inlined
def _beyond(table: Floats, slope: float, index: int) -> float:
    """The entry of a table at ``index``; beyond its last entry the table continues as a line."""
    last = table.size - 1
    return float(table[index]) if index <= last else float(table[last]) + slope * (index - last)


@inlined
def _linear(row: Floats, step: int, at: float) -> float:
    """Interpolate linearly in a row with entries every ``step``; the line of the last two continues beyond the row."""
    cell = min(int(at) // step, row.size - 2)
    low = row[cell]
    return float(low + (row[cell + 1] - low) * (at / step - cell))


@inlined
def _at_least(ms: float, least: float) -> float:
    """The larger of two times; NaN where the first one is."""
    return least if ms < least else ms


@inlined
def prefill_chunk_ms(tables: FastsimTables, processed: int, chunk: int) -> float:
    """Attention of one chunk of a prompt after ``processed`` tokens, ms."""
    grid = tables.prefill_ms
    cell = min(processed // tables.kv_step, grid.shape[0] - 2)
    low = _linear(grid[cell], tables.chunk_step, chunk)
    high = _linear(grid[cell + 1], tables.chunk_step, chunk)
    return float(low + (high - low) * (processed / tables.kv_step - cell))


@inlined
def _vidur_decode_ms(tables: VidurTables, num_decodes: int, decode_kv: int) -> float:
    """Decode attention of one layer, ms; NaN where the table has no entry."""
    if num_decodes == 0:
        return 0.0
    column = (decode_kv // num_decodes + tables.kv_step - 1) // tables.kv_step
    if num_decodes >= tables.decode.shape[0] or column >= tables.decode.shape[1]:
        return math.nan
    return float(tables.decode[num_decodes, column] * (tables.decode_factor if num_decodes > 1 else 1.0))


@inlined
def _vidur_prefill_ms(tables: VidurTables, num_prefills: int, prefill_kv: int, squares: int) -> float:
    """Prefill attention of one layer, ms; NaN where the table has no entry."""
    if num_prefills == 0:
        return 0.0
    row = prefill_kv // tables.kv_step
    chunk = int(math.sqrt(squares) + 0.5)
    if row >= tables.prefill.shape[0] or chunk >= tables.prefill.shape[1]:
        return math.nan
    return float(tables.prefill[row, chunk] * (tables.prefill_factor if num_prefills > 1 else 1.0))


@inlined
def _fastsim_decode_ms(tables: FastsimTables, num_decodes: int, decode_kv: int, longest_kv: int) -> float:
    """Decode attention of all layers of a stage, ms; NaN for more decodes than the table has rows."""
    if num_decodes == 0:
        return 0.0
    if num_decodes >= tables.decode_ms.shape[0]:
        return math.nan
    mean = decode_kv / num_decodes
    return _linear(tables.decode_ms[num_decodes], tables.kv_step, mean + tables.skew * (longest_kv - mean))


@inlined
def _affine_ns(affine: Floats, num_tokens: int, num_seqs: int, prefill_tokens: int, num_decodes: int) -> float:
    """The terms of a batch that do not depend on its context, ns."""
    return float(
        affine[CONSTANT_NS]
        + affine[PER_TOKEN_NS] * num_tokens
        + affine[PER_SEQUENCE_NS] * num_seqs
        + affine[PER_PREFILL_TOKEN_NS] * prefill_tokens
        + affine[PER_DECODE_NS] * num_decodes
        + affine[min(NUM_AFFINE + num_tokens, affine.size - 1)]
    )


@inlined
def _affine_seconds(affine: Floats, ns: float) -> float:
    """A sum of terms in s; with ticks a whole number of them, so that no time is rounded if a tick is a power of 2."""
    if affine[TICK_S] > 0.0:
        return float(math.floor(ns / 1000.0) * affine[TICK_S])
    return ns * 1e-9


@inlined
def layers_ms(cost: Cost, num_tokens: int, decode: float, prefill: float) -> float:
    """The time of a batch's layers on a mean stage, ms, given its attention; NaN where a table has no entry.

    Vidur's is (attention + mlp + add) * layers, in its order of additions.
    """
    if cost.compose == COMPOSE_FASTSIM:
        return _beyond(cost.fastsim.token_ms, cost.fastsim.token_slope, num_tokens) + decode + prefill
    tables = cost.vidur
    if num_tokens >= tables.mlp.size:
        return math.nan
    attention = (
        tables.before_attention[num_tokens]
        + decode
        + prefill
        + tables.all_reduce[num_tokens]
        + tables.input_norm[num_tokens]
    )
    return float((attention + tables.mlp[num_tokens] + tables.add[num_tokens]) * tables.num_layers)


@inlined
def decode_ms(cost: Cost, num_decodes: int, decode_kv: int, longest_kv: int) -> float:
    """Attention of ``num_decodes`` decodes that have processed ``decode_kv`` tokens in all, ms."""
    if cost.compose == COMPOSE_VIDUR:
        return _vidur_decode_ms(cost.vidur, num_decodes, decode_kv)
    return _fastsim_decode_ms(cost.fastsim, num_decodes, decode_kv, longest_kv)


@inlined
def decodes_alone_ms(cost: Cost, features: Longs) -> float:
    """The same as batch_ms, if the batch had its decodes only."""
    number, kv = features[NUM_DECODES], features[DECODE_KV]
    if cost.compose == COMPOSE_AFFINE:
        return float(_affine_ns(cost.affine, number, number, 0, number) + cost.affine[PER_CONTEXT_TOKEN_NS] * kv)
    return layers_ms(cost, number, decode_ms(cost, number, kv, features[LONGEST_KV]), 0.0)


@inlined
def batch_ms(cost: Cost, features: Longs, prefill_ms: float) -> float:
    """The time of a batch's layers on a mean stage, ms; of an affine sum all its terms, ns.

    ``prefill_ms``: attention of its chunks (fastsim).
    """
    return batch_ms_padded(cost, features, prefill_ms, features[NUM_TOKENS])


@inlined
def batch_ms_padded(cost: Cost, features: Longs, prefill_ms: float, num_tokens: int) -> float:
    """The same of a batch that is padded to ``num_tokens``, which attention does not see."""
    prefill = prefill_ms
    if cost.compose == COMPOSE_AFFINE:
        prefill_tokens = features[NUM_PREFILL_TOKENS]
        context = features[DECODE_KV] + features[PREFILL_KV] + prefill_tokens
        ns = _affine_ns(cost.affine, num_tokens, features[NUM_SEQS], prefill_tokens, features[NUM_DECODES])
        # A token of a chunk attends to those before the chunk, to those before it in the chunk, and to itself.
        pairs = features[PREFILL_PAIRS] + (features[PREFILL_SQUARES] + prefill_tokens) // 2
        return float(ns + cost.affine[PER_CONTEXT_TOKEN_NS] * context + cost.affine[PER_ATTENTION_PAIR_NS] * pairs)
    if cost.compose == COMPOSE_VIDUR:
        prefill = _vidur_prefill_ms(cost.vidur, features[NUM_PREFILLS], features[PREFILL_KV], features[PREFILL_SQUARES])
    decode = decode_ms(cost, features[NUM_DECODES], features[DECODE_KV], features[LONGEST_KV])
    if cost.compose == COMPOSE_FASTSIM and features[NUM_PREFILLS] > 0:
        decode *= cost.fastsim.mixed
    return layers_ms(cost, num_tokens, decode, prefill)


@inlined
def shared_ms(cost: Cost, num_tokens: int) -> float:
    """What all ranks compute together where each has ``num_tokens`` tokens, ms; beside an affine sum, ns."""
    return _beyond(cost.ranks.shared_ms, cost.ranks.shared_slope, num_tokens)


@inlined
def stage_seconds(cost: Cost, num_tokens: int, num_seqs: int, num_sampled: int, layers_ms: float, stage: int) -> float:
    """Time of a batch on one stage, s: its layers, and the operators that only the first, last or inner stages run.

    ``layers_ms``: of batch_ms.
    """
    last = stage == cost.num_stages - 1
    if cost.compose == COMPOSE_AFFINE:
        return _affine_seconds(cost.affine, layers_ms)
    if cost.compose == COMPOSE_VIDUR:
        send = 0.0 if last else cost.vidur.send[num_tokens]
        return float((layers_ms + send) * 1e-3 + cost.vidur.host_ms * 1e-3)
    tables = cost.fastsim
    ms = layers_ms * cost.shares[stage]
    if stage == 0:
        ms += _beyond(tables.first_ms, tables.first_slope, num_tokens)
    if last:
        ms += tables.last_ms[num_sampled]
    else:
        ms += _beyond(tables.send_ms, tables.send_slope, num_tokens)
    if stage == 0:
        ms = _at_least(ms, tables.least_ms[num_seqs]) + tables.host_ms[num_seqs]
    return float(ms * 1e-3)


@inlined
def inner_stage_terms(cost: Cost, num_tokens: int, layers_ms: float) -> tuple[float, float, float, float]:
    """A batch takes (base * share + more) * scale + host s on a stage between the first and the last one.

    The same as stage_seconds. ``share``: of the stage in fastsim's composition, otherwise 1.
    """
    if cost.compose == COMPOSE_AFFINE:
        return _affine_seconds(cost.affine, layers_ms), 0.0, 1.0, 0.0
    if cost.compose == COMPOSE_VIDUR:
        return layers_ms, cost.vidur.send[num_tokens], 1e-3, cost.vidur.host_ms * 1e-3
    return layers_ms, _beyond(cost.fastsim.send_ms, cost.fastsim.send_slope, num_tokens), 1e-3, 0.0


@inlined
def host_seconds(cost: Cost, num_seqs: int) -> float:
    """Host time in a batch, summed over stages, s; an affine sum does not tell it apart."""
    if cost.compose == COMPOSE_AFFINE:
        return 0.0
    if cost.compose == COMPOSE_VIDUR:
        return cost.num_stages * cost.vidur.host_ms * 1e-3
    return float(cost.fastsim.host_ms[num_seqs]) * 1e-3


@inlined
def steady_parts(cost: Cost, number: int) -> tuple[float, float, float, float, float]:
    """The terms that stay the same, ms (affine: ns), while ``number`` decodes run alone on one stage."""
    if cost.compose == COMPOSE_AFFINE:
        return _affine_ns(cost.affine, number, number, 0, number), 0.0, 0.0, 0.0, 0.0
    if cost.compose == COMPOSE_FASTSIM:
        tables = cost.fastsim
        first = _beyond(tables.first_ms, tables.first_slope, number)
        layers = _beyond(tables.token_ms, tables.token_slope, number)
        return layers, first, tables.last_ms[number], tables.least_ms[number], tables.host_ms[number]
    vidur = cost.vidur
    if number >= vidur.mlp.size:
        return math.nan, 0.0, 0.0, 0.0, 0.0
    return (
        vidur.before_attention[number],
        vidur.all_reduce[number],
        vidur.input_norm[number],
        vidur.mlp[number],
        vidur.add[number],
    )


@inlined
def steady_segment(cost: Cost, number: int, kv: float) -> tuple[float, float, float, float]:
    """The segment of decode attention's line that holds ``kv`` tokens: value, rise, cell, and its end in tokens."""
    if cost.compose == COMPOSE_AFFINE:
        return 0.0, cost.affine[PER_CONTEXT_TOKEN_NS], 0.0, math.inf
    if cost.compose == COMPOSE_FASTSIM:
        tables = cost.fastsim
        if number >= tables.decode_ms.shape[0]:
            return math.nan, 0.0, 0.0, math.inf
        row = tables.decode_ms[number]
        last = row.size - 2
        cell = min(int(kv) // tables.kv_step, last)
        end = math.inf if cell == last else float((cell + 1) * tables.kv_step)
        return row[cell], row[cell + 1] - row[cell], float(cell), end
    step = cost.vidur.kv_step
    column = (int(kv) + step - 1) // step
    return _vidur_decode_ms(cost.vidur, number, int(kv) * number), 0.0, 0.0, float(column * step + 1)


@inlined
def steady_seconds(cost: Cost, parts: tuple[float, float, float, float, float], attention: float) -> float:
    """The same as stage_seconds of batch_ms, with the same additions in the same order."""
    if cost.compose == COMPOSE_AFFINE:
        return _affine_seconds(cost.affine, parts[0] + attention)
    if cost.compose == COMPOSE_FASTSIM:
        return (_at_least(parts[0] + attention + parts[1] + parts[2], parts[3]) + parts[4]) * 1e-3
    ms = (parts[0] + attention + parts[1] + parts[2] + parts[3] + parts[4]) * cost.vidur.num_layers
    return ms * 1e-3 + cost.vidur.host_ms * 1e-3


@inlined
def steady_kv(cost: Cost, number: int, decode_kv: int, longest_kv: int) -> float:
    """Where ``number`` decodes alone are on decode attention's line, tokens; the arguments are those of decode_ms."""
    if cost.compose == COMPOSE_AFFINE:
        return float(decode_kv)
    if cost.compose == COMPOSE_VIDUR:
        return float(decode_kv // number)
    mean = decode_kv / number
    return float(mean + cost.fastsim.skew * (longest_kv - mean))


@inlined
def steady_layers_ms(cost: Cost, number: int, decode_kv: int, longest_kv: int, segment: Floats) -> float:
    """The same as decodes_alone_ms, where tokens only grow from call to call.

    ``segment`` keeps what steady_segment returns; its end is to be negative at first.
    """
    kv = steady_kv(cost, number, decode_kv, longest_kv)
    if not kv < segment[SEGMENT_END]:
        segment[VALUE], segment[RISE], segment[CELL], segment[SEGMENT_END] = steady_segment(cost, number, kv)
    attention = segment[VALUE] + segment[RISE] * (kv / cost.fastsim.kv_step - segment[CELL])
    if cost.compose == COMPOSE_AFFINE:
        return float(_affine_ns(cost.affine, number, number, 0, number) + attention)
    return layers_ms(cost, number, attention, 0.0)
