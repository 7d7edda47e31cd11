"""Successive halving: candidates are evaluated on one rung after the other, and the best go on to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastsim.planning.candidates import Candidate
from fastsim.planning.journal import Journal
from fastsim.planning.ranking import Ranking, score
from fastsim.planning.rungs import COARSE, Outcome, Rung
from fastsim.planning.workers import Evaluators
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.run import Progress

KEEP = 8  # the best candidates of a rung that go on even if they are outside its margin

Outcomes = Mapping[str, tuple[Rung, Outcome]]  # of the last rung that each candidate reached, by its digest


def halve(
    everything: Sequence[Candidate],
    steps: Sequence[Rung],
    objectives: Sequence[Objective],
    ranking: Ranking,
    rate: float | None,
    journal: Journal,
    workers: Evaluators,
    progress: Progress | None,
    users: bool = False,
) -> Outcomes:
    """The outcomes of all candidates on the last of the rungs ``steps`` that each reaches.

    ``rate``: the target of the ranking, requests/s. ``users``: whether these are looked for.
    Outcomes that the journal has already are not computed again.
    """
    target = rate if ranking.only_at_rate else None
    outcomes: dict[str, tuple[Rung, Outcome]] = {}
    remaining = everything
    for rung in steps:
        tasks = _tasks(remaining, rung, objectives, target, outcomes, users)
        _evaluate(tasks, journal, workers, _share(progress, rung.number - 1, len(steps)))
        for candidate in remaining:
            outcomes[candidate.digest] = rung, _outcome(candidate, rung, journal)
        remaining = _promoted(remaining, outcomes, ranking, rate, rung.margin)
        if not remaining:
            break
    return outcomes


def _key(candidate: Candidate, rung: Rung) -> str:
    """The key of an outcome in the journal: candidates that differ only in their replicas share those of one."""
    return f"{rung.number}:{candidate.digest if rung.whole else candidate.single_digest}"


def _tasks(
    remaining: Sequence[Candidate],
    rung: Rung,
    objectives: Sequence[Objective],
    target: float | None,
    before: Outcomes,
    users: bool,
) -> dict[str, dict[str, Any]]:
    """The arguments of ``evaluate`` for each outcome that a rung needs, by its key; ``before``: of earlier rungs."""
    tasks: dict[str, dict[str, Any]] = {}
    for candidate in remaining:
        known = before[candidate.digest][1] if candidate.digest in before else Outcome()
        share = 1.0 if rung.whole else 1.0 / candidate.copies
        task = {
            "resolved": candidate.resolved if rung.whole else candidate.single,
            "unit": candidate.unit.head(min(rung.num_requests, candidate.unit.num_requests)),
            "objectives": objectives,
            "tolerance": rung.tolerance,
            "guess": known.rate * share or None,
            "ceiling": known.ceiling * share or None,
            "known_within": before[candidate.digest][0].tolerance if candidate.digest in before else COARSE,
            "target": None if target is None else target * share,
            "users": users,
        }
        tasks.setdefault(_key(candidate, rung), task)
    return tasks


def _evaluate(tasks: Mapping[str, dict[str, Any]], journal: Journal, workers: Evaluators, progress: Progress) -> None:
    """Add the outcomes that the journal does not know yet."""
    missing = {key: task for key, task in tasks.items() if key not in journal.known}
    for done, (key, outcome) in enumerate(workers.each(missing), start=1):
        journal.add(key, outcome.as_dict())
        progress(done / len(missing))


def _outcome(candidate: Candidate, rung: Rung, journal: Journal) -> Outcome:
    """The outcome of a candidate, with the rates of all its replicas."""
    outcome, number = Outcome(**journal.known[_key(candidate, rung)]), candidate.copies
    return outcome if rung.whole else replace(outcome, rate=outcome.rate * number, ceiling=outcome.ceiling * number)


def _share(progress: Progress | None, number: int, of: int) -> Progress:
    """The progress of part ``number`` (from 0) of ``of`` equal parts."""

    def report(share: float) -> None:
        if progress:
            progress((number + share) / of)

    return report


def _promoted(
    remaining: Sequence[Candidate], outcomes: Outcomes, ranking: Ranking, rate: float | None, margin: float
) -> list[Candidate]:
    """The candidates that go on: all within ``margin`` of the best, and at least KEEP; none that serves no rate."""
    scores = {
        candidate.digest: score(candidate, outcomes[candidate.digest][1], ranking, rate) for candidate in remaining
    }
    feasible = [candidate for candidate in remaining if scores[candidate.digest] > 0]
    feasible.sort(key=lambda candidate: -scores[candidate.digest])
    return [
        candidate
        for index, candidate in enumerate(feasible)
        if index < KEEP or scores[candidate.digest] >= (1 - margin) * scores[feasible[0].digest]
    ]
