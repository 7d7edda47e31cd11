"""The arrays that a simulation leaves behind, turned into the columns of its result."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved
from fastsim.kernels.state import Limits, Replicas, Requests
from fastsim.result.breakdown import breakdown_columns
from fastsim.result.columns import WORKLOAD
from fastsim.result.metrics.counts import Measures
from fastsim.workload import Workload


class Outcome(NamedTuple):
    """The arrays of a finished simulation, for ``wrap`` to turn into a Result."""

    columns: dict[str, NDArray[Any]]  # the columns of requests.parquet, by name
    replicas: Replicas
    engines: NDArray[np.int64]  # kernels.engine.state.Engine.counts
    tbt: NDArray[np.int64]  # int64[NUM_BINS], gaps between output tokens by length (kernels.accounts.scale)
    log: Sequence[NDArray[Any]] | None  # the columns of kernels.state.Log, or None without iterations
    measures: Measures | None  # None without detail


def release(requests: Requests, arrived_at: NDArray[np.float64]) -> Requests:
    """Return the requests without the columns that only a running simulation needs, to save memory.

    ``arrived_at``: float64[n], s, when they reach a scheduler; without a front end the workload's own times.
    """
    empty = np.empty(0, np.int32)
    return requests._replace(arrived_at=arrived_at, prefill=empty, blocks=empty, next=empty)


def with_workload(columns: dict[str, NDArray[Any]], workload: Workload) -> dict[str, NDArray[Any]]:
    """Return the columns with those of columns.WORKLOAD that the workload has, and with the rows in order of arrival.

    Requests that follow others are in another order before.
    """
    known = {column.name: getattr(workload, column.name) for column in WORKLOAD}
    columns = {**columns, **{name: values for name, values in known.items() if values is not None}}
    if workload.following is None:
        return columns
    order = np.argsort(columns["arrived_at"], kind="stable")
    return {name: values[order] for name, values in columns.items()}


def with_pools(columns: dict[str, NDArray[Any]], resolved: Resolved) -> dict[str, NDArray[Any]]:
    """Return the columns with the pool of the replica that served each request, of a deployment with pools."""
    if not resolved.pools:
        return columns
    names = np.array([each.pool.name for each in resolved.pools])
    pool = np.repeat(np.arange(len(names)), [each.pool.num_replicas for each in resolved.pools])
    return {**columns, "pool": names[pool[columns["replica_id"]]]}


def with_transfers(
    columns: dict[str, NDArray[Any]],
    prefill_replica: NDArray[np.int32],
    prefilled_at: NDArray[np.float64],
    transfer_at: NDArray[np.float64],
    transfer: NDArray[np.float64],
    transfer_wait: NDArray[np.float64],
) -> dict[str, NDArray[Any]]:
    """Return the columns with those of columns.TRANSFERS, of which the time until the first token was part before."""
    own: dict[str, NDArray[Any]] = {"prefill_replica_id": prefill_replica}
    own |= {"prefilled_at": prefilled_at, "transfer_at": transfer_at}
    own |= {"transfer_wait": transfer_wait, "transfer": transfer}
    if "prefill_compute" in columns:
        columns = {**columns, "prefill_compute": columns["prefill_compute"] - transfer_wait - transfer}
    return {**columns, **own}


def request_columns(
    requests: Requests,
    arrived_at: NDArray[np.float64],
    cached: NDArray[np.int32],
    num_prompt_tokens: NDArray[np.int32],
    limits: Limits,
    front_end: float = 0.0,
) -> dict[str, NDArray[Any]]:
    """Return the columns of requests.parquet, which take over the arrays of ``requests`` to save memory.

    Parameters
    ----------
    requests : kernels.state.Requests
        The requests at the end of a simulation. Their arrays hold other values afterwards.
    arrived_at : float64[n]
        When clients send the requests, s; ``requests.arrived_at`` is when they reach a scheduler.
    cached : int32[n]
        Tokens of each request that were found in the prefix cache; int32[0] where the policy is not vllm_v1.
    num_prompt_tokens : int32[n]
        Prompt tokens of each request.
    limits : kernels.state.Limits
        Limits of the deployment, which say how many stages and ranks a replica has.
    front_end : float
        How long requests take from their clients to a scheduler, s.

    Returns
    -------
    dict of str to array[n]
        By name, in the order of columns.REQUESTS, then of columns.ENGINE_REQUESTS where the policy is vllm_v1, and of
        columns.BREAKDOWN if the simulation kept detail; with ranks columns.RANK is the second.
    """
    # These three arrays are no longer needed, so columns of the same type are written into their memory.
    output_buffer, tpot_buffer, preempted_buffer = requests.processed, requests.last_token_at, requests.started_at
    num_output_tokens = np.subtract(requests.total, num_prompt_tokens, out=output_buffer)
    num_gaps = num_output_tokens - 1
    tpot = np.subtract(requests.finished_at, requests.first_token_at, out=tpot_buffer)
    with np.errstate(divide="ignore", invalid="ignore"):
        tpot /= num_gaps
    tpot[num_gaps == 0] = np.nan
    preempted_time = np.subtract(requests.finished_at, requests.started_at, out=preempted_buffer)
    preempted_time -= requests.execution_time
    return {
        "request_id": np.arange(len(num_output_tokens)),
        **_places(requests.replica, limits.ranks.num_ranks),
        "arrived_at": arrived_at,
        "scheduled_at": requests.scheduled_at,
        "first_token_at": requests.first_token_at,
        "finished_at": requests.finished_at,
        "num_prompt_tokens": num_prompt_tokens,
        "num_output_tokens": num_output_tokens,
        "scheduling_delay": requests.scheduled_at - requests.arrived_at,
        "ttft": requests.first_token_at - arrived_at,
        "tpot": tpot,
        "e2e": requests.finished_at - arrived_at,
        "execution_time": requests.execution_time,
        "preempted_time": preempted_time,
        "num_restarts": requests.restarts,
        **({"num_cached_tokens": cached} if len(cached) else {}),
        **breakdown_columns(requests, limits.num_stages, front_end),
    }


def _places(row: NDArray[np.int32], num_ranks: int) -> dict[str, NDArray[np.int32]]:
    """The columns that say where requests were served, from the rows of their engines."""
    if num_ranks == 1:
        return {"replica_id": row}
    return {"replica_id": row // np.int32(num_ranks), "rank": row % np.int32(num_ranks)}
