"""The rungs of a search: few requests for all, more for those that are left, everything for the best."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import FastsimError
from fastsim.planning.bracket import highest_rate
from fastsim.predictors.build import build_cost
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.layout import Arena
from fastsim.simulation.probe import Probed, Prober
from fastsim.workload import Workload

LEAST = 1000  # requests of the first rung
COARSE = 0.3  # tolerance of the first rung
WATCHED = tuple(  # figures that are kept besides the objectives'; any value of them will do
    Objective(metric, statistic, float("inf"))
    for metric, statistic in (("ttft", "p90"), ("tbt", "p99"), ("e2e", "mean"))
)


@dataclass(frozen=True, slots=True)
class Rung:
    """How closely candidates are looked at."""

    number: int  # from 1
    num_requests: int
    whole: bool  # all replicas are simulated; else one, and the others serve as much
    tolerance: float
    margin: float  # candidates this share behind the best go no further


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a rung says of a candidate."""

    rate: float = 0.0  # requests/s of all replicas; 0: no rate meets the objectives
    ceiling: float = 0.0  # requests/s of all replicas when the queue is never empty
    limited_by: tuple[str, ...] = ()
    figures: dict[str, float | None] | None = None  # at the rate, by metric:statistic, s
    num_runs: int = 0
    num_simulated: int = 0  # requests
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rungs(num_requests: int, tolerance: float) -> tuple[Rung, ...]:
    """Roughly, well, on a quarter of the requests, on all; margins leave room for a rung's error."""
    # Both ends of a coarse bracket are a factor apart that the first margin leaves room for.
    few, some = max(LEAST, num_requests // 16), num_requests // 4
    made = []
    if num_requests >= 2 * LEAST:
        made = [Rung(1, few, False, max(COARSE, tolerance), 0.45), Rung(2, few, False, max(0.06, tolerance), 0.25)]
        if some > few:
            made.append(Rung(3, some, False, max(0.02, tolerance), 0.1))
    return (*made, Rung(len(made) + 1, num_requests, True, tolerance, 0.0))


def evaluate(
    resolved: Resolved,
    unit: Workload,
    objectives: Sequence[Objective],
    tolerance: float,
    *,
    guess: float | None = None,
    ceiling: float | None = None,
    known_within: float = COARSE,
    target: float | None = None,
    arena: Arena | None = None,
) -> Outcome:
    """The highest rate of a deployment within ``objectives``, or with ``target`` whether it serves this rate.

    ``guess`` and ``ceiling``: from a rung before, whose tolerance was ``known_within``. What cannot be simulated is an
    outcome with an error.
    """
    try:
        prober = Prober(resolved, build_cost(resolved).cost, unit, arena)
        everything = (*objectives, *WATCHED)
        if target is not None:
            tried = prober.at(target, everything)
            return _outcome(prober, tried if tried.met else None, tried.broken, 0.0)
        ceiling = ceiling or prober.throughput()
        # Both ends of a bracket around what is likely, so that two runs may do.
        half = sqrt(1 + known_within)
        start = ceiling / half if guess is None else guess * half
        step = 1 + known_within if guess is None else 1.01 * half
        found = highest_rate(lambda rate: prober.at(rate, everything), start, ceiling, tolerance, step)
        # Where every rate passes, the requests are over too soon to tell; it still finishes no more than this.
        low = found.low if found.high else prober.at(ceiling, everything)
        return _outcome(prober, low, found.high.broken if found.high else (), ceiling)
    except FastsimError as problem:
        return Outcome(error=str(problem))


def _outcome(prober: Prober, low: Probed | None, broken: tuple[str, ...], ceiling: float) -> Outcome:
    figures = {name.partition("<")[0]: value for name, value in low.figures.items()} if low else None
    rate = low.rate if low else 0.0
    return Outcome(rate, ceiling, broken, figures, prober.num_runs, prober.num_simulated)
