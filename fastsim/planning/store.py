"""The files of a search: its table, its figures, its winner."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.writing import replacing
from fastsim.planning.ranking import Row, pareto
from fastsim.planning.search import Found
from fastsim.planning.sensitivity import Variation
from fastsim.result.metrics.definitions import LATENCIES, STATISTICS

FILES = ("configurations.parquet", "search.json", "report.html")


PRICES = ("capacity", "qps_per_dollar", "qps_per_watt", "dollars_per_hour", "gpus", "ceiling")


def metrics_of(text: str, rate: float | None) -> tuple[str, ...]:
    """Figures of a Pareto front. Raises ConfigError unless they are two or three that a search has."""
    metrics = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if len(metrics) not in (2, 3):
        raise ConfigError(f"--pareto {text!r}: name two or three figures (e.g. qps_per_dollar,latency.ttft.p90)")
    have = [*PRICES, *(f"{latency.name}.{statistic}" for latency in LATENCIES for statistic in STATISTICS)]
    if rate is not None:
        have.append("dollars_per_hour_at_rate")
    for metric in metrics:
        if metric not in have:
            raise ConfigError(f"--pareto: no figure {metric!r}; {did_you_mean(metric, have)}")
    return metrics


def front_of(found: Found, metrics: Sequence[str]) -> list[Row]:
    """The Pareto front in ``metrics`` of the rows with a score; empty where no row has one."""
    rows = [row for row in found.rows if row["score"]]
    return [rows[place] for place in pareto(rows, metrics)] if rows else []


def table_of(found: Found) -> pa.Table:
    """A row per configuration, the best first; figures that a row lacks are null."""
    names = list(dict.fromkeys(name for row in found.rows for name in row))
    rows = [{name: _plain(row.get(name)) for name in names} for row in found.rows]
    columns = {name: [row[name] for row in rows] for name in names}
    for name, values in columns.items():
        kinds = {type(value) for value in values if value is not None}
        if len(kinds) > 1 and not kinds <= {int, float}:
            columns[name] = [None if value is None else str(value) for value in values]
        elif kinds == {int, float}:
            columns[name] = [None if value is None else float(value) for value in values]
    return pa.table(columns)


def as_dict(found: Found, varied: Sequence[Variation], metrics: Sequence[str]) -> dict[str, Any]:
    """search.json: all but the table."""
    best = [row for row in found.rows if row["score"]][:2]
    return {
        "rank": found.rank,
        "rate": found.rate,
        "objectives": list(found.objectives),
        "configurations": len(found.rows),
        "dropped": dict(found.dropped),
        "winner": best[0] if best else None,
        "runner_up": best[1] if len(best) > 1 else None,
        "limits": list(found.limits),
        "notes": list(found.notes),
        "pareto": {"figures": list(metrics), "digests": [row["digest"] for row in front_of(found, metrics)]},
        "sensitivity": [one.as_dict() for one in varied],
        "num_runs": found.num_runs,
        "num_simulated": found.num_simulated,
        "seconds": found.seconds,
        "deployments": [one.resolved.deployment.model_dump(mode="json") for one in found.candidates[:2]],
    }


def save(found: Found, varied: Sequence[Variation], metrics: Sequence[str], page: str, folder: Path) -> None:
    """Write the table, the JSON, ``page`` (HTML), and the winner as a deployment file. Raises OutputError."""
    with replacing(folder, (*FILES, "winner.json")) as part:
        pq.write_table(table_of(found), part / FILES[0])
        (part / FILES[1]).write_text(json.dumps(as_dict(found, varied, metrics), indent=2) + "\n")
        (part / FILES[2]).write_text(page, encoding="utf-8")
        if found.rows[0]["score"]:
            winner = found.candidates[0].resolved.deployment.model_dump(mode="json")
            winner["scheduler"]["num_blocks"] = None  # as planned
            (part / "winner.json").write_text(json.dumps(winner, indent=2) + "\n")


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
