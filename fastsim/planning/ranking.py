"""Rankings: the score of a deployment, and the Pareto front of several figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import ConfigError, did_you_mean
from fastsim.planning.candidates import Candidate
from fastsim.planning.rungs import Outcome
from fastsim.sweeps.configuration import Row


def dollars_at(candidate: Candidate, rate: float, target: float) -> float:
    """Dollars per hour for as many replicas as serve ``target`` requests/s, when the candidate's own serve ``rate``."""
    replicas = ceil(target / (rate / candidate.copies) - 1e-9)
    return replicas * candidate.dollars_per_hour / candidate.copies


def _mean_latency(outcome: Outcome) -> float:
    return float((outcome.figures or {}).get("e2e:mean") or np.inf)


@dataclass(frozen=True, slots=True)
class Ranking:
    """How candidates are compared.

    ``score``: of a candidate, its outcome and the target rate, requests/s; the higher, the better. ``at_rate``: whether
    the target rate must be given. ``only_at_rate``: whether candidates are simulated at this rate alone, without a
    search for their capacity. ``meaning``: what the score stands for, as users read it.
    """

    meaning: str
    at_rate: bool
    score: Callable[[Candidate, Outcome, float], float]
    only_at_rate: bool = False


RANKINGS = {
    "qps_per_dollar": Ranking(
        "requests/s for $1 an hour",
        False,
        lambda candidate, outcome, _: outcome.rate / candidate.dollars_per_hour,
    ),
    "qps_per_watt": Ranking(
        "requests/s per watt of rated power",
        False,
        lambda candidate, outcome, _: outcome.rate / candidate.watts,
    ),
    "cost": Ranking(
        "$ an hour to serve --rate, in whole replicas",
        True,
        lambda candidate, outcome, target: 1 / dollars_at(candidate, outcome.rate, target),
    ),
    "latency": Ranking(
        "mean end-to-end time at --rate, s",
        True,
        lambda candidate, outcome, _: 1 / _mean_latency(outcome),
        only_at_rate=True,
    ),
}


def ranking_of(name: str, rate: float | None) -> Ranking:
    """The ranking of a name. Raises ConfigError if it is unknown, or needs a rate that is not given."""
    if name not in RANKINGS:
        raise ConfigError(f"rank: {name!r} is unknown; {did_you_mean(name, RANKINGS)}")
    if rate is not None and not 1e-9 <= rate <= 1e9:
        raise ConfigError(f"rate: {rate!r} is not requests per second above 0 (e.g. 50)")
    if RANKINGS[name].at_rate and rate is None:
        raise ConfigError(f"rank: {name!r} needs a rate to be compared at (e.g. --rate 50)")
    return RANKINGS[name]


def score(candidate: Candidate, outcome: Outcome, ranking: Ranking, rate: float | None) -> float:
    """The score of a candidate, 0 if no rate meets the objectives; ``rate``: the target of the ranking, requests/s."""
    return ranking.score(candidate, outcome, rate or 0.0) if outcome.rate > 0 else 0.0


LOWER_IS_BETTER = ("latency", "cost", "dollars", "gpus", "energy", "e2e", "ttft", "tbt", "tpot", "scheduling_delay")


def lower_is_better(metric: str) -> bool:
    """Whether less is better in this column of the table of a search."""
    return metric.startswith(LOWER_IS_BETTER)


def pareto(rows: Sequence[Row], metrics: Sequence[str]) -> list[int]:
    """Indices of the rows on the Pareto front of ``metrics``, sorted by the first of them, best first.

    A row is on the front if no other row is better in one metric and at least as good in all others. Rows without a
    figure in one of the metrics are left out. Raises ConfigError for a metric that no row has.
    """
    for metric in metrics:
        if not any(isinstance(row.get(metric), int | float) for row in rows):
            have = sorted({name for row in rows for name, value in row.items() if isinstance(value, int | float)})
            raise ConfigError(f"pareto: no figure {metric!r}; {did_you_mean(metric, have)}")
    complete = [index for index, row in enumerate(rows) if all(row.get(metric) is not None for metric in metrics)]
    signs = np.array([1.0 if lower_is_better(metric) else -1.0 for metric in metrics])
    costs: NDArray[np.float64] = np.array([[rows[index][m] for m in metrics] for index in complete], float) * signs
    front: list[int] = []
    for row in np.lexsort(costs.T[::-1]):  # rows that beat another come before it
        better = costs[front]
        beaten = np.all(better <= costs[row], axis=1) & np.any(better < costs[row], axis=1)
        if not beaten.any():
            front.append(int(row))
    return [complete[row] for row in front]
