"""What is known of each operator in one iteration: its shape, its work, whom it was asked of, how sure that is."""

from dataclasses import dataclass

import numpy as np

from fastsim.deployment.operators.kinds import BYTES, Attention, Elementwise, Gemm
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.capture import capture_cap, padded
from fastsim.predictors.forests.forest import Forest
from fastsim.predictors.times.iteration import Iteration

from .communication import all_to_all_rows, link_gb_s
from .device_forests import Sources, decode_rows, expert_rows, gemm_rows, prefill_rows
from .times import Floats

# Factors that bound a time in nine of ten cases, where no forest says it: of formulas, judged by how far kernels of
# one kind lie apart; of curves that were measured at this very number of GPUs.
MODELLED, CURVE = 1.5, 1.1


@dataclass(frozen=True, slots=True)
class Inquiry:
    """``count``: times in an iteration, over all stages. ``flops`` and ``bytes_moved``: of one time, on one GPU.
    ``how``: measured, outside (of what was measured) or modelled. ``low``, ``high``: an interval's ends, over ms."""

    count: int
    shape: dict[str, int]
    flops: float
    bytes_moved: float
    how: str
    low: float
    high: float


def inquire(resolved: Resolved, sources: Sources, iteration: Iteration) -> dict[str, Inquiry]:
    """Every operator of ``iteration`` by its name in OperatorTimes; absent where it does not run."""
    ops = sources.operators
    tokens = int(padded(np.array([iteration.num_tokens]), capture_cap(resolved.scheduler.max_num_seqs))[0])
    sampled = iteration.num_seqs
    known = {gemm.name: _gemm(sources, gemm, tokens) for gemm in ops.gemms}
    for kernel in ops.elementwise:
        known[kernel.name] = _small(kernel, tokens)
    if experts := ops.experts:
        sizes = {"tokens": tokens, "hidden": experts.hidden, "intermediate": experts.intermediate}
        sizes |= {"experts": experts.num_experts, "topk": experts.top_k, "tp": experts.tp, "ep": experts.ep}
        rows = expert_rows(experts, np.array([float(tokens)]))
        moved = experts.bytes_read(tokens) + experts.bytes_written(tokens)
        work = (experts.count, sizes, experts.flops(tokens), moved)
        known["moe_experts"] = Inquiry(*work, *_asked(sources.experts(experts), rows))
    for one in ops.attentions:
        known |= _attention(sources, one, iteration, resolved.device.skew)
    known |= _communication(resolved, sources, tokens, iteration.num_tokens)
    known["embedding"] = _small(ops.embedding, iteration.num_tokens)
    known["final_norm"] = _small(ops.final_norm, sampled)
    known["lm_head"] = _gemm(sources, ops.lm_head, sampled)
    known["host"] = Inquiry(1, {"sequences": sampled}, 0, 0, "modelled", 1 / MODELLED, MODELLED)
    return known


def _asked(forest: Forest | None, rows: Floats) -> tuple[str, float, float]:
    """How, low and high of what a forest says of some shapes together."""
    if forest is None:
        return "modelled", 1 / MODELLED, MODELLED
    total = float(forest.ms(rows).sum())
    low, high = forest.interval(rows)
    how = "outside" if forest.outside(rows).any() else "measured"
    return how, float(low.sum()) / total, float(high.sum()) / total


def _gemm(sources: Sources, gemm: Gemm, tokens: int) -> Inquiry:
    rows = gemm_rows(gemm, np.array([float(tokens)]))
    sizes = {"m": tokens, "n": gemm.n, "k": gemm.k}
    work = (gemm.count, sizes, gemm.flops(tokens), gemm.bytes_moved(tokens))
    return Inquiry(*work, *_asked(sources.gemm(gemm), rows))


def _small(kernel: Elementwise, tokens: int) -> Inquiry:
    moved = kernel.bytes_per_token * tokens
    return Inquiry(kernel.count, {"tokens": tokens}, 0, moved, "modelled", 1 / MODELLED, MODELLED)


def _attention(sources: Sources, one: Attention, iteration: Iteration, skew: float) -> dict[str, Inquiry]:
    known = {}
    heads = {"heads": one.heads, "kv_heads": one.kv_heads, "head_dim": one.head_dim}
    if one.latent_dim:
        heads = {"heads": one.heads, "latent_dim": one.latent_dim}
    if number := iteration.num_decodes:
        length = min(iteration.decode_kv(skew), one.window or np.inf)
        kv = max(1, round(length))
        sizes = {"batch": number, "kv_length": kv, **heads}
        rows = decode_rows(one, np.array([float(number)]), np.array([float(kv)]))
        work = (one.count, sizes, number * one.flops(kv, 1), number * kv * one.kv_bytes_per_token())
        known[f"{one.name}_decode"] = Inquiry(*work, *_asked(sources.attention(one, "decode"), rows))
    if chunks := iteration.chunks:
        ends = np.array([float(tokens + processed) for tokens, processed in chunks])
        how, low, high = _asked(sources.attention(one, "prefill"), prefill_rows(one, ends))
        if how == "measured" and any(processed for _, processed in chunks):
            how, low, high = "modelled", min(low, 1 / MODELLED), max(high, MODELLED)
        flops = sum(one.flops(processed, tokens) for tokens, processed in chunks)
        moved = sum(ends) * one.kv_bytes_per_token()
        sizes = {"chunks": len(chunks), "tokens": sum(tokens for tokens, _ in chunks), **heads}
        known[f"{one.name}_prefill"] = Inquiry(one.count, sizes, flops, moved, how, low, high)
    return known


def _communication(resolved: Resolved, sources: Sources, ran: int, tokens: int) -> dict[str, Inquiry]:
    ops, known = sources.operators, {}
    tp, pp = resolved.tensor_parallel_size, resolved.pipeline_parallel_size
    formula = ("modelled", 1 / MODELLED, MODELLED)
    elements = ran * ops.hidden_size
    if tp > 1:
        card = sources.card("all_reduce") or {"curves": {"graph": {}}, "link_gb_s": 0}
        curve = np.array(card["curves"]["graph"].get(str(tp), [[0, 0]]))[:, 0]
        how = ("measured", 1 / CURVE, CURVE)
        if not curve.any() or link_gb_s(resolved.node, tp) < card["link_gb_s"] or tp > resolved.node.num_devices:
            how = formula
        elif not curve[0] <= elements <= curve[-1]:
            how = ("outside", 1 / MODELLED, MODELLED)
        known["all_reduce"] = Inquiry(ops.num_all_reduces, {"elements": elements}, 0, 2 * BYTES * elements, *how)
    if ops.num_all_to_alls:
        sizes = {"tokens": ran, "hidden": ops.hidden_size}
        kind = "decode" if ran <= capture_cap(resolved.scheduler.max_num_seqs) else "prefill"
        how = ("measured", 1 / CURVE, CURVE) if all_to_all_rows(sources, tp, kind) else formula
        known["moe_all_to_all"] = Inquiry(ops.num_all_to_alls, sizes, 0, 2 * BYTES * elements / tp, *how)
    if pp > 1:
        sent = tokens * ops.hidden_size
        known["send_recv"] = Inquiry(pp - 1, {"elements": sent}, 0, BYTES * sent, *formula)
    return known
