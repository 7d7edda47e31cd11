"""What makes one deployment better than another, and which are not beaten in everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError, did_you_mean
from fastsim.planning.candidates import Candidate
from fastsim.planning.rungs import Outcome

Row = dict[str, Any]


def dollars_at(candidate: Candidate, rate: float, target: float) -> float:
    """$ an hour for as many replicas as serve ``target`` requests/s, when all of them serve ``rate``."""
    replicas = ceil(target / (rate / candidate.num_replicas) - 1e-9)
    return replicas * candidate.dollars_per_hour / candidate.num_replicas


def _latency(outcome: Outcome) -> float:
    return float((outcome.figures or {}).get("e2e:mean") or np.inf)


@dataclass(frozen=True, slots=True)
class Ranking:
    """``score``: of a candidate that serves a rate above 0, the higher the better; ``at_rate``: at a target rate."""

    meaning: str
    at_rate: bool
    score: Callable[[Candidate, Outcome, float], float]


RANKINGS = {
    "qps_per_dollar": Ranking(
        "requests/s for $1 an hour", False, lambda one, outcome, _: outcome.rate / one.dollars_per_hour
    ),
    "qps_per_watt": Ranking(
        "requests/s for a watt of rated power",
        False,
        lambda one, outcome, _: outcome.rate / (one.resolved.num_gpus * one.resolved.device.power_w),
    ),
    "cost": Ranking(
        "$ an hour that serve --rate, in whole replicas",
        True,
        lambda one, outcome, target: 1 / dollars_at(one, outcome.rate, target),
    ),
    "latency": Ranking("mean end-to-end time at --rate, s", True, lambda one, outcome, _: 1 / _latency(outcome)),
}


def ranking_of(name: str, rate: float | None) -> Ranking:
    """The ranking of a name. Raises ConfigError for an unknown one, and for one that needs a rate and has none."""
    if name not in RANKINGS:
        raise ConfigError(f"rank: {name!r} is unknown; {did_you_mean(name, RANKINGS)}")
    if rate is not None and not 1e-9 <= rate <= 1e9:
        raise ConfigError(f"rate: {rate!r} is not requests per second above 0 (e.g. 50)")
    if RANKINGS[name].at_rate and rate is None:
        raise ConfigError(f"rank: {name!r} needs a rate to be compared at (e.g. --rate 50)")
    return RANKINGS[name]


def score(one: Candidate, outcome: Outcome, ranking: Ranking, rate: float | None) -> float:
    """The higher the better; 0 where no rate meets the objectives."""
    return ranking.score(one, outcome, rate or 0.0) if outcome.rate > 0 else 0.0


LOWER_IS_BETTER = ("latency", "cost", "dollars", "gpus", "energy", "e2e", "ttft", "tbt", "tpot", "scheduling_delay")


def lower_is_better(metric: str) -> bool:
    """Whether less of a column of a search is better."""
    return metric.startswith(LOWER_IS_BETTER)


def pareto(rows: Sequence[Row], metrics: Sequence[str]) -> list[int]:
    """Places of the rows that no other row beats in one of the metrics without losing in another, best first by the
    first metric; rows without a figure in one of them are out. Raises ConfigError for a metric that no row has."""
    for metric in metrics:
        if not any(isinstance(row.get(metric), int | float) for row in rows):
            have = sorted({name for row in rows for name, value in row.items() if isinstance(value, int | float)})
            raise ConfigError(f"pareto: no figure {metric!r}; {did_you_mean(metric, have)}")
    places = [place for place, row in enumerate(rows) if all(row.get(metric) is not None for metric in metrics)]
    signs = np.array([1.0 if lower_is_better(metric) else -1.0 for metric in metrics])
    costs: NDArray[np.float64] = np.array([[rows[place][m] for m in metrics] for place in places], float) * signs
    front: list[int] = []
    for one in np.lexsort(costs.T[::-1]):  # whoever beats a row stands before it
        there = costs[front]
        beaten = np.all(there <= costs[one], axis=1) & np.any(there < costs[one], axis=1)
        if not beaten.any():
            front.append(int(one))
    return [places[one] for one in front]
