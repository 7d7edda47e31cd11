"""Confirming the best candidates of a search: their rates must hold in runs that are long enough."""

from collections.abc import Sequence
from dataclasses import replace

from fastsim.planning.candidates import Candidate
from fastsim.planning.halving import Outcomes
from fastsim.planning.journal import Journal
from fastsim.planning.ranking import Ranking, score
from fastsim.planning.rungs import Outcome
from fastsim.planning.workers import Evaluators
from fastsim.result.metrics.objectives import Objective

BEST = 2  # candidates that are confirmed: the winner and the runner-up


def confirm(
    everything: Sequence[Candidate],
    outcomes: Outcomes,
    tolerance: float,
    objectives: Sequence[Objective],
    ranking: Ranking,
    rate: float | None,
    journal: Journal,
    workers: Evaluators,
    users: bool,
) -> Outcomes:
    """The outcomes with those of the best confirmed, so many that no other candidate looks better than BEST of them.

    Only candidates that reached the last rung count. Longer runs rarely show that more can be served than ``likely``,
    so the best of the candidates that are not confirmed are confirmed next.
    """
    last = max((rung.number for rung, _ in outcomes.values()), default=0)
    there = [one for one in everything if outcomes[one.digest][0].number == last]
    outcomes = dict(outcomes)
    for one in there:
        rung, outcome = outcomes[one.digest]
        outcomes[one.digest] = rung, likely(outcome, tolerance)

    def value(candidate: Candidate) -> float:
        return score(candidate, outcomes[candidate.digest][1], ranking, rate)

    while True:
        there.sort(key=lambda one: -value(one))
        best = [one for one in there if value(one) > 0][:BEST]
        open_ones = [one for one in best if outcomes[one.digest][1].num_requests is None]
        if not open_ones:
            return outcomes
        tasks = {}
        for one in open_ones:
            known = outcomes[one.digest][1]
            tasks[f"held:{one.digest}"] = {
                "resolved": one.resolved,
                "unit": one.unit.head(1) if not users else one.unit,
                "objectives": objectives,
                "tolerance": tolerance,
                "guess": float(known.users or 0) or None if users else known.rate,
                "ceiling": known.ceiling or None,
                "target": rate if ranking.only_at_rate else None,
                "users": users,
                "source": one.source,
            }
        missing = {key: task for key, task in tasks.items() if key not in journal.known}
        for key, outcome in workers.each(missing):
            journal.add(key, outcome.as_dict())
        for one in open_ones:
            rung, _ = outcomes[one.digest]
            outcomes[one.digest] = rung, Outcome(**journal.known[f"held:{one.digest}"])


def likely(outcome: Outcome, tolerance: float) -> Outcome:
    """The outcome of a run that may be too short, with the rate that longer ones are likely to show at most.

    That is no more than is served while the queue is never empty, with ``tolerance`` to spare, as rates that are
    confirmed have. Users and a rate that was given stay as they are.
    """
    if outcome.users is not None or not outcome.ceiling:
        return outcome
    return replace(outcome, rate=min(outcome.rate, outcome.ceiling) / (1 + tolerance))
