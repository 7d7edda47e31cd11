"""The twin's time of a batch on a stage: from tables by operator as Vidur adds them, and from a ``Cost``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from reference.state import Batch

from fastsim.kernels.tables import COMPOSE_AFFINE, COMPOSE_VIDUR, Cost, FastsimTables, Floats, VidurTables

StageSeconds = Callable[[int, Batch], float]
Tables = Mapping[str, Mapping[Any, float]]  # by operator: num_tokens or (batch_size or kv, kv or chunk²) -> ms
VIDUR_KV_STEP = 64


def round_up(n: int, step: int) -> int:
    return (n + step - 1) // step * step


def decode_kv(batch: Batch, step: int) -> tuple[int, int]:
    """The number of decodes, and the mean of their tokens, cut and then rounded up to the step."""
    kv = [entry.processed for entry in batch.entries if entry.is_decode]
    return len(kv), round_up(int(sum(kv) / len(kv)), step) if kv else 0


def prefill_kv(batch: Batch, step: int) -> tuple[int, int, int]:
    """The number of prefills, the sum of their rounded tokens, and the one chunk worth all of theirs."""
    prefills = [entry for entry in batch.entries if not entry.is_decode]
    kv = sum(round_up(entry.processed, step) for entry in prefills)
    return len(prefills), kv, round(math.sqrt(sum(entry.tokens**2 for entry in prefills)))


def vidur_stage_seconds(tables: Tables, meta: Mapping[str, Any], *, tp: int, pp: int, layers: int) -> StageSeconds:
    """Vidur's sum, operator by operator. ``layers``: of the whole model. Raises KeyError outside a table."""
    decode_factor = 1 + meta["attention_decode_batching_overhead_fraction_effective"]
    prefill_factor = 1 + meta["attention_prefill_batching_overhead_fraction_effective"]
    launch, skew = meta["nccl_cpu_launch_overhead_ms"], meta["nccl_cpu_skew_overhead_per_device_ms"]

    def seconds(stage: int, batch: Batch) -> float:
        exact = batch.num_tokens
        n = round_up(exact, 8)
        decodes, kv = decode_kv(batch, VIDUR_KV_STEP)
        decode = tables["attn_decode"][decodes, kv] * (decode_factor if decodes > 1 else 1) if decodes else 0.0
        prefills, kv, chunk = prefill_kv(batch, VIDUR_KV_STEP)
        prefill = tables["attn_prefill"][kv, chunk**2] * (prefill_factor if prefills > 1 else 1) if prefills else 0.0
        all_reduce = 0.0 if tp == 1 else tables["all_reduce"][n] + launch + skew * tp**1.25
        attention = (
            tables["attn_pre_proj"][n]
            + tables["attn_post_proj"][n]
            + tables["attn_rope"][n]
            + tables["attn_kv_cache_save"][exact]
            + decode
            + prefill
            + all_reduce
            + tables["input_layernorm"][n]
        )
        mlp = (
            tables["mlp_up_proj"][n]
            + tables["mlp_down_proj"][n]
            + tables["mlp_act"][n]
            + all_reduce
            + (tables["post_attention_layernorm"][n] if "post_attention_layernorm" in tables else 0.0)
        )
        send = tables["send_recv"][n] if stage < pp - 1 else 0.0
        host = 0.0
        return ((attention + mlp + tables["add"][n]) * (layers // pp) + send) * 1e-3 + host * 1e-3

    return seconds


def cost_stage_seconds(cost: Cost) -> StageSeconds:
    """Any composition of a Cost. Raises IndexError outside a table that does not go on."""
    if cost.compose == COMPOSE_AFFINE:
        return lambda stage, batch: affine_seconds([float(term) for term in cost.affine], batch)
    if cost.compose == COMPOSE_VIDUR:
        return lambda stage, batch: folded_vidur_seconds(cost.vidur, batch, stage == cost.num_stages - 1)
    return lambda stage, batch: fastsim_seconds(
        cost.fastsim, batch, stage == 0, stage == cost.num_stages - 1, float(cost.shares[stage])
    )


def folded_vidur_seconds(t: VidurTables, batch: Batch, is_last: bool) -> float:
    n = batch.num_tokens
    decodes, kv = decode_kv(batch, t.kv_step)
    decode = float(t.decode[decodes, kv // t.kv_step]) * (t.decode_factor if decodes > 1 else 1) if decodes else 0.0
    prefills, kv, chunk = prefill_kv(batch, t.kv_step)
    prefill = float(t.prefill[kv // t.kv_step, chunk]) * (t.prefill_factor if prefills > 1 else 1) if prefills else 0.0
    attention = float(t.before_attention[n]) + decode + prefill + float(t.all_reduce[n]) + float(t.input_norm[n])
    send = 0.0 if is_last else float(t.send[n])
    return ((attention + float(t.mlp[n]) + float(t.add[n])) * t.num_layers + send) * 1e-3 + t.host_ms * 1e-3


def fastsim_seconds(t: FastsimTables, batch: Batch, is_first: bool, is_last: bool, share: float = 1.0) -> float:
    n = batch.num_tokens
    kv = [entry.processed for entry in batch.entries if entry.is_decode]
    decode = 0.0
    if kv:
        mean = sum(kv) / len(kv)
        decode = interpolate(t.decode_ms[len(kv)], (mean + t.skew * (max(kv) - mean)) / t.kv_step)
    prefill = 0.0
    for entry in batch.entries:
        if not entry.is_decode:
            prefill += interpolate_twice(t.prefill_ms, entry.processed / t.kv_step, entry.tokens / t.chunk_step)
    if len(kv) < len(batch.entries):
        decode *= t.mixed
    ms = (table_or_line(t.token_ms, t.token_slope, n) + decode + prefill) * share
    if is_first:
        ms += table_or_line(t.first_ms, t.first_slope, n)
    if is_last:
        # A sequence is sampled when it decodes, or when this chunk completes its prefill.
        sampled = [e for e in batch.entries if e.is_decode or e.processed + e.tokens == e.prefill]
        ms += float(t.last_ms[len(sampled)])
    else:
        ms += table_or_line(t.send_ms, t.send_slope, n)
    if is_first:
        ms = (ms if math.isnan(ms) else max(ms, float(t.least_ms[len(batch.entries)]))) + float(
            t.host_ms[len(batch.entries)]
        )
    return 1e-3 * ms


def affine_seconds(terms: list[float], batch: Batch) -> float:
    """The same on every stage. A decode's context counts the token that it computes, as that has been sampled."""
    constant, per_token, per_sequence, per_context_token, per_prefill_token, per_decode, per_pair, tick, *more = terms
    prefills = [entry for entry in batch.entries if not entry.is_decode]
    prefill_tokens = sum(entry.tokens for entry in prefills)
    context = sum(entry.processed for entry in batch.entries) + prefill_tokens
    ns = constant + per_token * batch.num_tokens + per_sequence * len(batch.entries)
    ns = ns + per_prefill_token * prefill_tokens + per_decode * (len(batch.entries) - len(prefills))
    ns = ns + more[min(batch.num_tokens, len(more) - 1)]
    pairs = sum(entry.processed + i for entry in prefills for i in range(1, entry.tokens + 1))
    ns = ns + per_context_token * context + per_pair * pairs
    return ns // 1000 * tick if tick else ns * 1e-9


def table_or_line(table: Floats, slope: float, n: int) -> float:
    """An entry of the table; beyond the last one, a line."""
    last = len(table) - 1
    return float(table[n]) if n <= last else float(table[last]) + slope * (n - last)


def interpolate(row: Floats, x: float) -> float:
    """Linear between entries 0, 1, 2 ...; beyond the last, as between the last two."""
    cell = min(int(x), len(row) - 2)
    low, high = float(row[cell]), float(row[cell + 1])
    return low + (high - low) * (x - cell)


def interpolate_twice(grid: Floats, x: float, y: float) -> float:
    cell = min(int(x), len(grid) - 2)
    low, high = interpolate(grid[cell], y), interpolate(grid[cell + 1], y)
    return low + (high - low) * (x - cell)
