"""The headline figures of a simulation: what many simulations in one call keep of each."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import histogram
from fastsim.kernels.state import Replicas
from fastsim.predictors.tables.by_operator import ByOperator
from fastsim.result.metrics import distribution, occupancy, time_series, work
from fastsim.result.metrics import requests as per_request
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.definitions import LATENCIES, definitions
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.energy import energy
from fastsim.result.metrics.objectives import DEFAULTS, missed
from fastsim.result.metrics.operator_time import operator_time
from fastsim.result.metrics.verdict import verdict
from fastsim.result.metrics.window import inside

from .batches import of_batches
from .pressure import pressure
from .time_series import of_run
from .utilisation import by_replica, bytes_moved, utilisation


def summarise(
    resolved: Resolved,
    requests: Columns,
    replicas: Replicas,
    tbt: NDArray[np.int64],
    provenance: Mapping[str, Any],
    exclude: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """What summary.json holds, but for the timing and what needs details. None: there is nothing to measure.

    ``requests``: columns of requests.parquet, by name. ``provenance``: of the operator times. ``exclude``: warm-up and
    cool-down, s: latencies leave out requests that arrive then, and rates are those of the time in between; the times
    between tokens, utilisation and cost are of the whole run.
    """
    finished, arrived = requests["finished_at"], requests["arrived_at"]
    done = np.isfinite(finished)
    whole = bool(done.all())
    first = float(arrived[0]) if len(arrived) else 0.0
    span = float((finished if whole else finished[done]).max(initial=first)) - first
    counts = replicas.counts
    tokens = {
        name: int((requests[name] if whole else requests[name][done]).sum(dtype=np.int64))
        for name in ("num_prompt_tokens", "num_output_tokens")
    }
    prompts, outputs = tokens.values()
    kept = inside(arrived, exclude)
    gpu_hours = resolved.num_gpus * span / 3600
    dollars = gpu_hours * resolved.device.price_per_hour
    busy = ratio(float(replicas.busy.sum() / replicas.busy.size), span)
    iterations = int(counts[:, state.ITERATIONS].sum())
    batch = int(counts[:, state.TOKENS].sum()) / max(1, iterations)
    summary: dict[str, Any] = {
        "latency": {
            latency.key: _gaps(replicas, tbt) if latency.key == "tbt" else _latency(requests[latency.key], kept)
            for latency in LATENCIES
        },
        "throughput": _throughput(requests, exclude, span, int(done.sum()), prompts, outputs),
        "totals": {
            "requests": len(finished),
            "finished": int(done.sum()),
            "prompt_tokens": prompts,
            "output_tokens": outputs,
            "iterations": iterations,
            "restarts": int(counts[:, state.RESTARTS].sum()),
            "span_s": span,
        },
        "utilisation": {
            "busy": busy,
            "peak_kv": float(counts[:, state.PEAK].max() / resolved.memory.num_blocks),
        },
        "cost": {
            "gpus": resolved.num_gpus,
            "gpu_hours": gpu_hours,
            "dollars": dollars,
            "dollars_per_million_output_tokens": ratio(dollars * 1e6, outputs),
            "dollars_per_million_tokens": ratio(dollars * 1e6, prompts + outputs),
        },
        "energy": energy(resolved.device, resolved.num_gpus, span, busy or 0.0, batch, outputs),
    }
    if kept is not None:
        left_out = len(kept) - int(kept.sum())
        summary["excluded"] = {"warm_up_s": exclude[0], "cool_down_s": exclude[1], "requests": left_out}
    if known := provenance.get("known"):
        summary["operator_times"] = known
    summary["definitions"] = definitions(summary)
    price = f"GPU-hours at ${resolved.device.price_per_hour:g}, the list price of {resolved.device.name} per hour"
    summary["definitions"]["cost.dollars"] = price
    summary["warnings"] = list(resolved.warnings)
    return summary


def _throughput(
    requests: Columns, exclude: tuple[float, float], span: float, number: int, prompts: int, outputs: int
) -> dict[str, float | None]:
    """Of all requests, or of those that finish between warm-up and cool-down."""
    arrived = requests["arrived_at"]
    if exclude != (0.0, 0.0) and len(arrived):
        begin, end = arrived[0] + exclude[0], arrived[-1] - exclude[1]
        there = (requests["finished_at"] >= begin) & (requests["finished_at"] <= end)
        span, number = max(0.0, float(end - begin)), int(there.sum())
        prompts = int(requests["num_prompt_tokens"][there].sum(dtype=np.int64))
        outputs = int(requests["num_output_tokens"][there].sum(dtype=np.int64))
    return {
        "requests_per_s": ratio(number, span),
        "output_tokens_per_s": ratio(outputs, span),
        "total_tokens_per_s": ratio(prompts + outputs, span),
    }


def _latency(values: NDArray[np.float64], kept: NDArray[np.bool_] | None) -> distribution.Figures:
    return distribution.of_values(values if kept is None else values[kept])


def _gaps(replicas: Replicas, tbt: NDArray[np.int64]) -> distribution.Figures:
    total, largest = float(replicas.times[:, state.TBT_SUM].sum()), float(replicas.times[:, state.TBT_MAX].max())
    return distribution.of_bins(tbt, ratio(total, int(tbt.sum())), largest)


def add_details(
    summary: dict[str, Any],
    resolved: Resolved,
    operators: ByOperator,
    columns: Columns,
    replicas: Replicas,
    measures: Measures,
    exclude: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Add request, batch, breakdown, replicas, series, operators, verdict and more utilisation to ``summary``.

    ``operators``: tables by operator (``Built.operators``). ``columns``: of requests.parquet with the breakdown, by
    name. ``exclude``: as in ``summarise``; it holds for request and breakdown. The verdict is by Vidur's objectives;
    Result.judge has others.
    """
    kept = inside(columns["arrived_at"], exclude)
    counted = columns if kept is None else {name: values[kept] for name, values in columns.items()}
    summary["request"] = per_request.by_request(counted)
    summary["breakdown"] = per_request.breakdown(counted)
    summary["batch"] = of_batches(measures, replicas)
    span = summary["totals"]["span_s"]
    first = float(columns["arrived_at"][0]) if len(columns["arrived_at"]) else 0.0
    done = work.Done(replicas.counts[:, state.TOKENS], measures.pairs, measures.squares, measures.sampled)
    computed = work.compute_seconds(resolved, done)
    moved = bytes_moved(resolved, columns, done, measures)
    lived = occupancy.occupied(columns["replica_id"], columns["arrived_at"], columns["finished_at"], len(replicas.busy))
    summary["utilisation"] |= utilisation(resolved, columns, replicas, measures, computed, sum(moved), lived, span)
    summary["replicas"] = by_replica(resolved, columns, replicas, measures, computed, span)
    edges = time_series.edges_of(first, span, measures.bin_s)
    summary["series"] = of_run(resolved, columns, measures, edges)
    sizes = histogram.sizes()[:-1]
    busy = float(replicas.busy.sum())
    tokens, stages = measures.batch_tokens, resolved.pipeline_parallel_size
    summary["operators"] = operator_time(operators, stages, sizes, tokens, measures.batch_size, busy)
    summary["verdict"] = verdict(pressure(resolved, summary, columns, measures, moved), missed(DEFAULTS, summary))
    said = summary.pop("definitions")
    summary["definitions"] = definitions(summary) | said
