"""The headline figures of a simulation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.columns import LATENCIES
from fastsim.deployment import Resolved
from fastsim.kernels import counters, state
from fastsim.kernels.state import Replicas

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def summarise(
    resolved: Resolved,
    requests: Mapping[str, NDArray[Any]],
    replicas: Replicas,
    tbt: NDArray[np.int64],
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    """What summary.json holds, but for the timing. NaN becomes None: there is nothing to measure.

    ``requests``: columns of requests.parquet, by name. ``provenance``: of the operator times.
    """
    finished, arrived = requests["finished_at"], requests["arrived_at"]
    span = float(finished.max() - arrived.min())
    counts = replicas.counts
    outputs = int(requests["num_output_tokens"].sum(dtype=np.int64))
    prompts = int(requests["num_prompt_tokens"].sum(dtype=np.int64))
    gpu_hours = resolved.num_gpus * span / 3600
    price = resolved.device.price_per_hour
    latencies = {
        column.name: _tbt_figures(replicas, tbt) if column.name == "tbt" else _figures(requests[column.name])
        for column in LATENCIES
    }
    summary: dict[str, Any] = {
        "latency": latencies,
        "throughput": {
            "requests_per_s": len(finished) / span,
            "output_tokens_per_s": outputs / span,
            "total_tokens_per_s": (prompts + outputs) / span,
        },
        "totals": {
            "requests": len(finished),
            "prompt_tokens": prompts,
            "output_tokens": outputs,
            "iterations": int(counts[:, state.ITERATIONS].sum()),
            "restarts": int(counts[:, state.RESTARTS].sum()),
            "span_s": span,
        },
        "utilisation": {
            "busy": float(replicas.busy.sum() / replicas.busy.size / span),
            "peak_kv": float(counts[:, state.PEAK].max() / resolved.memory.num_blocks),
        },
        "cost": {
            "gpus": resolved.num_gpus,
            "gpu_hours": gpu_hours,
            "dollars": gpu_hours * price,
            "dollars_per_million_output_tokens": gpu_hours * price / outputs * 1e6,
        },
        "definitions": {
            **{f"latency.{column.name}": f"{column.unit}: {column.meaning}" for column in LATENCIES},
            "totals.span_s": "s: first arrival to last token; rates and cost refer to it",
            "utilisation.busy": "share of the span in which a stage works, mean over stages and replicas",
            "utilisation.peak_kv": "most KV blocks held at once, as a share of a replica's",
            "cost.dollars": f"GPU-hours at ${price:g}, the list price of {resolved.device.name} per hour",
        },
        "warnings": list(resolved.warnings),
    }
    if known := provenance.get("known"):
        summary["operator_times"] = known
        summary["definitions"]["operator_times"] = (
            "shares of a typical iteration's time (half of max_num_seqs decoding, one chunk) that are measured, "
            "modelled by formula, or lie outside measured shapes"
        )
    return summary


def _figures(values: NDArray[np.float64]) -> dict[str, float | None]:
    values = values[~np.isnan(values)]
    if not len(values):
        return dict.fromkeys(("mean", *QUANTILES))
    mean = float(values.mean())
    quantiles = np.quantile(values, list(QUANTILES.values()), overwrite_input=True)
    return {"mean": mean, **dict(zip(QUANTILES, map(float, quantiles), strict=True))}


def _tbt_figures(replicas: Replicas, tbt: NDArray[np.int64]) -> dict[str, float | None]:
    number = int(tbt.sum())
    if not number:
        return dict.fromkeys(("mean", *QUANTILES))
    edges, cumulated = counters.edges(), np.cumsum(tbt)
    figures: dict[str, float | None] = {"mean": float(replicas.times[:, state.TBT_SUM].sum() / number)}
    largest = float(replicas.times[:, state.TBT_MAX].max())
    for name, share in QUANTILES.items():
        place = int(np.searchsorted(cumulated, share * number))
        figures[name] = min(float(edges[place : place + 2].mean()), largest)
    return figures
