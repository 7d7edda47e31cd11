"""Figures over time: rates, levels and shares, by intervals."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.arrays import Columns, Floats
from fastsim.deployment.resolved import Resolved
from fastsim.result.metrics import occupancy, time_series
from fastsim.result.metrics.counts import SERIES, Measures

if TYPE_CHECKING:
    pass


def of_requests(columns: Columns, edges: Floats) -> dict[str, Floats]:
    """float64[len(edges) - 1] each, by the key of metrics.METRICS: what follows from the times of requests alone.

    ``edges``: s, ascending. Rates are per second.
    """
    widths = np.diff(edges)
    arrived, begun = columns["arrived_at"], columns["scheduled_at"]
    # What happens at the end of the last interval belongs to it.
    closed = np.concatenate([edges[:-1], [np.nextafter(edges[-1], np.inf)]])

    def rate(times: Floats) -> Floats:
        found: Floats = np.histogram(times[np.isfinite(times)], closed)[0] / widths
        return found

    return {
        "arrivals": rate(arrived),
        "first_tokens": rate(columns["first_token_at"]),
        "completions": rate(columns["finished_at"]),
        "queue": occupancy.mean(arrived, begun, edges),
    }


def of_iterations(columns: Columns, edges: Floats, num_stages: int, num_replicas: int) -> dict[str, Floats]:
    """The same of iterations.parquet: busy, and tokens of the batches that start in an interval."""
    widths = np.diff(edges)
    first = columns["stage_id"] == 0
    starts, prefill = columns["start"][first], columns["num_prefill_tokens"][first]
    decodes = columns["num_tokens"][first] - prefill
    return {
        "prefill_tokens": np.histogram(starts, edges, weights=prefill)[0] / widths,
        "decode_tokens": np.histogram(starts, edges, weights=decodes)[0] / widths,
        "busy": occupancy.mean(columns["start"], columns["end"], edges) / (num_stages * num_replicas),
    }


def of_measures(series: Mapping[str, Floats], edges: Floats, limits: Mapping[str, float]) -> dict[str, Floats]:
    """The same of what the kernel summed by interval (measures.SERIES), all replicas together.

    ``limits``: what ``busy`` (stages) and ``kv_blocks`` are shares of.
    """
    widths = np.diff(edges)
    return {
        "prefill_tokens": series["prefill_tokens"] / widths,
        "decode_tokens": series["decode_tokens"] / widths,
        "busy": series["busy"] / widths / limits["busy"],
        "kv": series["kv_blocks"] / widths / limits["kv_blocks"],
        "running": series["running"] / widths,
    }


def edges_of(first: float, span: float, width: float) -> Floats:
    """From ``first`` over ``span`` in steps of ``width``, s; the last interval ends with the span."""
    if not span:
        return np.array([first, first + width])
    number = max(1, int(np.ceil(span / width - 1e-6)))  # rounding adds no interval
    return first + np.append(np.arange(number) * width, span)


def of_run(resolved: Resolved, columns: Columns, measures: Measures, edges: Floats) -> dict[str, Any]:
    # What rounding puts behind the last interval belongs to it.
    kept = dict(zip(SERIES, np.add.reduceat(measures.series.sum(axis=0), np.arange(len(edges) - 1)).T, strict=True))
    replicas, stages = len(measures.series), resolved.pipeline_parallel_size
    limits = {"busy": replicas * stages, "kv_blocks": replicas * resolved.memory.num_blocks}
    found = time_series.of_requests(columns, edges) | time_series.of_measures(kept, edges, limits)
    values = {name: [float(f"{value:.6g}") for value in column] for name, column in found.items()}
    return {"interval_s": measures.bin_s, "time": [float(time) for time in edges[:-1]], **values}
