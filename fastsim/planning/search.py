"""Searching a space for the best deployments: losers are simulated briefly, the best candidates in full."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError
from fastsim.planning import notes
from fastsim.planning.budget import parse_budget
from fastsim.planning.candidates import MERGED, Candidate, candidates
from fastsim.planning.capacity import TOLERANCE, check
from fastsim.planning.confirming import confirm
from fastsim.planning.halving import Outcomes, halve
from fastsim.planning.journal import Journal
from fastsim.planning.ranking import RANKINGS, Ranking, ranking_of, score
from fastsim.planning.rows import limit_of, rows_of
from fastsim.planning.rungs import rungs
from fastsim.planning.stream import NUM_REQUESTS
from fastsim.planning.workers import Evaluators
from fastsim.predictors.build import times_notes
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.simulation.run import Progress
from fastsim.sweeps.configuration import Row
from fastsim.sweeps.space import Space
from fastsim.version import __version__

if TYPE_CHECKING:
    from distributed import Client

EXPLAINED = 2  # of the best candidates, those whose limits are explained


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes
    ----------
    rows : tuple of dict
        A row for each configuration: its settings, score, capacity and other figures by column, as in
        configurations.parquet. Best first; those that were simulated more closely come before all others.
    candidates : tuple of Candidate
        The configurations, in the order of the rows.
    rank : str
        The name of the ranking.
    rate : float or None
        The target rate of the ranking, requests/s.
    objectives : tuple of str
        The objectives, such as ``"ttft:p90<2s"``.
    limits : tuple of str
        What limits the winner and the runner-up, a sentence or two each.
    notes : tuple of str
        What the ranking cannot show, one sentence each.
    dropped : mapping of str to int
        How many combinations of the space are not among the rows, by reason.
    num_runs, num_simulated : int
        Simulations, and the requests that finished in all of them, including those of a search that was resumed.
    seconds : float
        Time that the search took, s.
    """

    rows: tuple[Row, ...]
    candidates: tuple[Candidate, ...]
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
    users: bool = False,
    yes: bool = False,
    confirmed: bool = True,
) -> SearchResult:
    """Find the configurations of a space that serve most within their objectives and a budget.

    All configurations are simulated with few requests, the better ones with more, and the best in full, by successive
    halving. The winner and the runner-up are then simulated for as long as ``capacity`` does, until no configuration
    that was not looks better: with no more than it serves while its queue is never empty, and ``tolerance`` of it to
    spare. Settings that change nothing make no configuration of their own. The same arguments give
    the same answer, to the bit, on any number of threads or workers.

    Parameters
    ----------
    space : str, Path, mapping or Space
        A YAML, TOML or JSON file that describes the space, or its content: ``deployment``, ``workload``, ``axes``,
        ``zip`` and ``where``, as for ``sweep``. Workload rates cannot vary, as the search finds the rate.
    budget : str or float, optional
        The most that a deployment may use: a number of GPUs such as ``16``, or dollars per hour such as ``"$40/h"``.
        If the space does not vary ``num_replicas``, each configuration gets the replicas that the budget pays for;
        those of pools keep their ratio.
        By default there is no limit, and one replica.
    objectives : sequence of str
        What the latencies must keep to, such as ``"ttft:p90<2s"``. By default those of Vidur:
        ``scheduling_delay:p99<5s``, ``ttft:p90<2s`` and ``tbt:p99<200ms``.
    rank : str
        What is best: ``"qps_per_dollar"`` (requests/s for $1 an hour, the default), ``"qps_per_watt"``, ``"cost"``
        (dollars per hour to serve ``rate``) or ``"latency"`` (mean end-to-end time at ``rate``).
    rate : float, optional
        Requests/s at which cost and latency are compared.
    num_requests : int, optional
        Requests in each full simulation. By default those of the space's workload; 16,000 of a preset or description.
    tolerance : float
        How closely to find the rates of the best, as a fraction from 0.0001 to 0.5. By default 0.01.
    out : str or Path, optional
        A folder that keeps the findings as they come. The same search with this folder resumes where it ended.
    threads : int, optional
        Threads of this process. By default one per core.
    client : distributed.Client, optional
        The client of a Dask cluster whose workers simulate instead of threads.
    progress : callable, optional
        A function that is called with the share of the search that is done, 0 to 1.
    users : bool
        Whether to find the number of users who each wait for their answer before they send the next request, as
        ``capacity`` does, instead of a rate. All configurations are then simulated in full. By default False.
    yes : bool
        Whether a space may have more than 100,000 combinations. By default False.
    confirmed : bool
        Whether the rates of the best configurations must hold in longer runs, as those of ``capacity`` do. By default
        True.

    Returns
    -------
    SearchResult
        A row of figures for each configuration, the best first, and what limits the best ones.

    Raises
    ------
    errors.InputError
        When the space, the budget, an objective or another argument is not valid, or ``out`` holds another search,
        cannot be written, or is being written by another process. A configuration that cannot be simulated is no
        error: its row has a score of 0 and the reason.

    Examples
    --------
    >>> space = {"workload": "chat", "axes": {"device": ["a100", "h100"], "scheduler.max_num_seqs": [32, 256]}}
    >>> found = fastsim.search(space, budget=2, objectives=["ttft:p90<300ms"], num_requests=1000)
    >>> for row in found.rows[:2]:
    ...     print(row["device"], row["scheduler.max_num_seqs"], f"{row['qps_per_dollar']:.1f}")
    h100 256 7.9
    a100 256 4.3
    >>> found.rows[0]["limited_by"]
    'ttft:p90<300ms'
    """
    began = time.perf_counter()
    check(tolerance, 0)
    if users and (rate is not None or (rank in RANKINGS and RANKINGS[rank].at_rate)):
        raise ConfigError(
            "users: they wait for their answers, so they have no rate to compare at; rank by qps_per_dollar"
        )
    ranking, wanted = ranking_of(rank, rate), parse_all(objectives, "--slo") or DEFAULTS
    everything, dropped = candidates(space, parse_budget(budget), num_requests, NUM_REQUESTS, users=users, yes=yes)
    steps = rungs(min(candidate.unit.num_requests for candidate in everything), tolerance, users)
    about = {
        "version": __version__,
        "objectives": [str(objective) for objective in wanted],
        "rank": rank,
        "rate": rate,
        "tolerance": tolerance,
        "requests": [rung.num_requests for rung in steps],
        **({"users": True} if users else {}),
    }
    workers = Evaluators(threads, client)
    journal = Journal(Path(out) if out else None, about)
    try:
        outcomes = halve(everything, steps, wanted, ranking, rate, journal, workers, progress, users)
        if confirmed:
            outcomes = confirm(everything, outcomes, tolerance, wanted, ranking, rate, journal, workers, users)
    finally:
        journal.close()
    order = sorted(everything, key=lambda candidate: _order(candidate, outcomes, ranking, rate), reverse=True)
    rows = rows_of(order, outcomes, ranking, rate, threads)
    feasible = [(candidate, row) for candidate, row in zip(order, rows, strict=True) if row["score"]]
    return SearchResult(
        rows=tuple(rows),
        candidates=tuple(order),
        rank=rank,
        rate=rate,
        objectives=tuple(map(str, wanted)),
        limits=tuple(limit_of(candidate, row, wanted) for candidate, row in feasible[:EXPLAINED]),
        notes=(*notes.of_search(feasible, wanted, users), *_merged(dropped), *_said(order, feasible)),
        dropped=dropped,
        num_runs=sum(outcome["num_runs"] for outcome in journal.known.values()),
        num_simulated=sum(outcome["num_simulated"] for outcome in journal.known.values()),
        seconds=time.perf_counter() - began,
    )


def _merged(dropped: Mapping[str, int]) -> list[str]:
    """A sentence for each setting of the space that changes nothing."""
    return [
        f"{reason.removeprefix(MERGED)}, so {number:,} configurations are the same as others, and left out"
        for reason, number in dropped.items()
        if reason.startswith(MERGED)
    ]


def _said(order: Sequence[Candidate], feasible: Sequence[tuple[Candidate, Row]]) -> dict[str, None]:
    """What was not measured of the candidates that can serve, and what became of the requests, each sentence once."""
    times = {note: None for candidate, _ in feasible for note in times_notes(candidate.resolved)}
    return times | dict.fromkeys(note for candidate in order for note in candidate.unit.notes)


def _order(candidate: Candidate, outcomes: Outcomes, ranking: Ranking, rate: float | None) -> tuple[bool, int, float]:
    """The sort key of a row: whether any rate is served, then the last rung that was reached, then the score."""
    rung, outcome = outcomes[candidate.digest]
    value = score(candidate, outcome, ranking, rate)
    return value > 0, rung.number, value
