"""How much of the GPUs, their bandwidth and their memory a run used."""

from typing import Any

import numpy as np

from fastsim.arrays import Columns, Floats
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import histogram
from fastsim.kernels.state import Replicas
from fastsim.result.metrics import occupancy, work
from fastsim.result.metrics.counts import SERIES, Measures
from fastsim.result.metrics.distribution import ratio


def total(measures: Measures, name: str) -> float:
    return float(measures.series[:, :, SERIES.index(name)].sum())


def bytes_moved(resolved: Resolved, columns: Columns, done: work.Done, measures: Measures) -> tuple[float, float]:
    """Bytes of weights and of KV cache that one GPU of each stage moves, all replicas together."""
    sizes = histogram.sizes()[:-1]
    members = int(measures.batch_size @ np.arange(len(measures.batch_size)))
    prefill, decodes = total(measures, "prefill_tokens"), total(measures, "decode_tokens")
    read = work.context_read(columns, done, members - int(decodes), int(prefill))
    weights = work.weight_bytes(resolved, sizes, measures.batch_tokens)
    return weights, work.kv_bytes(resolved, read, float(done.tokens.sum()))


def utilisation(
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
        "mean_kv": ratio(total(measures, "kv_blocks"), blocks * span),
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


def by_replica(
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
