"""The files of a search: its table, its summary as JSON, its page, and the winner as a deployment file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.writing import replacing
from fastsim.planning.ranking import pareto
from fastsim.planning.search import SearchResult
from fastsim.planning.sensitivity import Variation
from fastsim.result.metrics.definitions import LATENCIES, STATISTICS
from fastsim.sweeps.configuration import Row

TABLE, SUMMARY, PAGE, WINNER = "configurations.parquet", "search.json", "report.html", "winner.json"
FIGURES = ("capacity", "qps_per_dollar", "qps_per_watt", "dollars_per_hour", "gpus", "ceiling")


def metrics_of(text: str, rate: float | None) -> tuple[str, ...]:
    """Parse the figures of a Pareto front. Raises ConfigError unless there are two or three, and a search has them."""
    metrics = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(metrics) not in (2, 3):
        raise ConfigError(f"--pareto {text!r}: name two or three figures (e.g. qps_per_dollar,latency.ttft.p90)")
    have = [*FIGURES, *(f"{latency.name}.{statistic}" for latency in LATENCIES for statistic in STATISTICS)]
    if rate is not None:
        have.append("dollars_per_hour_at_rate")
    for metric in metrics:
        if metric not in have:
            raise ConfigError(f"--pareto: no figure {metric!r}; {did_you_mean(metric, have)}")
    return metrics


def front_of(result: SearchResult, metrics: Sequence[str]) -> list[Row]:
    """The rows on the Pareto front of ``metrics``, of those with a score above 0."""
    rows = [row for row in result.rows if row["score"]]
    return [rows[index] for index in pareto(rows, metrics)] if rows else []


def table_of(result: SearchResult) -> pa.Table:
    """The table with a row per configuration, best first; a figure that a row does not have is null."""
    names = list(dict.fromkeys(name for row in result.rows for name in row))
    columns = {name: [_plain(row.get(name)) for row in result.rows] for name in names}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            columns[name] = [None if value is None else str(value) for value in values]
        elif kinds == {int, float}:
            columns[name] = [None if value is None else float(value) for value in values]
    return pa.table(columns)


def as_dict(result: SearchResult, varied: Sequence[Variation], metrics: Sequence[str]) -> dict[str, Any]:
    """The content of search.json: all but the rows of the table."""
    best = [row for row in result.rows if row["score"]][:2]
    return {
        "rank": result.rank,
        "rate": result.rate,
        "objectives": list(result.objectives),
        "configurations": len(result.rows),
        "dropped": dict(result.dropped),
        "winner": best[0] if best else None,
        "runner_up": best[1] if len(best) > 1 else None,
        "limits": list(result.limits),
        "notes": list(result.notes),
        "pareto": {"figures": list(metrics), "digests": [row["digest"] for row in front_of(result, metrics)]},
        "sensitivity": [variation.as_dict() for variation in varied],
        "num_runs": result.num_runs,
        "num_simulated": result.num_simulated,
        "seconds": result.seconds,
        "deployments": [candidate.resolved.deployment.model_dump(mode="json") for candidate in result.candidates[:2]],
    }


def save(result: SearchResult, varied: Sequence[Variation], metrics: Sequence[str], page: str, folder: Path) -> None:
    """Write the table, the JSON, ``page`` (HTML), and the winner as a deployment file. Raises OutputError."""
    with replacing(folder, (TABLE, SUMMARY, PAGE, WINNER)) as part:
        pq.write_table(table_of(result), part / TABLE)
        (part / SUMMARY).write_text(json.dumps(as_dict(result, varied, metrics), indent=2) + "\n")
        (part / PAGE).write_text(page, encoding="utf-8")
        if result.rows[0]["score"]:
            winner = result.candidates[0].resolved.deployment.model_dump(mode="json")
            for kind in (winner, *winner["pools"]):
                kind["scheduler"]["num_blocks"] = None  # worked out again from the memory, as in the search
            (part / WINNER).write_text(json.dumps(winner, indent=2) + "\n")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
