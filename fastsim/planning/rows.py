"""The rows of a search's table, and what limits its best candidates."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from fastsim.planning.candidates import Candidate
from fastsim.planning.ranking import Ranking, dollars_at, score
from fastsim.planning.rungs import Outcome, Rung
from fastsim.planning.stream import at_rate
from fastsim.result.metrics.definitions import flatten
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.many import simulate_many
from fastsim.sweeps.configuration import Row
from fastsim.workload import Workload

PARALLELISM = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel")
BEYOND = 1.05  # times the capacity: more than a candidate can serve, as rates are found to a per cent


def rows_of(
    order: Sequence[Candidate],
    outcomes: Mapping[str, tuple[Rung, Outcome]],
    ranking: Ranking,
    rate: float | None,
    threads: int | None,
) -> list[Row]:
    """A row for each candidate, in their order; ``outcomes``: by the digest of the candidate.

    Rows of candidates that reached the last rung and serve any rate also have the figures of summary.json, from a
    simulation at their capacity.
    """
    rows = [_row(candidate, *outcomes[candidate.digest], ranking, rate) for candidate in order]
    best = [
        (row, candidate)
        for row, candidate in zip(rows, order, strict=True)
        if outcomes[candidate.digest][0].whole and row["capacity"]
    ]
    jobs = [(candidate.resolved, _served(candidate, row)) for row, candidate in best]
    for (row, _), run in zip(best, simulate_many(jobs, threads=threads), strict=True):
        if run.summary is not None:
            row |= flatten(run.summary)
    return rows


def _same(values: Iterable[Any]) -> Any:
    """The value that all pools have; None where they differ."""
    first, *others = values
    return first if all(other == first for other in others) else None


def _served(candidate: Candidate, row: Row, share: float = 1.0) -> Workload:
    """The requests at ``share`` times the capacity of a candidate, or with so many times its users."""
    unit = candidate.unit
    if row["held"]:
        unit = candidate.source.draw(row["requests"], candidate.resolved)
    if "users" in row:
        return unit.with_users(ceil(row["users"] * share))
    return at_rate(unit, share * row["capacity"])


def _row(candidate: Candidate, rung: Rung, outcome: Outcome, ranking: Ranking, rate: float | None) -> Row:
    resolved, scheduler = candidate.resolved, candidate.resolved.scheduler
    devices = dict.fromkeys(kind.deployment.device for kind in resolved.kinds)
    row: Row = {
        "score": score(candidate, outcome, ranking, rate),
        "model": resolved.deployment.model,
        "device": " + ".join(devices),
        **{name: _same(getattr(kind, name) for kind in resolved.kinds) for name in PARALLELISM},
        "num_replicas": resolved.num_replicas,
        "gpus": resolved.num_gpus,
        "scheduler.policy": scheduler.policy.name,
        "scheduler.max_num_seqs": scheduler.max_num_seqs,
        **candidate.settings,
        "dollars_per_hour": candidate.dollars_per_hour,
        "capacity": outcome.rate,
        "qps_per_dollar": outcome.rate / candidate.dollars_per_hour,
        "qps_per_watt": outcome.rate / candidate.watts,
        "ceiling": outcome.ceiling,
        "limited_by": ", ".join(outcome.limited_by),
        "rung": rung.number,
        "requests": outcome.num_requests or rung.num_requests,
        "held": outcome.num_requests is not None,
        "tolerance": rung.tolerance,
        "error": outcome.error,
        "digest": candidate.digest,
    }
    if outcome.users is not None:
        row["users"] = outcome.users
    if outcome.rate > 0 and rate is not None:
        row["dollars_per_hour_at_rate"] = dollars_at(candidate, outcome.rate, rate)
    for name, value in (outcome.figures or {}).items():
        row[f"latency.{name.replace(':', '.')}"] = value
    return row


def limit_of(candidate: Candidate, row: Row, objectives: Sequence[Objective]) -> str:
    """What limits a candidate, in one or two sentences: its figures at capacity, and the verdict beyond it."""
    from fastsim.simulation.run import simulate

    deployment, capacity = candidate.resolved.deployment, row["capacity"]
    summary = simulate(deployment, _served(candidate, row)).summary
    use, restarts = summary["utilisation"], summary["totals"]["restarts"]
    beyond = simulate(deployment, _served(candidate, row, BEYOND), objectives=objectives).summary
    verdict = beyond.get("verdict", {}).get("sentence", "")
    limits = row["limited_by"] or "nothing that was asked for"
    users = f"{row['users']:,} users, who are served " if "users" in row else ""
    sentence = (
        f"{limits} at {users}{capacity:.4g} requests/s; GPUs busy {use['busy']:.0%}, KV memory up to "
        f"{use['peak_kv']:.0%} full, {restarts:,} restarts."
    )
    return f"{sentence} At {BEYOND - 1:.0%} more: {verdict}" if verdict else sentence
