"""What a simulation leaves in its arrays, as the columns of a result."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.state import Replicas, Requests
from fastsim.result.breakdown import breakdown
from fastsim.result.metrics.counts import Measures


class Outcome(NamedTuple):
    """What the kernel left behind."""

    columns: dict[str, NDArray[Any]]  # of requests.parquet, by name
    replicas: Replicas
    tbt: NDArray[np.int64]  # gaps between output tokens by bin (kernels.counters)
    log: Sequence[NDArray[Any]] | None  # columns of kernels.state.Log
    measures: Measures | None  # None without detail


def release(requests: Requests) -> Requests:
    """The requests without what only a simulation under way needs, to save memory."""
    nothing = np.empty(0, np.int32)
    return requests._replace(prefill=nothing, blocks=nothing, next=nothing)


def request_columns(requests: Requests, prompts: NDArray[np.int32], num_stages: int) -> dict[str, NDArray[Any]]:
    """The columns of requests.parquet, by name; ``requests`` gives up its arrays for them, to save memory.

    ``prompts``: int32[n], prompt tokens of each request.
    """
    outputs = np.subtract(requests.total, prompts, out=requests.processed)
    gaps = outputs - 1
    tpot = np.subtract(requests.finished_at, requests.first_token_at, out=requests.last_token_at)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot /= gaps
    tpot[gaps == 0] = np.nan
    preempted = np.subtract(requests.finished_at, requests.started_at, out=requests.started_at)
    preempted -= requests.execution_time
    return {
        "request_id": np.arange(len(outputs)),
        "replica_id": requests.replica,
        "arrived_at": requests.arrived_at,
        "scheduled_at": requests.scheduled_at,
        "first_token_at": requests.first_token_at,
        "finished_at": requests.finished_at,
        "num_prompt_tokens": prompts,
        "num_output_tokens": outputs,
        "scheduling_delay": requests.scheduled_at - requests.arrived_at,
        "ttft": requests.first_token_at - requests.arrived_at,
        "tpot": tpot,
        "e2e": requests.finished_at - requests.arrived_at,
        "execution_time": requests.execution_time,
        "preempted_time": preempted,
        "num_restarts": requests.restarts,
        **breakdown(requests, num_stages),
    }
