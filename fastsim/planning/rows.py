"""What a search has found of each candidate: a row of its table, and what limits the best."""

from collections.abc import Iterator, Mapping, Sequence

from fastsim.planning.candidates import Candidate
from fastsim.planning.capacity import at_rate, hidden_overload
from fastsim.planning.ranking import Ranking, Row, dollars_at, score
from fastsim.planning.rungs import Outcome, Rung
from fastsim.result.metrics.definitions import flatten
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.many import simulate_many

BEYOND = 1.05  # times the capacity: surely more than it can serve, as rates are found to a per cent
TIE = 0.01  # of the score: no closer than rates are found


def rows_of(
    order: Sequence[Candidate],
    outcomes: Mapping[str, tuple[Rung, Outcome]],
    ranking: Ranking,
    rate: float | None,
    threads: int | None,
) -> list[Row]:
    """A row per candidate, in their order. Those of the last rung also have the figures of summary.json."""
    rows = [_row(one, *outcomes[one.digest], ranking, rate) for one in order]
    best = [place for place, row in enumerate(rows) if outcomes[order[place].digest][0].whole and row["capacity"]]
    jobs = [(order[place].resolved, at_rate(order[place].unit, rows[place]["capacity"])) for place in best]
    for place, run in zip(best, simulate_many(jobs, threads=threads), strict=True):
        if run.summary is not None:
            rows[place] |= flatten(run.summary)
    return rows


def _row(one: Candidate, rung: Rung, outcome: Outcome, ranking: Ranking, rate: float | None) -> Row:
    resolved, scheduler = one.resolved, one.resolved.scheduler
    able = outcome.rate > 0
    row: Row = {
        "score": score(one, outcome, ranking, rate),
        "model": resolved.deployment.model,
        "device": resolved.deployment.device,
        "tensor_parallel_size": resolved.tensor_parallel_size,
        "pipeline_parallel_size": resolved.pipeline_parallel_size,
        "num_replicas": resolved.num_replicas,
        "gpus": resolved.num_gpus,
        "scheduler.policy": scheduler.policy.name,
        "scheduler.max_num_seqs": scheduler.max_num_seqs,
        **one.fields,
        "dollars_per_hour": one.dollars_per_hour,
        "capacity": outcome.rate,
        "qps_per_dollar": outcome.rate / one.dollars_per_hour,
        "qps_per_watt": outcome.rate / (one.resolved.num_gpus * one.resolved.device.power_w),
        "ceiling": outcome.ceiling,
        "limited_by": ", ".join(outcome.limited_by),
        "rung": rung.number,
        "requests": rung.num_requests,
        "tolerance": rung.tolerance,
        "error": outcome.error,
        "digest": one.digest,
    }
    if able and rate is not None:
        row["dollars_per_hour_at_rate"] = dollars_at(one, outcome.rate, rate)
    for name, value in (outcome.figures or {}).items():
        row[f"latency.{name.replace(':', '.')}"] = value
    return row


def limit_of(one: Candidate, row: Row, wanted: Sequence[Objective]) -> str:
    """What limits a candidate, in sentences: its figures at capacity, and the verdict BEYOND, where it fails."""
    from fastsim.simulation.run import simulate

    summary = simulate(one.resolved.deployment, at_rate(one.unit, row["capacity"])).summary
    use, restarts = summary["utilisation"], summary["totals"]["restarts"]
    beyond = simulate(one.resolved.deployment, at_rate(one.unit, BEYOND * row["capacity"]), objectives=wanted).summary
    verdict = beyond.get("verdict", {}).get("sentence", "")
    limits = row["limited_by"] or "nothing that was asked for"
    found = f"{limits} at {row['capacity']:.4g} requests/s; GPUs busy {use['busy']:.0%}, KV memory up to "
    found += f"{use['peak_kv']:.0%} full, {restarts:,} restarts."
    return f"{found} At {BEYOND - 1:.0%} more: {verdict}" if verdict else found


def notes(able: Sequence[tuple[Candidate, Row]], wanted: Sequence[Objective], tolerance: float) -> Iterator[str]:
    """What the ranking cannot show."""
    if not able:
        yield f"no configuration meets {', '.join(map(str, wanted))} at any rate"
        return
    best, row = able[0]
    ties = sum(other["score"] >= (1 - TIE) * row["score"] and other["rung"] == row["rung"] for _, other in able) - 1
    if ties:
        yield f"{ties} more {'is' if ties == 1 else 'are'} within {TIE:.0%} of the winner, which is too close to call"
    unseen = hidden_overload(wanted, best.unit, row["capacity"])
    if unseen is None:
        yield "no objective limits how long a request waits, so queues may grow for ever at these rates"
    elif unseen > tolerance:
        enough = best.unit.num_requests * unseen / tolerance
        span = best.unit.arrived_at[-1] / row["capacity"]
        yield (
            f"the winner's run lasts {span:,.0f} s, too short to show an overload below "
            f" {unseen:.1%}; {enough:,.0f} requests would show {tolerance:.1%}"
        )
