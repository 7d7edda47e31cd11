"""How the winner of a search changes when the limit of an objective is relaxed or tightened."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastsim.deployment import schedulers
from fastsim.errors import ConfigError
from fastsim.planning.candidates import Candidate
from fastsim.planning.rungs import LEAST
from fastsim.planning.search import SearchResult
from fastsim.planning.workers import Evaluators
from fastsim.result.metrics.objectives import Objective, parse
from fastsim.simulation.run import Progress
from fastsim.sweeps.configuration import Row

SIZES = {"TP": "tensor_parallel_size", "PP": "pipeline_parallel_size"}
FACTORS = (0.5, 0.8, 1.25, 2.0)  # of a limit
TOLERANCE = 0.02
SLACK = 1.15  # the largest error, as a factor, of a rate found with few requests
BATCH = 8  # candidates simulated before those that can no longer win are left out


@dataclass(frozen=True, slots=True)
class Variation:
    """The winner with one objective changed; ``before``, ``after``: its requests/s for $1 an hour, of few requests."""

    objective: str
    changed: str
    before: float
    after: float
    winner: Row | None  # None: no configuration meets the changed objective
    same_winner: bool

    @property
    def tells(self) -> bool:
        """Whether another configuration wins, or the best rate changes by more than TOLERANCE, the error of rates."""
        return not self.same_winner or abs(self.after / self.before - 1) > TOLERANCE

    @property
    def sentence(self) -> str:
        """``tbt:p99<200ms -> tbt:p99<250ms: 1.08 times as many requests per dollar, the same winner``."""
        if self.winner is None:
            return f"{self.objective} -> {self.changed}: no configuration meets it"
        winner = "the same winner" if self.same_winner else f"won by {name_of(self.winner)}"
        ratio = f"{self.after / self.before:.2f} times as many requests per dollar"
        return f"{self.objective} -> {self.changed}: {ratio}, {winner}"

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)


def name_of(row: Row) -> str:
    """A configuration in a few words: device, parallelism, scheduler and batch size."""
    policy = row["scheduler.policy"]
    if tokens := row.get(f"scheduler.{schedulers.of(policy).token_budget}"):
        policy = f"{policy} {tokens}"
    sizes = [f"{short} {row[name]}" for short, name in SIZES.items() if row[name] is not None]
    if (row["data_parallel_size"] or 1) > 1:
        sizes.append(f"DP {row['data_parallel_size']}")
    if row["enable_expert_parallel"]:
        sizes.append("EP")
    pools = [name for name in row if name.startswith("pools.") and name.endswith(".num_replicas")]
    mix = " + ".join(f"{row[name]} {name.split('.')[1]}" for name in pools)
    kind = " ".join([row["device"], *sizes, policy]) + f", {row['scheduler.max_num_seqs']} seqs"
    return f"{mix}: {kind}" if mix else kind


def sensitivity(
    result: SearchResult,
    factors: Sequence[float] = FACTORS,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Variation]:
    """Find the winner by requests per dollar when the limit of one objective is multiplied by each of ``factors``.

    Candidates are simulated in the order of the most that they might serve, and one that can no longer win is not
    simulated: with a tighter limit it serves no more than now, with a looser one no more than its ceiling. Rates
    before and after are of one replica and as few requests as in the first rung of a search. Without a configuration
    that meets the objectives, the list is empty. Raises ConfigError for a factor that is not above 0.
    """
    if any(not 0 < factor < float("inf") for factor in factors):
        raise ConfigError(f"factors: {list(factors)} are not all above 0 (e.g. [0.5, 2])")
    objectives = [parse(text) for text in result.objectives]
    simulated = [pair for pair in zip(result.candidates, result.rows, strict=True) if pair[1]["ceiling"]]
    if not any(row["capacity"] for _, row in simulated):
        return []
    workers = Evaluators(threads, None)
    before, winner = _best(simulated, objectives, False, workers)
    if winner is None:
        return []
    steps, variations = len(objectives) * len(factors), []
    for index, objective in enumerate(objectives):
        for factor in factors:
            changed = replace(objective, limit=objective.limit * factor)
            others = [*objectives[:index], changed, *objectives[index + 1 :]]
            after, new_winner = _best(simulated, others, factor > 1, workers)
            same = new_winner is not None and winner["digest"] == new_winner["digest"]
            variations.append(Variation(str(objective), str(changed), before, after, new_winner, same))
            if progress:
                progress(len(variations) / steps)
    return variations


def _best(
    simulated: Sequence[tuple[Candidate, Row]], objectives: Sequence[Objective], looser: bool, workers: Evaluators
) -> tuple[float, Row | None]:
    """The winner's requests/s for $1 an hour, and its row; ``looser``: a limit is higher than in the search."""

    def bound(row: Row) -> float:
        """The most that a candidate might serve for $1 an hour, requests/s."""
        return float(SLACK * row["ceiling" if looser else "capacity"] / row["dollars_per_hour"])

    order = sorted(simulated, key=lambda pair: (-bound(pair[1]), -pair[1]["capacity"]))
    if looser:  # the present winner first: it is likely to stay close to the best, which rules out many others
        order.sort(key=lambda pair: pair[1] is not simulated[0][1])
    best: tuple[float, Row | None] = (0.0, None)
    while order and (not best[1] or max(bound(row) for _, row in order) > best[0]):
        batch = [pair for pair in order if bound(pair[1]) > best[0]][:BATCH]
        chosen = {id(row) for _, row in batch}
        order = [pair for pair in order if id(pair[1]) not in chosen]
        tasks = {str(number): _task(candidate, row, objectives) for number, (candidate, row) in enumerate(batch)}
        outcomes = dict(workers.each(tasks))
        for number, (candidate, row) in enumerate(batch):
            rate = outcomes[str(number)].rate * candidate.copies / candidate.dollars_per_hour
            if rate > best[0]:
                best = rate, row
    return best


def _task(candidate: Candidate, row: Row, objectives: Sequence[Objective]) -> dict[str, Any]:
    """The arguments of ``evaluate`` for one replica and few requests."""
    return {
        "resolved": candidate.single,
        "unit": candidate.unit.head(min(candidate.unit.num_requests, 2 * LEAST)),
        "objectives": objectives,
        "tolerance": TOLERANCE,
        "guess": row["capacity"] / candidate.copies or None,
        "ceiling": row["ceiling"] / candidate.copies,
        "known_within": TOLERANCE,
    }
