"""How much of the GPUs' time, FLOPs, bandwidth and memory a run used, and how many requests it held."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns, Floats
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import scale
from fastsim.kernels.state import Replicas
from fastsim.result.metrics import occupancy, work
from fastsim.result.metrics.counts import SERIES, Measures
from fastsim.result.metrics.distribution import ratio


def busy_seconds(replicas: Replicas, span: float) -> Floats:
    """Return the seconds in which each stage works, float64[replicas, stages], in a run of ``span`` s.

    They are the sum of the times of its batches, which never overlap. Each addition is rounded, so that the sum of a
    stage that never idles may lie above the span; the span is then the exact value.
    """
    return np.minimum(replicas.busy, span)


def blocks_of(resolved: Resolved) -> NDArray[np.integer]:
    """Return the KV blocks of each replica, int[replicas]."""
    return np.array([kind.memory.num_blocks for kind in resolved.kind_of_replica])


def series_total(measures: Measures, name: str) -> float:
    """Return a series of counts.SERIES, summed over time and replicas."""
    return float(measures.series[:, :, SERIES.index(name)].sum())


class Moved(NamedTuple):
    """What one GPU of each stage moves, summed over stages and replicas."""

    weights: float  # bytes
    kv: float  # bytes
    seconds: float  # that this takes at full bandwidth


def moved_by_all(
    resolved: Resolved, columns: Columns, done: work.Work, replicas: Replicas, measures: Measures
) -> Moved:
    """Return what the GPUs of a run move; parameters are those of ``bytes_moved``.

    Batches by size are counted for all pools together: each pool is given its share of them, by the batches it ran.
    """
    if not resolved.pools:
        weights, kv = bytes_moved(resolved, columns, done, measures)
        return Moved(weights, kv, (weights + kv) / (resolved.device.bandwidth_gb_s * 1e9))
    batches, total = replicas.counts[:, state.ITERATIONS].astype(float), Moved(0.0, 0.0, 0.0)
    for kind, own in resolved.by_kind:
        share = float(batches[own].sum() / max(1.0, batches.sum()))
        weights, kv = (share * size for size in bytes_moved(kind, columns, done, measures))
        seconds = (weights + kv) / (kind.device.bandwidth_gb_s * 1e9)
        total = Moved(total.weights + weights, total.kv + kv, total.seconds + seconds)
    return total


def bytes_moved(resolved: Resolved, columns: Columns, done: work.Work, measures: Measures) -> tuple[float, float]:
    """Return the bytes of weights and of KV cache that one GPU of each stage moves, summed over stages and replicas.

    ``columns`` are those of requests.parquet, by name, and ``done`` is the work of the run.
    """
    sizes = scale.sizes()[:-1]
    num_members = int(measures.batch_size @ np.arange(len(measures.batch_size)))
    num_prefill_tokens = series_total(measures, "prefill_tokens")
    num_decodes = series_total(measures, "decode_tokens")
    num_chunks = num_members - int(num_decodes)
    read = work.context_read(columns, done, num_chunks, int(num_prefill_tokens))
    weights = work.weight_bytes(resolved, sizes, measures.batch_tokens)
    return weights, work.kv_bytes(resolved, read, float(done.tokens.sum()))


def utilisation(
    resolved: Resolved,
    columns: Columns,
    replicas: Replicas,
    measures: Measures,
    computed: Floats,
    moved: Moved,
    occupied: Floats,
    span: float,
) -> dict[str, Any]:
    """Return what details add to the section ``utilisation`` of a summary.

    Parameters
    ----------
    resolved, columns, replicas, measures
        The deployment, the columns of requests.parquet by name, and what the simulation counted.
    computed : float64[replicas, stages]
        Seconds that the FLOPs of the run take at peak, as ``work.compute_seconds`` returns them.
    moved : Moved
        What one GPU of each stage moves.
    occupied : float64[replicas]
        Seconds in which each replica has a request.
    span : float
        Length of the run, s.
    """
    busy, stages = float(busy_seconds(replicas, span).sum()), replicas.busy.size
    scheduled, finished = columns["scheduled_at"], columns["finished_at"]
    queued = occupancy.queued_at(columns)
    blocks = int(blocks_of(resolved).sum())
    return {
        "mean_kv": ratio(series_total(measures, "kv_blocks"), blocks * span),
        "mfu": ratio(float(computed.sum()), stages * span),
        "mfu_busy": ratio(float(computed.sum()), busy),
        "mbu": ratio(moved.seconds, stages * span),
        "mbu_busy": ratio(moved.seconds, busy),
        "bubbles": _bubbles(busy, float(occupied.sum()) * replicas.busy.shape[1]),
        "mean_running": ratio(float(np.nansum(finished - scheduled)), span),
        "peak_running": occupancy.peak(scheduled, finished),
        "mean_queue": ratio(float(np.nansum(columns["scheduling_delay"])), span),
        "peak_queue": occupancy.peak(queued, scheduled),
    }


def _bubbles(busy: float, occupied: float) -> float | None:
    """Return the share of the stage-seconds with a request on the replica in which the stage idles."""
    idle = ratio(occupied - busy, occupied)
    return None if idle is None else max(0.0, idle)


def by_replica(
    resolved: Resolved, columns: Columns, replicas: Replicas, measures: Measures, computed: Floats, span: float
) -> list[dict[str, Any]]:
    """Return the section ``replicas`` of a summary, an entry per replica, or per rank of each.

    Parameters are those of ``utilisation``.
    """
    num_replicas, counts = len(replicas.busy), replicas.counts
    busy = busy_seconds(replicas, span)
    ranks = resolved.data_parallel_size
    num_requests = occupancy.served(columns, num_replicas, ranks)
    block_seconds = measures.series[:, :, SERIES.index("kv_blocks")].sum(axis=1)
    blocks = blocks_of(resolved)
    return [
        {
            **({"replica": r // ranks, "rank": r % ranks} if ranks > 1 else {}),
            "requests": int(num_requests[r]),
            "iterations": int(counts[r, state.ITERATIONS]),
            "restarts": int(counts[r, state.RESTARTS]),
            "peak_kv": float(counts[r, state.PEAK] / blocks[r]),
            "mean_kv": ratio(block_seconds[r], blocks[r] * span),
            "busy": [ratio(seconds, span) for seconds in busy[r]],
            "mfu": [ratio(seconds, span) for seconds in computed[r]],
        }
        for r in range(num_replicas)
    ]
