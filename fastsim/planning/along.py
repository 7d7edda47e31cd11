"""Simulates a deployment along its loads, from an idle queue to one that grows, and finds the knee."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.load_curve import Curve, Point
from fastsim.planning.settle import shortest
from fastsim.planning.steady import DRIFT, requests
from fastsim.planning.stream import at_rate
from fastsim.planning.trials import Trials
from fastsim.predictors.build import times_notes
from fastsim.result.metrics.definitions import LATENCIES, flatten
from fastsim.result.metrics.drift import queue_drift
from fastsim.result.metrics.goodput import judge
from fastsim.result.metrics.objectives import Objective, met
from fastsim.simulation.many import Run, simulate_many
from fastsim.simulation.run import Progress
from fastsim.workload import Workload

POINTS = 12
STATISTICS = ("mean", "p50", "p90", "p99")
FIGURES = (  # besides the latencies
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cost.dollars_per_million_output_tokens",
)
EACH = 200  # requests of each user


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
    dollars = resolved.dollars_per_hour
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
