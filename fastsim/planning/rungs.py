"""Successive halving: each rung simulates more requests, more closely, of the candidates that the last one left."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import FastsimError
from fastsim.planning.bracket import highest_rate, most_users
from fastsim.planning.settle import bear, settle
from fastsim.planning.steady import judged
from fastsim.planning.stream import Source
from fastsim.planning.trials import Trials
from fastsim.predictors.build import build_cost
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.arena import Arena
from fastsim.simulation.probe import Probed, Prober
from fastsim.workload import Workload

LEAST = 1000  # requests of the first rung
COARSE = 0.3  # tolerance of the first rung
WATCHED = tuple(  # latencies that are reported besides the objectives; no value of them is too high
    Objective(metric, statistic, float("inf"))
    for metric, statistic in (("ttft", "p90"), ("tbt", "p99"), ("e2e", "mean"))
)


@dataclass(frozen=True, slots=True)
class Rung:
    """How closely the candidates of one rung are simulated, and which of them go on to the next."""

    number: int  # from 1
    num_requests: int
    whole: bool  # all replicas are simulated; otherwise one is, and the rate of the others is taken to be the same
    tolerance: float  # of the rates
    margin: float  # candidates whose score is this share below the best one go no further


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the simulations of one rung show of a candidate."""

    rate: float = 0.0  # highest rate within the objectives, requests/s of all replicas; 0: no rate meets them
    ceiling: float = 0.0  # requests/s of all replicas while the queue is never empty
    limited_by: tuple[str, ...] = ()  # objectives that are not met at a slightly higher rate
    figures: dict[str, float | None] | None = None  # latencies at the rate, by metric:statistic, s
    num_runs: int = 0
    num_simulated: int = 0  # requests
    error: str | None = None
    users: int | None = None  # the most users within the objectives, where these are looked for
    num_requests: int | None = None  # of a run, where the rate has held in a longer one

    def as_dict(self) -> dict[str, Any]:
        """The fields, as the journal keeps them."""
        return asdict(self)


def rungs(num_requests: int, tolerance: float, users: bool = False) -> tuple[Rung, ...]:
    """The rungs of a search, four unless there are few requests: coarse, fine, a quarter of the requests, all of them.

    The last one finds rates within ``tolerance`` for ``num_requests``; the margins cover the error of each rung. Where
    ``users`` are looked for it is the only one, as few requests are sent by few users.
    """
    # The first margin covers the ratio between the two ends of a coarse bracket.
    few, quarter = max(LEAST, num_requests // 16), num_requests // 4
    made = []
    if num_requests >= 2 * LEAST and not users:
        made = [Rung(1, few, False, max(COARSE, tolerance), 0.45), Rung(2, few, False, max(0.06, tolerance), 0.25)]
        if quarter > few:
            made.append(Rung(3, quarter, False, max(0.02, tolerance), 0.1))
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
    users: bool = False,
    source: Source | None = None,
    arena: Arena | None = None,
) -> Outcome:
    """Find the highest rate of a deployment within ``objectives``, or with ``target`` try this rate only, requests/s.

    With ``users``, find the highest number of users who wait for their answers instead.

    ``unit``: the requests at 1 request/s. ``guess`` and ``ceiling`` come from an earlier rung, which found its rate
    within ``known_within``. ``source``: of longer runs, in which the rate must hold as ``capacity`` has it, instead of
    ``unit``. An input that cannot be simulated gives an outcome with an error.
    """
    try:
        if source is not None:
            return _held(Trials(resolved, source, (*objectives, *WATCHED)), tolerance, guess, ceiling, target)
        prober = Prober(resolved, build_cost(resolved).costs, unit, arena)
        everything = (*objectives, *WATCHED)
        if target is not None:
            tried = judged(prober.at(target, everything))
            return _outcome(prober, tried if tried.met else None, tried.broken, 0.0)
        ceiling = ceiling or prober.throughput()
        if users:
            slots, most = resolved.num_engines * resolved.scheduler.max_num_seqs, prober.most_users
            bracket = most_users(lambda each: prober.with_users(each, everything), slots, most, tolerance)
            return _outcome(prober, bracket.low, bracket.high.broken if bracket.high else (), ceiling)
        # The first two rates are the ends of the bracket that the answer is likely to lie in, so that two may do.
        half = sqrt(1 + known_within)
        start = ceiling / half if guess is None else guess * half
        step = 1 + known_within if guess is None else 1.01 * half
        bracket = highest_rate(lambda rate: judged(prober.at(rate, everything)), start, ceiling, tolerance, step)
        # Where every rate passes, the requests are over too soon to tell; the deployment finishes its ceiling at most.
        low = bracket.low if bracket.high else prober.at(ceiling, everything)
        return _outcome(prober, low, bracket.high.broken if bracket.high else (), ceiling)
    except FastsimError as problem:
        return Outcome(error=str(problem))


def _held(
    trials: Trials, tolerance: float, guess: float | None, ceiling: float | None, target: float | None
) -> Outcome:
    """The load that holds, or whether ``target`` does, requests/s."""
    if target is not None:
        borne = bear(trials, target, tolerance)
        figures = _figures(borne.at_load) if borne.met else None
        broken = () if borne.met else borne.failing.broken
        rate, number = target if borne.met else 0.0, borne.number
        return Outcome(rate, 0.0, broken, figures, trials.num_runs, trials.num_simulated, num_requests=number)
    settled = settle(trials, tolerance, guess, ceiling)
    failing, rate, users = settled.failing, settled.load, None
    figures = None
    if settled.load:
        at_load = trials.at(settled.load, settled.number)
        figures, rate, users = _figures(at_load), at_load.rate, at_load.users
    elif trials.source.users:
        users = 0
    broken = failing.broken if failing else ()
    counts = trials.num_runs, trials.num_simulated
    return Outcome(rate, settled.ceiling, broken, figures, *counts, users=users, num_requests=settled.number)


def _figures(probed: Probed) -> dict[str, float | None]:
    return {name.partition("<")[0]: value for name, value in probed.figures.items()}


def _outcome(prober: Prober, low: Probed | None, broken: tuple[str, ...], ceiling: float) -> Outcome:
    figures = _figures(low) if low else None
    rate = low.rate if low else 0.0
    users = low.users if low else None
    return Outcome(rate, ceiling, broken, figures, prober.num_runs, prober.num_simulated, users=users)
