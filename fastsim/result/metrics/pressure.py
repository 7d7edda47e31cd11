"""How full each limit of a deployment was during a run, which the verdict reads."""

import math
from typing import Any

import numpy as np

from fastsim.arrays import Columns
from fastsim.deployment.resolved import Resolved
from fastsim.kernels.accounts import scale
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.occupancy import queued_at
from fastsim.result.metrics.utilisation import Moved
from fastsim.result.metrics.verdict import Pressure


def pressure(
    resolved: Resolved, summary: dict[str, Any], columns: Columns, measures: Measures, bytes_moved: Moved
) -> Pressure:
    """Return the figures that the rules of the verdict read.

    Parameters
    ----------
    resolved : Resolved
        The deployment.
    summary : dict
        The summary so far, with its latencies, utilisation, breakdown and series.
    columns : mapping of str to array[n]
        The columns of requests.parquet, by name.
    measures : Measures
        What the simulation counted.
    bytes_moved : Moved
        What the GPUs move, as ``utilisation.moved_by_all`` returns it.
    """
    scheduler = resolved.scheduler
    series = {name: np.array(values) for name, values in summary["series"].items() if isinstance(values, list)}
    arrived, scheduled = queued_at(columns), columns["scheduled_at"]
    last_arrival = float(arrived[-1]) if len(arrived) else 0.0
    # Weights of the intervals of the series: those with arrivals, and those with a queue by its length.
    arriving = (series["time"] < last_arrival).astype(float)
    if not arriving.any():
        arriving[:] = 1.0
    queued = series["queue"] if series["queue"].any() else arriving
    fullness = {"kv": series["kv"] / (1 - scheduler.watermark)}
    # Where memory sets a smaller batch than max_num_seqs, only memory is a limit.
    if scheduler.policy.blocks_grow or resolved.max_batch_size == scheduler.max_num_seqs:
        fullness["slots"] = series["running"] / sum(k.scheduler.max_num_seqs * k.num_replicas for k in resolved.kinds)
    use = {name: min(1.0, float(np.average(values, weights=arriving))) for name, values in fullness.items()}
    use_waiting = {name: min(1.0, float(np.average(values, weights=queued))) for name, values in fullness.items()}
    budgets = [(kind.scheduler.token_budget or 0) * kind.num_replicas for kind in resolved.kinds]
    if budget := sum(budgets) / resolved.num_replicas:
        sizes = scale.sizes()[:-1].astype(float)
        tokens = measures.batch_tokens * sizes
        use["tokens"] = min(1.0, (ratio(float(tokens.sum()), float(measures.batch_tokens.sum())) or 0.0) / budget)
        # The mean over tokens, of the batch that each one is in.
        use_waiting["tokens"] = min(1.0, (ratio(float(tokens @ sizes), float(tokens.sum())) or 0.0) / budget)
    gaps = summary["latency"]["tbt"]
    parts = summary["breakdown"]["slowest"]
    e2e = math.fsum(seconds or 0.0 for seconds in parts.values())

    def share(*names: str) -> float:
        """Return the share of these parts in the end-to-end time of the slowest requests."""
        return ratio(math.fsum(parts[name] or 0.0 for name in names), e2e) or 0.0

    return Pressure(
        waiting=share("routing_wait", "queue_wait", "preemption"),
        backlog=ratio(int((~(scheduled <= last_arrival)).sum()), len(arrived)) or 0.0,
        use=use,
        use_waiting=use_waiting,
        mfu=summary["utilisation"]["mfu_busy"] or 0.0,
        mbu=summary["utilisation"]["mbu_busy"] or 0.0,
        kv_traffic=ratio(bytes_moved.kv, bytes_moved.weights + bytes_moved.kv) or 0.0,
        prompts=share("chunk_wait", "decode_wait", "prefill_compute"),
        decoding=share("decode_compute"),
        uneven=ratio(gaps["p99"] or 0.0, gaps["p50"] or 0.0) or 1.0,
    )
