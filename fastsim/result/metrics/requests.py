"""Distributions over requests, and the mean breakdown of their end-to-end time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns, Floats
from fastsim.result.columns import PARTS
from fastsim.result.metrics import distribution

SLOWEST = 0.01  # share of the requests

# How each metric of definitions.REQUEST follows from the columns, by the key of the metric.
PER_REQUEST: dict[str, Callable[[Columns], NDArray[Any]]] = {
    "e2e_per_token": lambda c: c["e2e"] / c["num_output_tokens"],
    "execution": lambda c: c["execution_time"],
    "execution_per_token": lambda c: c["execution_time"] / c["num_output_tokens"],
    "model_execution": lambda c: c["execution_time"] - c["host_overhead"],
    "preempted": lambda c: c["preempted_time"],
    "service": lambda c: c["execution_time"] + c["preempted_time"],
    "service_per_token": lambda c: (c["execution_time"] + c["preempted_time"]) / c["num_output_tokens"],
    "prefill": lambda c: c["first_token_at"] - c["scheduled_at"],
    "prefill_per_token": lambda c: (c["first_token_at"] - c["scheduled_at"]) / c["num_prompt_tokens"],
    "decode_per_token": lambda c: (c["finished_at"] - c["first_token_at"]) / c["num_output_tokens"],
    "inter_arrival": lambda c: np.diff(c["arrived_at"]),
    "prompt_tokens": lambda c: c["num_prompt_tokens"],
    "output_tokens": lambda c: c["num_output_tokens"],
    "tokens": lambda c: c["num_prompt_tokens"] + c["num_output_tokens"],
    "prompt_to_output": lambda c: c["num_prompt_tokens"] / c["num_output_tokens"],
    "restarts": lambda c: c["num_restarts"],
}


def by_request(columns: Columns) -> dict[str, distribution.Figures]:
    """Return the section ``request`` of a summary, from the columns of requests.parquet with their breakdown."""
    with ThreadPoolExecutor() as pool:  # NumPy releases the interpreter lock while it sorts
        figures = pool.map(lambda values_of: distribution.of_values(values_of(columns)), PER_REQUEST.values())
        return dict(zip(PER_REQUEST, figures, strict=True))


def mean_breakdown(columns: Columns) -> dict[str, Any]:
    """Return the section ``breakdown`` of a summary: the mean of each part of e2e, in seconds.

    Means are over all requests that finished, and over the slowest 1 % of them by e2e.
    """
    e2e = columns["e2e"]
    finished = np.flatnonzero(np.isfinite(e2e))
    num_slowest = ceil(SLOWEST * len(finished))
    num_others = len(finished) - num_slowest
    slowest = finished[np.argpartition(e2e[finished], num_others)[num_others:]] if num_slowest else finished
    parts = {column.name: columns[column.name] for column in PARTS if column.name in columns}
    all_finished = len(finished) == len(e2e)
    return {
        "mean": {name: _mean(values if all_finished else values[finished]) for name, values in parts.items()},
        "slowest": {name: _mean(values[slowest]) for name, values in parts.items()},
        "slowest_requests": num_slowest,
    }


def _mean(values: Floats) -> float | None:
    """Return the mean, or None if there are no values."""
    return float(values.mean()) if len(values) else None
