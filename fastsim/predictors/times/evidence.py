"""What is known of each operator's time in one iteration: its shape, its work, and how sure its time is."""

from dataclasses import dataclass

import numpy as np

from fastsim.deployment.operators.kinds import BYTES, Attention, Elementwise, Gemm, Recurrence
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.capture import captured, largest_captured, padded
from fastsim.predictors.forests.forest import Forest
from fastsim.predictors.times.iteration import Iteration

from . import deep_gemm
from .communication import all_reduce_card, all_to_all_rows, gather_curve, link_gb_s, send_curve
from .device_forests import Sources
from .recurrence import BLOCK, OUTSIDE
from .scaled import FAST_LINK, Scaled, width
from .shapes import decode_rows, expert_rows, gemm_rows, prefill_rows
from .times import Floats

# Half-widths of 90 % intervals, as factors, where no forest gives one: of formulas, judged by how far kernels of one
# kind lie apart; of curves that were measured with the same number of GPUs.
MODELLED, CURVE = 1.5, 1.1


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one operator's time.

    Attributes
    ----------
    count : times that the operator runs in an iteration, over all stages.
    shape : its sizes by name.
    flops, bytes_moved : of one run, on one GPU.
    how : ``measured``, ``outside`` (of what was measured), ``modelled`` (by a formula) or ``given`` (by the user).
    low, high : ends of the 90 % interval of its time, as factors of the time.
    """

    count: int
    shape: dict[str, int]
    flops: float
    bytes_moved: float
    how: str
    low: float
    high: float


def evidence_of(resolved: Resolved, sources: Sources, iteration: Iteration) -> dict[str, Evidence]:
    """What is known of every operator that runs in ``iteration``, by its name in OperatorTimes."""
    ops = sources.operators
    tokens = int(padded(np.array([iteration.num_tokens]), captured(resolved.scheduler, resolved.enforce_eager))[0])
    sampled = iteration.num_seqs
    known = {gemm.name: _gemm(sources, gemm, tokens) for gemm in ops.gemms}
    for kernel in ops.elementwise:
        known[kernel.name] = _small(kernel, tokens)
    for experts in ops.all_experts:
        sizes = {"tokens": tokens, "hidden": experts.hidden, "intermediate": experts.intermediate}
        sizes |= {"experts": experts.num_experts, "topk": experts.top_k, "tp": experts.tp, "ep": experts.ep}
        rows = expert_rows(experts, np.array([float(tokens)]))
        moved = experts.bytes_read(tokens) + experts.bytes_written(tokens)
        work = (experts.count, sizes, experts.flops(tokens), moved)
        asked = _asked(sources.experts(experts), rows)
        if sources.pads_experts(experts):
            asked = ("modelled", 1 / deep_gemm.HALF_WIDTH, deep_gemm.HALF_WIDTH)
        known[experts.name] = Evidence(*work, *asked)
    for attn in ops.attentions:
        known |= _attention(sources, attn, iteration, resolved.device.skew)
    if ops.recurrence:
        known |= _recurrence(ops.recurrence, iteration)
    known |= communication(resolved, sources, tokens, iteration.num_tokens)
    known["embedding"] = _small(ops.embedding, iteration.num_tokens)
    known["final_norm"] = _small(ops.final_norm, sampled)
    known["lm_head"] = _gemm(sources, ops.lm_head, sampled)
    logits = 4.0 * sampled * resolved.model.vocab_size
    known["sampler"] = Evidence(1, {"sequences": sampled}, 0, logits, "modelled", 1 / MODELLED, MODELLED)
    known["host"] = Evidence(1, {"sequences": sampled}, 0, 0, "modelled", 1 / MODELLED, MODELLED)
    return known


def _asked(forest: Forest | Scaled | None, rows: Floats) -> tuple[str, float, float]:
    """How a time is known, and the interval's ends, for what a forest predicts for several shapes together."""
    if forest is None:
        return "modelled", 1 / MODELLED, MODELLED
    total = float(forest.ms(rows).sum())
    low, high = forest.interval(rows)
    how = "outside" if forest.outside(rows).any() else "measured"
    return how, float(low.sum()) / total, float(high.sum()) / total


def _gemm(sources: Sources, gemm: Gemm, tokens: int) -> Evidence:
    rows = gemm_rows(gemm, np.array([float(tokens)]))
    sizes = {"m": tokens, "n": gemm.n, "k": gemm.k}
    work = (gemm.count, sizes, gemm.flops(tokens), gemm.bytes_moved(tokens))
    return Evidence(*work, *_asked(sources.gemm(gemm), rows))


def _small(kernel: Elementwise, tokens: int) -> Evidence:
    moved = kernel.bytes_per_token * tokens
    return Evidence(kernel.count, {"tokens": tokens}, 0, moved, "modelled", 1 / MODELLED, MODELLED)


def _attention(sources: Sources, attn: Attention, iteration: Iteration, skew: float) -> dict[str, Evidence]:
    known = {}
    heads = {"heads": attn.heads, "kv_heads": attn.kv_heads, "head_dim": attn.head_dim}
    if attn.latent_dim:
        heads = {"heads": attn.heads, "latent_dim": attn.latent_dim}
    if number := iteration.num_decodes:
        length = min(iteration.decode_kv(skew), attn.window or np.inf)
        kv = max(1, round(length))
        sizes = {"batch": number, "kv_length": kv, **heads}
        rows = decode_rows(attn, np.array([float(number)]), np.array([float(kv)]))
        work = (attn.count, sizes, number * attn.flops(kv, 1), number * kv * attn.kv_bytes_per_token())
        known[f"{attn.name}_decode"] = Evidence(*work, *_asked(sources.attention(attn, "decode"), rows))
    if chunks := iteration.chunks:
        ends = np.array([float(tokens + processed) for tokens, processed in chunks])
        how, low, high = _asked(sources.attention(attn, "prefill"), prefill_rows(attn, ends))
        if how == "measured" and any(processed for _, processed in chunks):
            how, low, high = "modelled", min(low, 1 / MODELLED), max(high, MODELLED)
        flops = sum(attn.flops(processed, tokens) for tokens, processed in chunks)
        moved = sum(ends) * attn.kv_bytes_per_token()
        sizes = {"chunks": len(chunks), "tokens": sum(tokens for tokens, _ in chunks), **heads}
        known[f"{attn.name}_prefill"] = Evidence(attn.count, sizes, flops, moved, how, low, high)
    return known


def _recurrence(recurrence: Recurrence, iteration: Iteration) -> dict[str, Evidence]:
    """What is known of the recurrence of linear mixers; all of it lies outside of what was measured."""
    known, (low, high) = {}, (1 / OUTSIDE, OUTSIDE)
    if number := iteration.num_decodes:
        work = recurrence.flops(number), recurrence.bytes_moved(number, number)
        known["linear_decode"] = Evidence(recurrence.count, {"batch": number}, *work, "outside", low, high)
    if chunks := iteration.chunks:
        tokens = sum(count for count, _ in chunks)
        work = recurrence.flops(tokens), recurrence.bytes_moved(tokens, len(chunks) + tokens / BLOCK)
        shape = {"chunks": len(chunks), "tokens": tokens}
        known["linear_prefill"] = Evidence(recurrence.count, shape, *work, "outside", low, high)
    return known


def communication(resolved: Resolved, sources: Sources, ran: int, tokens: int) -> dict[str, Evidence]:
    """What is known of communication in a batch of ``tokens``, which runs as one of ``ran``, by operator."""
    ops, known = sources.operators, {}
    tp, pp = resolved.tensor_parallel_size, resolved.pipeline_parallel_size
    formula = ("modelled", 1 / MODELLED, MODELLED)
    elements = ran * ops.hidden_size
    if tp > 1:
        card = all_reduce_card(sources, resolved.node, tp) or {"curves": {"graph": {}}, "link_gb_s": 0}
        curve = np.array(card["curves"]["graph"].get(str(tp), [[0, 0]]))[:, 0]
        how = ("measured", 1 / CURVE, CURVE)
        if not curve.any() or link_gb_s(resolved.node, tp) < card["link_gb_s"] or tp > resolved.node.num_devices:
            how = formula
        elif not curve[0] <= elements <= curve[-1]:
            how = ("outside", 1 / MODELLED, MODELLED)
        elif sources.origin.kinship != "own":
            wide = width("all_reduce_fast" if card["link_gb_s"] >= FAST_LINK else "all_reduce", "other")
            how = ("outside", 1 / wide, wide)
        known["all_reduce"] = Evidence(ops.num_all_reduces, {"elements": elements}, 0, 2 * BYTES * elements, *how)
    if ops.num_all_to_alls:
        sizes = {"tokens": ran, "hidden": ops.hidden_size}
        kind = "decode" if ran <= largest_captured(resolved.scheduler, resolved.enforce_eager) else "prefill"
        gpus = ops.experts.ep if ops.experts else tp
        how = ("measured", 1 / CURVE, CURVE) if all_to_all_rows(sources, gpus, kind) else formula
        if how != formula and sources.origin.kinship != "own":
            how = ("outside", 1 / MODELLED, MODELLED)
        known["moe_all_to_all"] = Evidence(ops.num_all_to_alls, sizes, 0, 2 * BYTES * elements / tp, *how)
    if ops.num_gathers:
        measured = gather_curve(sources, resolved.node, tp)
        how = formula
        if measured is not None:
            inside = measured[0] <= ops.ranks * elements <= measured[-1]
            how = ("measured", 1 / CURVE, CURVE) if inside else ("outside", 1 / MODELLED, MODELLED)
        received = BYTES * elements * (ops.ranks - 1)
        sizes = {"elements": elements, "ranks": ops.ranks}
        known["moe_gather_scatter"] = Evidence(ops.num_gathers, sizes, 0, received, *how)
    if pp > 1:
        sent = tokens * ops.hidden_size
        sends = send_curve(sources, resolved.node, tp * pp <= resolved.node.num_devices)
        how = formula if sends is None else ("measured", 1 / CURVE, CURVE)
        known["send_recv"] = Evidence(pp - 1, {"elements": sent}, 0, BYTES * sent, *how)
    return known
