"""What a summary says beyond the headlines, from what a simulation with detail keeps (measures.py)."""

from typing import Any

import numpy as np

from fastsim import distribution, occupancy, per_request, series, work
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import histogram
from fastsim.kernels.state import Replicas
from fastsim.measures import SERIES, Measures
from fastsim.metrics import definitions
from fastsim.objectives import DEFAULTS, missed
from fastsim.spent import by_operator
from fastsim.summary import inside, ratio
from fastsim.verdict import Pressure, verdict

from .arrays import Columns, Floats


def add_details(
    summary: dict[str, Any],
    resolved: Resolved,
    columns: Columns,
    replicas: Replicas,
    measures: Measures,
    exclude: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Add request, batch, breakdown, replicas, series, operators, verdict and more utilisation to ``summary``.

    ``columns``: of requests.parquet with the breakdown, by name. ``exclude``: as in summary.summarise; it holds for
    request and breakdown. The verdict is by Vidur's objectives; Result.judge has others.
    """
    kept = inside(columns["arrived_at"], exclude)
    counted = columns if kept is None else {name: values[kept] for name, values in columns.items()}
    summary["request"] = per_request.by_request(counted)
    summary["breakdown"] = per_request.breakdown(counted)
    summary["batch"] = _batches(measures, replicas)
    span = summary["totals"]["span_s"]
    first = float(columns["arrived_at"][0]) if len(columns["arrived_at"]) else 0.0
    done = work.Done(replicas.counts[:, state.TOKENS], measures.pairs, measures.squares, measures.sampled)
    computed = work.compute_seconds(resolved, done)
    moved = _moved(resolved, columns, done, measures)
    lived = occupancy.occupied(columns["replica_id"], columns["arrived_at"], columns["finished_at"], len(replicas.busy))
    summary["utilisation"] |= _utilisation(resolved, columns, replicas, measures, computed, sum(moved), lived, span)
    summary["replicas"] = _replicas(resolved, columns, replicas, measures, computed, span)
    edges = series.edges_of(first, span, measures.bin_s)
    summary["series"] = _series(resolved, columns, measures, edges)
    sizes = histogram.sizes()[:-1]
    busy = float(replicas.busy.sum())
    summary["operators"] = by_operator(resolved, sizes, measures.batch_tokens, measures.batch_size, busy)
    summary["verdict"] = verdict(_pressure(resolved, summary, columns, measures, moved), missed(DEFAULTS, summary))
    said = summary.pop("definitions")
    summary["definitions"] = definitions(summary) | said


def _batches(measures: Measures, replicas: Replicas) -> dict[str, distribution.Figures]:
    number = int(measures.batch_size.sum())
    tokens, prefill = int(replicas.counts[:, state.TOKENS].sum()), float(_total(measures, "prefill_tokens"))
    sizes = histogram.sizes()
    return {
        "size": distribution.of_counts(measures.batch_size, np.arange(len(measures.batch_size) + 1)),
        "tokens": distribution.of_counts(measures.batch_tokens, sizes, ratio(tokens, number)),
        "prefill_tokens": distribution.of_counts(measures.batch_prefill_tokens, sizes, ratio(prefill, number)),
        "decode_tokens": distribution.of_counts(measures.batch_decodes, np.arange(len(measures.batch_decodes) + 1)),
        "seconds": distribution.of_bins(
            measures.batch_seconds, ratio(float(replicas.busy.sum()), int(measures.batch_seconds.sum()))
        ),
    }


def _total(measures: Measures, name: str) -> float:
    return float(measures.series[:, :, SERIES.index(name)].sum())


def _moved(resolved: Resolved, columns: Columns, done: work.Done, measures: Measures) -> tuple[float, float]:
    """Bytes of weights and of KV cache that one GPU of each stage moves, all replicas together."""
    sizes = histogram.sizes()[:-1]
    members = int(measures.batch_size @ np.arange(len(measures.batch_size)))
    prefill, decodes = _total(measures, "prefill_tokens"), _total(measures, "decode_tokens")
    read = work.context_read(columns, done, members - int(decodes), int(prefill))
    weights = work.weight_bytes(resolved, sizes, measures.batch_tokens)
    return weights, work.kv_bytes(resolved, read, float(done.tokens.sum()))


def _utilisation(
    resolved: Resolved,
    columns: Columns,
    replicas: Replicas,
    measures: Measures,
    computed: Floats,
    moved: float,
    lived: Floats,
    span: float,
) -> dict[str, Any]:
    busy, stages = float(replicas.busy.sum()), replicas.busy.size
    carried = moved / (resolved.device.bandwidth_gb_s * 1e9)  # s at full bandwidth
    arrived, begun, finished = (columns[name] for name in ("arrived_at", "scheduled_at", "finished_at"))
    blocks = resolved.memory.num_blocks * len(replicas.busy)
    return {
        "mean_kv": ratio(_total(measures, "kv_blocks"), blocks * span),
        "mfu": ratio(float(computed.sum()), stages * span),
        "mfu_busy": ratio(float(computed.sum()), busy),
        "mbu": ratio(carried, stages * span),
        "mbu_busy": ratio(carried, busy),
        "bubbles": _bubbles(busy, float(lived.sum()) * replicas.busy.shape[1]),
        "mean_running": ratio(float(np.nansum(finished - begun)), span),
        "peak_running": occupancy.peak(begun, finished),
        "mean_queue": ratio(float(np.nansum(begun - arrived)), span),
        "peak_queue": occupancy.peak(arrived, begun),
    }


def _bubbles(busy: float, lived: float) -> float | None:
    idle = ratio(lived - busy, lived)
    return None if idle is None else max(0.0, idle)


def _replicas(
    resolved: Resolved, columns: Columns, replicas: Replicas, measures: Measures, computed: Floats, span: float
) -> list[dict[str, Any]]:
    number, counts = len(replicas.busy), replicas.counts
    requests = np.bincount(columns["replica_id"], minlength=number)
    held = measures.series[:, :, SERIES.index("kv_blocks")].sum(axis=1)
    blocks = resolved.memory.num_blocks
    return [
        {
            "requests": int(requests[r]),
            "iterations": int(counts[r, state.ITERATIONS]),
            "restarts": int(counts[r, state.RESTARTS]),
            "peak_kv": float(counts[r, state.PEAK] / blocks),
            "mean_kv": ratio(held[r], blocks * span),
            "busy": [ratio(seconds, span) for seconds in replicas.busy[r]],
            "mfu": [ratio(seconds, span) for seconds in computed[r]],
        }
        for r in range(number)
    ]


def _series(resolved: Resolved, columns: Columns, measures: Measures, edges: Floats) -> dict[str, Any]:
    # What rounding puts behind the last interval belongs to it.
    kept = dict(zip(SERIES, np.add.reduceat(measures.series.sum(axis=0), np.arange(len(edges) - 1)).T, strict=True))
    replicas, stages = len(measures.series), resolved.deployment.pipeline_parallel_size
    limits = {"busy": replicas * stages, "kv_blocks": replicas * resolved.memory.num_blocks}
    found = series.of_requests(columns, edges) | series.of_measures(kept, edges, limits)
    values = {name: [float(f"{value:.6g}") for value in column] for name, column in found.items()}
    return {"interval_s": measures.bin_s, "time": [float(time) for time in edges[:-1]], **values}


def _pressure(
    resolved: Resolved, summary: dict[str, Any], columns: Columns, measures: Measures, moved: tuple[float, float]
) -> Pressure:
    scheduler = resolved.deployment.scheduler
    over_time = {name: np.array(column) for name, column in summary["series"].items() if isinstance(column, list)}
    arrived, begun = columns["arrived_at"], columns["scheduled_at"]
    last = float(arrived[-1]) if len(arrived) else 0.0
    coming = (over_time["time"] < last).astype(float)
    if not coming.any():
        coming[:] = 1.0
    fullness = {"kv": over_time["kv"] / (1 - scheduler.watermark)}
    # Where memory bounds the batch, that is what is full.
    if scheduler.policy not in ("orca", "faster_transformer") or resolved.max_batch_size == scheduler.max_num_seqs:
        fullness["slots"] = over_time["running"] / (scheduler.max_num_seqs * len(measures.series))
    queue = over_time["queue"] if over_time["queue"].any() else coming
    use = {name: min(1.0, float(np.average(values, weights=coming))) for name, values in fullness.items()}
    waiting = {name: min(1.0, float(np.average(values, weights=queue))) for name, values in fullness.items()}
    if budget := _budget(resolved):
        sizes = histogram.sizes()[:-1].astype(float)
        tokens = measures.batch_tokens * sizes
        use["tokens"] = min(1.0, (ratio(float(tokens.sum()), float(measures.batch_tokens.sum())) or 0.0) / budget)
        # Of the batch that a token is in.
        waiting["tokens"] = min(1.0, (ratio(float(tokens @ sizes), float(tokens.sum())) or 0.0) / budget)
    gaps = summary["latency"]["tbt"]
    parts = summary["breakdown"]["slowest"]
    whole = sum(part or 0.0 for part in parts.values())

    def share(*names: str) -> float:
        return ratio(sum(parts[name] or 0.0 for name in names), whole) or 0.0

    return Pressure(
        waiting=share("routing_wait", "queue_wait", "preemption"),
        backlog=ratio(int((~(begun <= last)).sum()), len(arrived)) or 0.0,
        use=use,
        use_waiting=waiting,
        mfu=summary["utilisation"]["mfu_busy"] or 0.0,
        mbu=summary["utilisation"]["mbu_busy"] or 0.0,
        kv_traffic=ratio(moved[1], sum(moved)) or 0.0,
        prompts=share("chunk_wait", "decode_wait", "prefill_compute"),
        decoding=share("decode_compute"),
        uneven=ratio(gaps["p99"] or 0.0, gaps["p50"] or 0.0) or 1.0,
    )


def _budget(resolved: Resolved) -> int | None:
    """Tokens of a batch, where the policy limits them."""
    scheduler = resolved.deployment.scheduler
    if scheduler.policy == "sarathi":
        return scheduler.chunk_size
    return scheduler.max_num_batched_tokens if scheduler.policy in ("vllm", "lightllm") else None
