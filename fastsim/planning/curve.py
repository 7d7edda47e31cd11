"""Latency against load: what a deployment does from an idle queue to one that grows, with the knee and the capacity."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.deployment.resolved import Deployment, resolve
from fastsim.errors import ConfigError
from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.settle import settle, shortest
from fastsim.planning.steady import DRIFT, requests
from fastsim.planning.stream import Source, at_rate
from fastsim.planning.trials import Trials, load_of
from fastsim.predictors.build import times_notes
from fastsim.result.metrics.definitions import LATENCIES, flatten
from fastsim.result.metrics.drift import queue_drift
from fastsim.result.metrics.goodput import judge
from fastsim.result.metrics.objectives import DEFAULTS, Objective, met, parse_all
from fastsim.simulation.many import Run, simulate_many
from fastsim.simulation.run import Progress
from fastsim.workload import Workload
from fastsim.workload.loading import is_loop

POINTS = 12
MOST_POINTS = 200
STATISTICS = ("mean", "p50", "p90", "p99")
FIGURES = (  # besides the latencies
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cost.dollars_per_million_output_tokens",
)
EACH = 200  # requests of each user
SETTLING = 0.5  # share of the progress that finding the capacity has


@dataclass(frozen=True, slots=True)
class Point:
    """A deployment under one load.

    Attributes
    ----------
    load : float
        Requests/s that arrive, or users who wait for their answers.
    rate : float
        Requests/s that arrive; with users, those that finish.
    met : bool
        Whether all objectives are met and the queue does not grow.
    missed : tuple of str
        The objectives that are not, and ``"a queue that grows"``.
    drift : float
        By how much longer a request waits for each second that it arrives later, s/s: the overload; 0 if it is steady.
    goodput : float
        Share of the requests that meet every objective.
    dollars_per_million_requests : float or None
        Price of the GPUs for a million requests; None if no price of the GPU is known.
    num_requests : int
        Requests of the simulation.
    span : float
        From the first arrival to the last, s.
    figures : dict of str to float or None
        Figures of the summary by dotted key, such as ``latency.ttft.p99`` (s).
    """

    load: float
    rate: float
    met: bool
    missed: tuple[str, ...]
    drift: float
    goodput: float
    dollars_per_million_requests: float | None
    num_requests: int
    span: float
    figures: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Curve:
    """Latency against load of one deployment.

    Attributes
    ----------
    name : str
        What figures and tables call the deployment.
    users : bool
        Whether loads are numbers of users, not requests/s.
    objectives : tuple of str
        The objectives.
    points : tuple of Point
        By load, ascending; among them the capacity.
    knee : float
        The load at which throughput over latency, the requests/s over the mean end-to-end time, is highest
        (Kleinrock's power): with less load GPUs idle, with more requests mostly wait for each other.
    capacity : float
        The highest load that meets all objectives, as ``fastsim.capacity`` finds it; 0 if none does.
    limited_by : tuple of str
        The objectives that break first above it.
    ceiling : float
        Requests/s that finish while the queue is never empty.
    gpus : int
        GPUs of all replicas.
    dollars_per_hour : float or None
        Price of all GPUs; None if no price of the GPU is known.
    deployment : dict
        The fields of the deployment, as its file has them.
    notes : tuple of str
        What the simulations cannot show, one sentence each.
    seconds : float
        Time that the curve took, s.
    """

    name: str
    users: bool
    objectives: tuple[str, ...]
    points: tuple[Point, ...]
    knee: float
    capacity: float
    limited_by: tuple[str, ...]
    ceiling: float
    gpus: int
    dollars_per_hour: float | None
    deployment: dict[str, Any]
    notes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)


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
    wanted = parse_all(objectives, "--slo") or DEFAULTS
    resolved = resolve(deployment)
    loop = is_loop(workload)
    users = loop if users is None else users
    if loop and not users:
        raise ConfigError("users: a closed loop has a number of users and no rate (valid: true)")
    _check(loads, points, users)
    source = Source(workload, deployment.seed, users=users, num_requests=num_requests, unit=unit, too_long=too_long)
    trials = Trials(resolved, source, wanted)
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


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a deployment before its curve is drawn."""

    load: float  # the highest that holds; 0: none
    ceiling: float  # requests/s that finish while the queue is never empty
    number: int  # requests of the runs that found the load
    limited_by: tuple[str, ...]
    above: float  # a load that does not hold; 0 if all do


def along(
    trials: Trials,
    known: Known,
    name: str,
    *,
    loads: Sequence[float] = (),
    points: int = POINTS,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Curve:
    """The curve of a deployment whose capacity is known; see ``curve``."""
    began, resolved, users, wanted = time.perf_counter(), trials.resolved, trials.source.users, trials.objectives
    asked = sorted({float(load) for load in loads} or set(_loads(known, points, users)))
    if known.load:
        apart = asked if loads else [load for load in asked if not 0.98 < load / known.load < 1.02]
        asked = sorted({*apart, known.load})
    jobs = [_job(trials, known, load) for load in asked]
    runs = simulate_many([(resolved, each) for each in jobs], requests=True, threads=threads, progress=progress)
    price = resolved.device.price_per_hour
    dollars = None if price is None else resolved.num_gpus * price
    found = tuple(
        _point(load, each, run, wanted, users, dollars) for load, each, run in zip(asked, jobs, runs, strict=True)
    )
    return Curve(
        name=name,
        users=users,
        objectives=tuple(map(str, wanted)),
        points=found,
        knee=knee(found),
        capacity=known.load,
        limited_by=known.limited_by,
        ceiling=known.ceiling,
        gpus=resolved.num_gpus,
        dollars_per_hour=dollars,
        deployment=resolved.deployment.model_dump(mode="json"),
        notes=(*times_notes(resolved), *jobs[0].notes),
        seconds=time.perf_counter() - began,
    )


def knee(points: Sequence[Point]) -> float:
    """The load with the highest power, requests/s over the mean end-to-end time, among those whose queue is steady.

    Kleinrock, Power and deterministic rules of thumb for probabilistic problems in computer communications, 1979.
    """

    def power(point: Point) -> float:
        e2e = point.figures["latency.e2e.mean"]
        return point.rate / e2e if e2e else 0.0

    steady = [point for point in points if not point.drift] or points
    return max(steady, key=power).load


def _check(loads: Sequence[float], points: int, users: bool) -> None:
    if not 3 <= points <= MOST_POINTS:
        raise ConfigError(f"points: {points} is not a whole number from 3 to {MOST_POINTS} (e.g. {POINTS})")
    if len(loads) > MOST_POINTS:
        raise ConfigError(f"loads: {len(loads)} are more than {MOST_POINTS}; name fewer (e.g. 2, 8, 24)")
    for load in loads:
        if not 1e-9 <= load <= 1e9 or (users and (load != int(load) or load < 1)):
            valid = "a whole number of users from 1 (e.g. 64)" if users else "requests per second above 0 (e.g. 8)"
            raise ConfigError(f"loads: {load:g} is not {valid}")


def _loads(known: Known, points: int, users: bool) -> list[float]:
    """Loads from little to more than can be finished: rates evenly, users by equal factors."""
    if not users:
        return [known.ceiling * share for share in np.linspace(1.05 / points, 1.05, points).tolist()]
    most = max(known.above, known.load, points)
    return sorted({float(round(users)) for users in np.geomspace(1, 1.5 * most, points)})


def _job(trials: Trials, known: Known, load: float) -> Workload:
    """The requests of a run under a load, which lasts as long as those that found the capacity."""
    number = shortest(trials, load, TOLERANCE)
    if trials.source.users:  # who begin all at once, in less than 1 % of their requests
        number = requests(load, EACH, number, trials.most)
    elif known.load:
        number = max(number, ceil(min(1.0, load / known.load) * known.number))
    drawn = trials.source.draw(number, trials.resolved)
    return drawn.with_users(int(load)) if trials.source.users else at_rate(drawn, load)


def _point(
    load: float, sent: Workload, run: Run, objectives: Sequence[Objective], users: bool, dollars: float | None
) -> Point:
    if run.summary is None or run.requests is None:
        assert run.error is not None
        raise run.error
    summary, table = run.summary, run.requests
    columns = {name: table[name].to_numpy() for name in table.column_names}
    figures = flatten(summary)
    good = judge(objectives, columns, summary)["goodput"]["share"]
    drift = 0.0
    if not users:
        waiting = columns["scheduled_at"] - columns["scheduling_delay"]  # when requests reach the scheduler
        drift = queue_drift(waiting, columns["scheduled_at"], float(np.mean(columns["e2e"])))
    missed = [str(each) for each in objectives if met(each, summary) is False] + ([DRIFT] if drift else [])
    rate = float(figures["throughput.requests_per_s"] or 0.0) if users else load
    names = [f"{latency.name}.{statistic}" for latency in LATENCIES for statistic in STATISTICS]
    return Point(
        load=load,
        rate=rate,
        met=not missed,
        missed=tuple(missed),
        drift=drift,
        goodput=good or 0.0,
        dollars_per_million_requests=None if dollars is None or not rate else dollars / 3600 / rate * 1e6,
        num_requests=sent.num_requests,
        span=float(np.ptp(columns["arrived_at"])),
        figures={key: figures.get(key) for key in (*names, *FIGURES)},
    )
