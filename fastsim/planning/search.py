"""The best deployments of a space: capacity of every configuration, the losers' at little cost."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.planning.budget import parse_budget
from fastsim.planning.candidates import Candidate, candidates
from fastsim.planning.capacity import NUM_REQUESTS, TOLERANCE, check, objectives_of
from fastsim.planning.journal import Journal
from fastsim.planning.ranking import Ranking, Row, ranking_of, score
from fastsim.planning.rows import limit_of, notes, rows_of
from fastsim.planning.rungs import COARSE, Outcome, Rung, rungs
from fastsim.planning.workers import Evaluators
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.run import Progress
from fastsim.sweeps.space import Space
from fastsim.version import __version__

if TYPE_CHECKING:
    from distributed import Client

KEEP = 8  # candidates that every rung leaves, however far they are behind
EXPLAINED = 2  # of the best: what limits them


@dataclass(frozen=True)
class Found:
    """``rows``: a row per configuration, the best first; those looked at most closely before all others.

    ``limits``: what limits the winner and the runner-up, a sentence each. ``dropped``: combinations by the reason for
    which they are no configurations. ``num_simulated``: requests, in all ``num_runs`` simulations, of earlier
    sessions of a search that was resumed too.
    """

    rows: tuple[Row, ...]
    candidates: tuple[Candidate, ...]  # in the order of the rows
    rank: str
    rate: float | None
    objectives: tuple[str, ...]
    limits: tuple[str, ...]
    notes: tuple[str, ...]
    dropped: Mapping[str, int]
    num_runs: int
    num_simulated: int
    seconds: float


def search(
    space: Space | str | Path | Mapping[str, Any],
    budget: str | float | None = None,
    objectives: Sequence[str | Objective] = (),
    *,
    rank: str = "qps_per_dollar",
    rate: float | None = None,
    num_requests: int | None = None,
    tolerance: float = TOLERANCE,
    out: str | Path | None = None,
    threads: int | None = None,
    client: "Client | None" = None,
    progress: Progress | None = None,
    yes: bool = False,
) -> Found:
    """Find the configurations of ``space`` that do best by ``rank`` within ``objectives`` and ``budget``.

    ``budget``: ``16`` GPUs or ``"$40/h"``; where the space does not vary num_replicas, each configuration gets as many
    replicas as it pays for. ``rank``: a name of ranking.RANKINGS; ``rate``: requests/s, for those that need it.
    All configurations are tried on few requests, the best on more, and the best of these as they are, on
    ``num_requests`` (rungs.py). ``out``: a folder to which findings go as they come, and from which they are taken
    when the search runs again. ``client``: of a Dask cluster; else ``threads`` of this process.

    The same answer on any number of threads or workers. Raises InputError for a space or settings that cannot be
    meant; a configuration that cannot be simulated is a row with its error.
    """
    began = time.perf_counter()
    check(tolerance, 0)
    ranking, wanted = ranking_of(rank, rate), objectives_of(objectives)
    priced = parse_budget(budget)
    everyone, dropped = candidates(space, priced, num_requests, NUM_REQUESTS, yes=yes)
    steps = rungs(min(one.unit.num_requests for one in everyone), tolerance)
    about = {
        "version": __version__,
        "objectives": [str(one) for one in wanted],
        "rank": rank,
        "rate": rate,
        "tolerance": tolerance,
        "requests": [rung.num_requests for rung in steps],
    }
    journal = Journal(Path(out) if out else None, about)
    workers = Evaluators(threads, client)
    target = rate if rank == "latency" else None
    outcomes: dict[str, tuple[Rung, Outcome]] = {}
    left = everyone
    try:
        for rung in steps:
            part = _part(progress, rung.number - 1, len(steps))
            found = _climb(left, rung, wanted, target, outcomes, journal, workers, part)
            for one, outcome in zip(left, found, strict=True):
                outcomes[one.digest] = rung, outcome
            left = _best(left, outcomes, ranking, rate, rung.margin)
            if not left:
                break
    finally:
        journal.close()
    order = sorted(everyone, key=lambda one: _rank(one, outcomes[one.digest], ranking, rate), reverse=True)
    rows = rows_of(order, outcomes, ranking, rate, threads)
    able = [(one, row) for one, row in zip(order, rows, strict=True) if row["score"]]
    return Found(
        rows=tuple(rows),
        candidates=tuple(order),
        rank=rank,
        rate=rate,
        objectives=tuple(map(str, wanted)),
        limits=tuple(limit_of(one, row, wanted) for one, row in able[:EXPLAINED]),
        notes=tuple(notes(able, wanted, tolerance)),
        dropped=dropped,
        num_runs=sum(one["num_runs"] for one in journal.known.values()),
        num_simulated=sum(one["num_simulated"] for one in journal.known.values()),
        seconds=time.perf_counter() - began,
    )


def _climb(
    left: Sequence[Candidate],
    rung: Rung,
    wanted: Sequence[Objective],
    target: float | None,
    before: Mapping[str, tuple[Rung, Outcome]],
    journal: Journal,
    workers: Evaluators,
    progress: Progress,
) -> list[Outcome]:
    """The outcomes of a rung, in the order of the candidates; those that share a replica share its outcome."""
    keys = [f"{rung.number}:{(one.digest if rung.whole else one.one_digest)}" for one in left]
    tasks = {}
    for one, key in zip(left, keys, strict=True):
        if key in journal.known or key in tasks:
            continue
        known = before[one.digest][1] if one.digest in before else Outcome()
        share = 1.0 if rung.whole else 1.0 / one.num_replicas
        tasks[key] = {
            "resolved": one.resolved if rung.whole else one.one,
            "unit": one.unit.head(min(rung.num_requests, one.unit.num_requests)),
            "objectives": wanted,
            "tolerance": rung.tolerance,
            "guess": known.rate * share or None,
            "ceiling": known.ceiling * share or None,
            "known_within": before[one.digest][0].tolerance if one.digest in before else COARSE,
            "target": None if target is None else target * share,
        }
    for done, (key, outcome) in enumerate(workers.each(tasks)):
        journal.add(key, outcome.as_dict())
        progress((done + 1) / len(tasks))
    found = [Outcome(**journal.known[key]) for key in keys]
    if rung.whole:
        return found
    return [
        replace(outcome, rate=outcome.rate * one.num_replicas, ceiling=outcome.ceiling * one.num_replicas)
        for one, outcome in zip(left, found, strict=True)
    ]


def _part(progress: Progress | None, number: int, of: int) -> Progress:
    def report(share: float) -> None:
        if progress:
            progress((number + share) / of)

    return report


def _rank(one: Candidate, found: tuple[Rung, Outcome], ranking: Ranking, rate: float | None) -> tuple[bool, int, float]:
    """Whoever serves anything first, then whoever was looked at most closely, then by score."""
    value = score(one, found[1], ranking, rate)
    return value > 0, found[0].number, value


def _best(
    left: Sequence[Candidate],
    outcomes: Mapping[str, tuple[Rung, Outcome]],
    ranking: Ranking,
    rate: float | None,
    margin: float,
) -> list[Candidate]:
    """Those within ``margin`` of the best, and KEEP at least; nobody who serves nothing."""
    scores = {one.digest: score(one, outcomes[one.digest][1], ranking, rate) for one in left}
    able = sorted((one for one in left if scores[one.digest] > 0), key=lambda one: -scores[one.digest])
    return [
        one
        for place, one in enumerate(able)
        if place < KEEP or scores[one.digest] >= (1 - margin) * scores[able[0].digest]
    ]
