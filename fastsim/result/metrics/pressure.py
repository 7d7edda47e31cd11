"""How full each limit of a deployment was: what the verdict reads."""

from typing import Any

import numpy as np

from fastsim.arrays import Columns
from fastsim.deployment.resolved import Resolved
from fastsim.kernels.accounts import histogram
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.verdict import Pressure


def pressure(
    resolved: Resolved, summary: dict[str, Any], columns: Columns, measures: Measures, moved: tuple[float, float]
) -> Pressure:
    scheduler = resolved.scheduler
    over_time = {name: np.array(column) for name, column in summary["series"].items() if isinstance(column, list)}
    arrived, begun = columns["arrived_at"], columns["scheduled_at"]
    last = float(arrived[-1]) if len(arrived) else 0.0
    coming = (over_time["time"] < last).astype(float)
    if not coming.any():
        coming[:] = 1.0
    fullness = {"kv": over_time["kv"] / (1 - scheduler.watermark)}
    # Where memory bounds the batch, that is what is full.
    if scheduler.policy.blocks_grow or resolved.max_batch_size == scheduler.max_num_seqs:
        fullness["slots"] = over_time["running"] / (scheduler.max_num_seqs * len(measures.series))
    queue = over_time["queue"] if over_time["queue"].any() else coming
    use = {name: min(1.0, float(np.average(values, weights=coming))) for name, values in fullness.items()}
    waiting = {name: min(1.0, float(np.average(values, weights=queue))) for name, values in fullness.items()}
    if budget := scheduler.token_budget:
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
