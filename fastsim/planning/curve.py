"""Latency against load: what a deployment does from an idle queue to one that grows, with the knee and the capacity."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError
from fastsim.planning.along import POINTS, Known, along
from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.load_curve import Curve
from fastsim.planning.settle import settle
from fastsim.planning.trials import load_of, trials_of
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.run import Progress
from fastsim.workload import Workload

MOST_POINTS = 200
SETTLING = 0.5  # share of the progress that finding the capacity has


def curve(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    objectives: Sequence[str | Objective] = (),
    *,
    name: str = "",
    users: bool | None = None,
    loads: Sequence[float] = (),
    points: int = POINTS,
    num_requests: int | None = None,
    too_long: str = "refuse",
    unit: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Curve:
    """Simulate a deployment under one load after the other, and find its knee and its capacity.

    All loads have the same requests. Runs last as long as those of ``capacity``, which finds where the objectives
    break. The same arguments give the same curve, to the bit, on any number of cores.

    Parameters
    ----------
    deployment : Deployment, str, Path or None
        The deployment, or a YAML, TOML or JSON file that describes one. By default Llama-3-8B on one H100.
    workload : Workload, str, Path or mapping
        The requests, or what ``load_workload`` takes. Their rate is replaced. By default ``"chat"``.
    objectives : sequence of str
        What the latencies must keep to, such as ``"ttft:p90<2s"``. By default those of ``capacity``.
    name : str
        What figures and tables call the deployment. By default its GPUs and model.
    users : bool, optional
        Whether the load is a number of users who each wait for their answer before they send the next request. By
        default True for a closed loop and False for any other workload.
    loads : sequence of float
        Loads to simulate, requests/s or users. By default ``points`` of them up to what the deployment can finish.
    points : int
        How many loads, from 3 to 200. By default 12. The capacity comes on top.
    num_requests : int, optional
        Requests in each simulation, at least. By default 16,000 of a preset or description, and all of a file.
    too_long : str
        What becomes of requests with more tokens than max_model_len, as for ``simulate``. By default ``"refuse"``.
    unit : str, optional
        The unit of the arrival times in a file, as for ``load_workload``. By default that of its layout.
    threads : int, optional
        Threads of this process. By default one per core.
    progress : callable, optional
        A function that is called with the share of the work that is done, 0 to 1.

    Returns
    -------
    Curve
        A point for each load, the knee, and the capacity.

    Raises
    ------
    errors.InputError
        When something cannot be simulated, as for ``simulate``, or an argument is not valid.

    Examples
    --------
    >>> found = fastsim.curve(None, "chat", ["ttft:p90<1s"], loads=[2, 8, 24], num_requests=1000)
    >>> [(point.load, point.met) for point in found.points[:2]]
    [(2.0, True), (8.0, True)]
    >>> found.points[0].figures["latency.e2e.mean"] < found.points[1].figures["latency.e2e.mean"]
    True
    """
    began = time.perf_counter()
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    trials = trials_of(deployment, workload, objectives, users, num_requests=num_requests, unit=unit, too_long=too_long)
    resolved = trials.resolved
    _check(loads, points, trials.source.users)
    settled = settle(trials, TOLERANCE)
    if progress:
        progress(SETTLING)

    def share(done: float) -> None:
        if progress:
            progress(SETTLING + (1 - SETTLING) * done)

    failing = settled.failing
    known = Known(
        settled.load,
        settled.ceiling,
        settled.number,
        failing.broken if failing else (),
        load_of(failing) if failing else 0.0,
    )
    named = name or f"{resolved.num_gpus} x {resolved.device.name}, {deployment.model.rpartition('/')[2]}"
    found = along(trials, known, named, loads=loads, points=points, threads=threads, progress=share)
    return replace(found, seconds=time.perf_counter() - began)


def _check(loads: Sequence[float], points: int, users: bool) -> None:
    if not 3 <= points <= MOST_POINTS:
        raise ConfigError(f"points: {points} is not a whole number from 3 to {MOST_POINTS} (e.g. {POINTS})")
    if len(loads) > MOST_POINTS:
        raise ConfigError(f"loads: {len(loads)} are more than {MOST_POINTS}; name fewer (e.g. 2, 8, 24)")
    for load in loads:
        if not 1e-9 <= load <= 1e9 or (users and (load != int(load) or load < 1)):
            valid = "a whole number of users from 1 (e.g. 64)" if users else "requests per second above 0 (e.g. 8)"
            raise ConfigError(f"loads: {load:g} is not {valid}")
