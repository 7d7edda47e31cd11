"""How the winner of a search changes when an objective is relaxed or tightened."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from fastsim.deployment import schedulers
from fastsim.errors import ConfigError
from fastsim.planning.candidates import Candidate
from fastsim.planning.ranking import Row
from fastsim.planning.rungs import LEAST
from fastsim.planning.search import Found
from fastsim.planning.workers import Evaluators
from fastsim.result.metrics.objectives import Objective, parse
from fastsim.simulation.run import Progress

FACTORS = (0.5, 0.8, 1.25, 2.0)  # of a limit
TOLERANCE = 0.02
SLACK = 1.15  # rates of few requests are this far off at most
BATCH = 8  # candidates tried before those that cannot win any more are left out


@dataclass(frozen=True, slots=True)
class Variation:
    """``before`` and ``after``: requests/s for $1 an hour of the best, as found on few requests."""

    objective: str
    changed: str
    before: float
    after: float
    winner: Row | None
    same_winner: bool

    @property
    def tells(self) -> bool:
        """Whether anything changes that can be told apart."""
        return not self.same_winner or abs(self.after / self.before - 1) > TOLERANCE

    @property
    def sentence(self) -> str:
        """``tbt:p99<200ms -> tbt:p99<250ms: 1.08 times as many requests per dollar, same winner``."""
        if self.winner is None:
            return f"{self.objective} -> {self.changed}: no configuration meets it"
        who = "the same winner" if self.same_winner else f"won by {name_of(self.winner)}"
        return f"{self.objective} -> {self.changed}: {self.after / self.before:.2f} times as many per dollar, {who}"

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def name_of(row: Row) -> str:
    """A configuration in a few words."""
    policy = row["scheduler.policy"]
    if schedulers.of(policy).token_budget == "chunk_size" and row.get("scheduler.chunk_size"):
        policy = f"{policy} {row['scheduler.chunk_size']}"
    size = f"TP {row['tensor_parallel_size']} PP {row['pipeline_parallel_size']}"
    return f"{row['device']} {size} {policy}, {row['scheduler.max_num_seqs']} seqs"


def sensitivity(
    found: Found,
    factors: Sequence[float] = FACTORS,
    *,
    threads: int | None = None,
    progress: Progress | None = None,
) -> list[Variation]:
    """The best by requests per dollar when the limit of one objective is multiplied by each of ``factors``.

    Candidates are tried in the order of what they might serve at best: with a tighter limit no more than with the
    present one, with a looser one no more than their ceiling. Whoever cannot win any more is not tried. Rates are of
    one replica and the few requests of a search's first rung, before and after.
    """
    if any(not 0 < factor < float("inf") for factor in factors):
        raise ConfigError(f"factors: {list(factors)} are not all above 0 (e.g. [0.5, 2])")
    wanted = [parse(one) for one in found.objectives]
    able = [(one, row) for one, row in zip(found.candidates, found.rows, strict=True) if row["ceiling"]]
    if not any(row["capacity"] for _, row in able):
        return []
    workers = Evaluators(threads, None)
    now = _best(able, wanted, False, workers)
    if now[1] is None:
        return []
    steps, made = len(wanted) * len(factors), []
    for place, objective in enumerate(wanted):
        for factor in factors:
            changed = replace(objective, limit=objective.limit * factor)
            others = [*wanted[:place], changed, *wanted[place + 1 :]]
            then = _best(able, others, factor > 1, workers)
            same = then[1] is not None and now[1]["digest"] == then[1]["digest"]
            made.append(Variation(str(objective), str(changed), now[0], then[0], then[1], same))
            if progress:
                progress(len(made) / steps)
    return made


def _best(
    able: Sequence[tuple[Candidate, Row]], wanted: Sequence[Objective], looser: bool, workers: Evaluators
) -> tuple[float, Row | None]:
    """Requests/s for $1 an hour of the best, and its row."""

    def bound(row: Row) -> float:
        return float(SLACK * row["ceiling" if looser else "capacity"] / row["dollars_per_hour"])

    order = sorted(able, key=lambda pair: (-bound(pair[1]), -pair[1]["capacity"]))
    if looser:  # whoever wins now is likely to be near: the sooner many others need no trial
        order.sort(key=lambda pair: pair[1] is not able[0][1])
    best: tuple[float, Row | None] = (0.0, None)
    while order and (not best[1] or max(bound(row) for _, row in order) > best[0]):
        batch = [pair for pair in order if bound(pair[1]) > best[0]][:BATCH]
        chosen = {id(pair[1]) for pair in batch}
        order = [pair for pair in order if id(pair[1]) not in chosen]
        tasks = {
            str(number): {
                "resolved": one.one,
                "unit": one.unit.head(min(one.unit.num_requests, 2 * LEAST)),
                "objectives": wanted,
                "tolerance": TOLERANCE,
                "guess": row["capacity"] / one.num_replicas or None,
                "ceiling": row["ceiling"] / one.num_replicas,
                "known_within": TOLERANCE,
            }
            for number, (one, row) in enumerate(batch)
        }
        outcomes = dict(workers.each(tasks))
        for number, (one, row) in enumerate(batch):
            rate = outcomes[str(number)].rate * one.num_replicas / one.dollars_per_hour
            if rate > best[0]:
                best = rate, row
    return best
