"""Distributions over requests, and where the slowest of them lost their time."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.result.columns import BREAKDOWN
from fastsim.result.metrics import distribution

Columns = Mapping[str, NDArray[Any]]
Floats = NDArray[np.float64]

SLOWEST = 0.01

# metrics.REQUEST, by the last part of the name.
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
    """``request`` of a summary, from columns of requests.parquet with the breakdown among them."""
    with ThreadPoolExecutor() as pool:  # sorting lets go of the interpreter
        found = pool.map(lambda values: distribution.of_values(values(columns)), PER_REQUEST.values())
        return dict(zip(PER_REQUEST, found, strict=True))


def breakdown(columns: Columns) -> dict[str, Any]:
    """``breakdown`` of a summary: the mean of each part of e2e, over all requests and over the slowest 1 % by e2e."""
    e2e = columns["e2e"]
    done = np.flatnonzero(np.isfinite(e2e))
    number = ceil(SLOWEST * len(done))
    slowest = done[np.argpartition(e2e[done], len(done) - number)[len(done) - number :]] if number else done
    parts = {part.name: columns[part.name] for part in BREAKDOWN}
    whole = len(done) == len(e2e)
    return {
        "mean": {name: _mean(values if whole else values[done]) for name, values in parts.items()},
        "slowest": {name: _mean(values[slowest]) for name, values in parts.items()},
        "slowest_requests": number,
    }


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
