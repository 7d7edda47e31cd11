"""What is known of the operator times of a whole run: shares of its time that are measured, modelled or outside."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.operators.kinds import Attention
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.capture import captured, padded
from fastsim.predictors.sources import sources_of
from fastsim.predictors.tables.by_operator import (
    ByOperator,
    is_attention,
    on_each_stage,
    on_first_stage,
    on_host,
    on_last_stage,
    to_next_stage,
)
from fastsim.predictors.times.device_forests import Sources
from fastsim.predictors.times.evidence import communication
from fastsim.predictors.times.shapes import decode_rows, expert_rows, gemm_rows, prefill_rows
from fastsim.predictors.times.times import Floats

Integers = NDArray[np.integer]
Hows = NDArray[np.str_]
KINDS = ("measured", "modelled", "outside")
MOST_REQUESTS, MOST_SIZES = 4096, 24  # of which attention and communication are judged; of more, evenly many are taken


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did.

    Attributes
    ----------
    sizes, batch_tokens : int[n]; ``batch_tokens[i]`` batches had ``sizes[i]`` tokens.
    batch_size : int[m]; ``batch_size[k]`` batches had k requests.
    busy : stage-seconds of all batches.
    prompts, outputs : int[requests], tokens.
    """

    sizes: Integers
    batch_tokens: Integers
    batch_size: Integers
    busy: float
    prompts: Integers
    outputs: Integers


def known_of_run(resolved: Resolved, operators: ByOperator, ran: Ran) -> dict[str, float]:
    """Shares of the time of a run that are measured, modelled and outside of what was measured.

    Each operator is judged at the sizes of the batches that ran, as ``evidence_of`` judges it in one iteration. Of
    attention, whose time is what the others leave of ``ran.busy``, each request is judged at its lengths: its prompt
    as a whole, or in chunks, of which those after the first are modelled; its decodes at half of its output, in the
    batch in which a request is on average.
    """
    sources, occurred = sources_of(resolved), ran.batch_tokens > 0
    sizes, batches = ran.sizes[occurred], ran.batch_tokens[occurred]
    sequences = np.arange(len(ran.batch_size))
    tokens = padded(sizes, captured(resolved.scheduler)).astype(np.float64)
    hows = _of_tokens(sources, tokens) | _communication(resolved, sources, tokens, sizes)
    head = _how(sources.gemm(sources.operators.lm_head).outside(_head_rows(sources, sequences)))
    seconds, stages = dict.fromkeys(KINDS, 0.0), resolved.pipeline_parallel_size
    for name, tables in operators.items():
        if is_attention(tables):
            continue
        by_size = stages * on_each_stage(tables, sizes) + on_first_stage(tables, sizes)
        by_size = batches * (by_size + (stages - 1) * to_next_stage(tables, sizes)) * 1e-3
        by_sequences = ran.batch_size * (on_host(tables, sequences) + on_last_stage(tables, sequences)) * 1e-3
        known = hows.get(name, np.full(len(sizes), "modelled"))
        known_last = head if name == sources.operators.lm_head.name else np.full(len(sequences), "modelled")
        for kind in KINDS:
            seconds[kind] += float(by_size[known == kind].sum() + by_sequences[known_last == kind].sum())
    attention = max(0.0, ran.busy - math.fsum(seconds.values()))
    parts = _attention(resolved, sources, operators, ran)
    whole = math.fsum(parts.values())
    for kind in KINDS:
        seconds[kind] += attention * parts[kind] / whole if whole else 0.0
    total = math.fsum(seconds.values())
    return {kind: round(seconds[kind] / total, 4) if total else 0.0 for kind in KINDS}


def _of_tokens(sources: Sources, tokens: Floats) -> dict[str, Hows]:
    """How the times of GEMMs and experts are known, by operator and tokens of a batch."""
    ops = sources.operators
    found = {gemm.name: _how(sources.gemm(gemm).outside(gemm_rows(gemm, tokens))) for gemm in ops.gemms}
    for experts in ops.all_experts:
        if forest := sources.experts(experts):
            found[experts.name] = _how(forest.outside(expert_rows(experts, tokens)))
    return found


def _head_rows(sources: Sources, sequences: Integers) -> Floats:
    return gemm_rows(sources.operators.lm_head, np.maximum(1.0, sequences))


def _how(outside: NDArray[np.bool_]) -> Hows:
    return np.where(outside, "outside", "measured")


def _communication(resolved: Resolved, sources: Sources, tokens: Floats, sizes: Integers) -> dict[str, Hows]:
    """How the times of communication are known, by operator and size of batches."""
    at = sorted(set(np.linspace(0, len(sizes) - 1, MOST_SIZES).astype(int).tolist())) if len(sizes) else []
    found = [communication(resolved, sources, int(tokens[i]), int(sizes[i])) for i in at]
    nearest = np.searchsorted(at, np.arange(len(sizes)), side="right") - 1
    names = found[0] if found else {}
    return {name: np.array([one[name].how for one in found])[nearest] for name in names}


def _attention(resolved: Resolved, sources: Sources, operators: ByOperator, ran: Ran) -> dict[str, float]:
    """Time that attention takes by how it is known, up to a factor that all share."""
    kept = slice(None, None, -(-len(ran.prompts) // MOST_REQUESTS) or 1)
    prompts, outputs = ran.prompts[kept].astype(np.float64), ran.outputs[kept].astype(np.float64)
    members = np.arange(len(ran.batch_size)) * ran.batch_size
    batch = max(1, round(float(members @ np.arange(len(members))) / max(1.0, float(members.sum()))))
    seconds = dict.fromkeys(KINDS, 0.0)
    for name, attn, phase in _phases(sources, operators):
        tables = operators[name]
        if phase == "decode":
            row = tables.decode_ms[min(batch, len(tables.decode_ms) - 1)]
            kv = np.maximum(1.0, prompts + outputs / 2)
            taken = np.maximum(0.0, outputs - 1) / batch * _along(row, kv / tables.kv_step)
            chunked = np.zeros(len(taken))
        else:
            kv = np.maximum(1.0, prompts)
            taken = _along(tables.prefill_ms[0], kv / tables.chunk_step)
            chunked = 1 - np.minimum(1.0, (resolved.scheduler.token_budget or np.inf) / kv) ** 2
        forest = sources.attention(attn, phase) if attn else None
        if attn is None:
            seconds["outside"] += float(taken.sum())  # recurrences
        elif forest is None:
            seconds["modelled"] += float(taken.sum())
        else:
            seen = np.minimum(kv, attn.window or np.inf) if phase == "decode" else kv
            rows = decode_rows(attn, np.full(len(seen), float(batch)), seen) if phase == "decode" else None
            outside = forest.outside(prefill_rows(attn, seen) if rows is None else rows)
            seconds["outside"] += float(taken[outside].sum())
            seconds["modelled"] += float((taken * chunked)[~outside].sum())
            seconds["measured"] += float((taken * (1 - chunked))[~outside].sum())
    return seconds


def _phases(sources: Sources, operators: ByOperator) -> Iterator[tuple[str, Attention | None, str]]:
    by_name = {attn.name: attn for attn in sources.operators.attentions}
    for name in operators:
        base, _, phase = name.rpartition("_")
        if is_attention(operators[name]):
            yield name, by_name.get(base), phase


def _along(row: Floats, at: Floats) -> Floats:
    """Entries of a row between its points, and beyond its end along its last line."""
    last = len(row) - 1
    return np.asarray(
        np.interp(at, np.arange(len(row)), row) + np.maximum(0.0, at - last) * (row[last] - row[last - 1])
    )
