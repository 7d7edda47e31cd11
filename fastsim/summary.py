"""The headline figures of a simulation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment import Resolved
from fastsim.kernels import counters, state
from fastsim.kernels.state import Replicas
from fastsim.metrics import LATENCIES, QUANTILES, STATISTICS


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
        latency.key: _tbt_figures(replicas, tbt) if latency.key == "tbt" else _figures(requests[latency.key])
        for latency in LATENCIES
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
            **{latency.name: f"{latency.unit}: {latency.meaning}" for latency in LATENCIES},
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
    """The figures of STATISTICS; NaN is left out."""
    values = np.sort(values)  # NaN comes last
    values = values[: int(np.searchsorted(values, np.nan))]
    if not len(values):
        return dict.fromkeys(STATISTICS)
    quantiles = dict(zip(QUANTILES, _quantiles(values), strict=True))
    return {"mean": float(values.mean()), "min": float(values[0]), "max": float(values[-1]), **quantiles}


def _quantiles(ordered: NDArray[np.float64]) -> list[float]:
    """As np.quantile, of values that are in order already: linear between neighbours."""
    at = np.array(list(QUANTILES.values())) * (len(ordered) - 1)
    low = at.astype(int)
    share, first = at - low, ordered[low]
    last = ordered[np.minimum(low + 1, len(ordered) - 1)]
    # From the nearer neighbour, as NumPy does, so that the bits agree.
    found: list[float] = np.where(
        share < 0.5, first + (last - first) * share, last - (last - first) * (1 - share)
    ).tolist()
    return found


def _tbt_figures(replicas: Replicas, tbt: NDArray[np.int64]) -> dict[str, float | None]:
    number = int(tbt.sum())
    if not number:
        return dict.fromkeys(STATISTICS)
    edges, cumulated = counters.edges(), np.cumsum(tbt)
    smallest = float(edges[np.argmax(tbt > 0)])
    largest = float(replicas.times[:, state.TBT_MAX].max())
    figures: dict[str, float | None] = {"mean": float(replicas.times[:, state.TBT_SUM].sum() / number)}
    figures |= {"min": smallest, "max": largest}
    for name, share in QUANTILES.items():
        place = int(np.searchsorted(cumulated, share * number))
        figures[name] = min(float(edges[place : place + 2].mean()), largest)
    return figures
