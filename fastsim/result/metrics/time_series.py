"""Figures over time: rates, levels and shares in each of a series of intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastsim.arrays import Columns, Floats
from fastsim.deployment.resolved import Resolved
from fastsim.result.metrics import occupancy
from fastsim.result.metrics.counts import SERIES, Measures


def request_series(columns: Columns, edges: Floats) -> dict[str, Floats]:
    """Return the series that follow from the times of requests alone, by the key of the metric.

    Parameters
    ----------
    columns : mapping of str to array[n]
        The columns of requests.parquet, by name.
    edges : float64[m + 1]
        The bounds of the intervals, s, ascending.

    Returns
    -------
    dict of str to float64[m]
        Arrivals, first tokens and completions per second, and the mean length of the queue.
    """
    widths = np.diff(edges)
    # An event at the very end of the last interval belongs to it.
    closed = np.concatenate([edges[:-1], [np.nextafter(edges[-1], np.inf)]])

    def rate(times: Floats) -> Floats:
        """Return events per second in each interval."""
        rates: Floats = np.histogram(times[np.isfinite(times)], closed)[0] / widths
        return rates

    return {
        "arrivals": rate(columns["arrived_at"]),
        "first_tokens": rate(columns["first_token_at"]),
        "completions": rate(columns["finished_at"]),
        "queue": occupancy.mean(occupancy.queued_at(columns), columns["scheduled_at"], edges),
    }


def iteration_series(columns: Columns, edges: Floats, num_stages: int, num_replicas: int) -> dict[str, Floats]:
    """Return the series that follow from the columns of iterations.parquet, by the key of the metric.

    Parameters
    ----------
    columns : mapping of str to array[rows]
        The columns of iterations.parquet, by name.
    edges : float64[m + 1]
        The bounds of the intervals, s, ascending.
    num_stages, num_replicas : int
        Pipeline stages of a replica, and replicas.

    Returns
    -------
    dict of str to float64[m]
        Prompt and decode tokens per second of the batches that start in each interval, and the share of time in which
        stages are busy.
    """
    widths = np.diff(edges)
    first = columns["stage_id"] == 0
    starts, prefill = columns["start"][first], columns["num_prefill_tokens"][first]
    decodes = columns["num_tokens"][first] - prefill
    return {
        "prefill_tokens": np.histogram(starts, edges, weights=prefill)[0] / widths,
        "decode_tokens": np.histogram(starts, edges, weights=decodes)[0] / widths,
        "busy": occupancy.mean(columns["start"], columns["end"], edges) / (num_stages * num_replicas),
    }


def counted_series(sums: Mapping[str, Floats], edges: Floats, limits: Mapping[str, float]) -> dict[str, Floats]:
    """Return the series that follow from what the kernel summed over each interval, by the key of the metric.

    ``sums`` holds float64[m] of all replicas together, by the names of counts.SERIES; ``edges`` float64[m + 1] bounds
    the intervals, s; ``limits`` holds the stages (``busy``) and KV blocks (``kv_blocks``) of the whole deployment.
    """
    widths = np.diff(edges)
    return {
        "prefill_tokens": sums["prefill_tokens"] / widths,
        "decode_tokens": sums["decode_tokens"] / widths,
        "busy": np.minimum(sums["busy"] / widths / limits["busy"], 1.0),  # the last interval may hold a tick too many
        "kv": sums["kv_blocks"] / widths / limits["kv_blocks"],
        "running": sums["running"] / widths,
    }


def interval_edges(first: float, span: float, width: float) -> Floats:
    """Return the bounds of intervals of ``width`` from ``first`` over ``span``, all in seconds.

    The last interval ends with the span and may be shorter.
    """
    if not span:
        return np.array([first, first + width])
    number = max(1, int(np.ceil(span / width - 1e-6)))  # rounding adds no interval
    return first + np.append(np.arange(number) * width, span)


def run_series(resolved: Resolved, columns: Columns, measures: Measures, edges: Floats) -> dict[str, Any]:
    """Return the section ``series`` of a summary.

    ``columns`` are those of requests.parquet, by name. ``edges``, s, are as ``interval_edges`` returns them for
    intervals of ``measures.bin_s``; values are rounded to six digits.
    """
    # The last interval takes what rounding puts after it.
    sums = dict(zip(SERIES, np.add.reduceat(measures.series.sum(axis=0), np.arange(len(edges) - 1)).T, strict=True))
    replicas, stages = len(measures.series), resolved.pipeline_parallel_size
    blocks = sum(kind.num_replicas * kind.memory.num_blocks for kind in resolved.kinds)
    limits = {"busy": replicas * stages, "kv_blocks": blocks}
    series = request_series(columns, edges) | counted_series(sums, edges, limits)
    values = {name: [float(f"{value:.6g}") for value in column] for name, column in series.items()}
    return {"interval_s": measures.bin_s, "time": [float(time) for time in edges[:-1]], **values}
