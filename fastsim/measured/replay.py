"""Replays a measured run: the same requests, sent as they were, on a deployment as it is described."""

from collections.abc import Mapping, Sequence

import numpy as np

from fastsim.deployment.description import Deployment
from fastsim.measured.counts import Counts, Times, counts
from fastsim.measured.measured import Floats, Measured
from fastsim.measured.recordings import SERVING_SIM
from fastsim.measured.statistics import Pair, distribution, likeness, rates
from fastsim.measured.validation import Validation
from fastsim.result.result import Result
from fastsim.simulation.run import Progress, simulate


def validate(
    measured: Measured, deployment: Deployment, said: Sequence[str] = (), progress: Progress | None = None
) -> Validation:
    """Predict a measured run, and compare the prediction with what was measured.

    Parameters
    ----------
    measured : Measured
        The run, as ``fastsim.measured.read.read`` reads it.
    deployment : Deployment
        What served it.
    said : sequence of str
        What a user must know of the deployment, which the notes of the answer repeat. By default nothing.
    progress : callable, optional
        Called with the share of the tokens that are simulated, from 0 to 1.

    Returns
    -------
    Validation
        The figures of both, and how far they are apart.

    Raises
    ------
    errors.InputError
        The deployment cannot run, or not serve one of the requests.
    """
    if measured.layout == SERVING_SIM and deployment.front_end_ms is None:
        deployment = deployment.model_copy(update={"front_end_ms": 0.0})  # requests arrive in the engine's queue
    result = simulate(deployment, measured.workload, progress=progress)
    pairs = (("ttft", measured.ttft), ("tpot", measured.tpot), ("e2e", measured.e2e))
    latency = {name: _pairs(distribution(values), distribution(result.column(name))) for name, values in pairs}
    if measured.gaps is not None:
        predicted: Mapping[str, float | None] = result.summary["latency"]["tbt"]
        latency["itl"] = _pairs(
            distribution(measured.gaps), {name: predicted[name] for name in ("mean", "p50", "p90", "p99")}
        )
    by_request = {name: likeness(values, result.column(name)) for name, values in pairs}
    return Validation(
        measured,
        result,
        {name: latency[name] for name in ("ttft", "tpot", "itl", "e2e") if latency.get(name)},
        _throughput(measured, result),
        _over_time(measured, result),
        {name: one for name, one in by_request.items() if one is not None},
        tuple(said),
    )


def _pairs(measured: dict[str, float], predicted: Mapping[str, float | None]) -> dict[str, Pair]:
    return {name: Pair(value, ours) for name, value in measured.items() if (ours := predicted.get(name)) is not None}


def _seconds(arrived_at: Floats, finished_at: Floats) -> float | None:
    """From the first arrival to the last end, s; None where no end is known."""
    return None if np.isnan(finished_at).all() else float(np.nanmax(finished_at) - arrived_at.min())


def _throughput(measured: Measured, result: Result) -> dict[str, Pair]:
    counted = int(measured.workload.num_output_tokens.sum()), measured.workload.num_requests
    seconds = measured.duration
    if measured.arrived_at is not None and measured.finished_at is not None:
        seconds = _seconds(measured.arrived_at, measured.finished_at)
    theirs = rates(seconds, *counted)
    ours = rates(_seconds(result.column("arrived_at"), result.column("finished_at")), *counted)
    return {name: Pair(theirs[name], ours[name]) for name in ours if name in theirs}


def _over_time(measured: Measured, result: Result) -> dict[str, Counts]:
    finished_at = measured.finished_at
    if measured.arrived_at is None or finished_at is None or np.isnan(finished_at).all():
        return {}
    ours = Times(*(result.column(name) for name in ("arrived_at", "scheduled_at", "finished_at")))
    return counts(Times(measured.arrived_at, measured.scheduled_at, finished_at), ours)
