"""The answer of a search as text, JSON and files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.config_search import Found
from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.writing import replacing
from fastsim.ranking import RANKINGS, Row, pareto
from fastsim.result.metrics.definitions import LATENCIES, STATISTICS
from fastsim.sensitivity import Variation

FILES = ("configurations.parquet", "search.json", "report.html")
SHOWN = 10
PRICES = ("capacity", "qps_per_dollar", "qps_per_watt", "dollars_per_hour", "gpus", "ceiling")
COLUMNS = {
    "device": "GPU",
    "tensor_parallel_size": "TP",
    "pipeline_parallel_size": "PP",
    "num_replicas": "replicas",
    "gpus": "GPUs",
    "scheduler.policy": "policy",
    "scheduler.max_num_seqs": "seqs",
    "scheduler.chunk_size": "chunk",
    "capacity": "requests/s",
    "qps_per_dollar": "per $/h",
    "dollars_per_hour_at_rate": "$/h at rate",
    "latency.ttft.p90": "TTFT P90",
    "latency.tbt.p99": "TBT P99",
    "latency.e2e.mean": "E2E mean",
}


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
    """The rows that serve something and are not beaten in all of ``metrics``; none where nobody serves anything."""
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


def save(found: Found, varied: Sequence[Variation], metrics: Sequence[str], folder: Path) -> None:
    """Write the table, the JSON, a page, and the winner as a deployment file. Raises OutputError."""
    from fastsim.report.search import search_page

    with replacing(folder, (*FILES, "winner.json")) as part:
        pq.write_table(table_of(found), part / FILES[0])
        (part / FILES[1]).write_text(json.dumps(as_dict(found, varied, metrics), indent=2) + "\n")
        (part / FILES[2]).write_text(search_page(found, varied, metrics), encoding="utf-8")
        if found.rows[0]["score"]:
            winner = found.candidates[0].resolved.deployment.model_dump(mode="json")
            winner["scheduler"]["num_blocks"] = None  # as planned
            (part / "winner.json").write_text(json.dumps(winner, indent=2) + "\n")


def show(found: Found, varied: Sequence[Variation], metrics: Sequence[str], out: Path | None, as_json: bool) -> None:
    """Print the best, what limits them, the Pareto front, and what the search took."""
    if as_json:
        print(json.dumps(as_dict(found, varied, metrics), indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file or a pipe
    able = [row for row in found.rows if row["score"]]
    rank = RANKINGS[found.rank].meaning
    console.print(f"{len(able):,} of {len(found.rows):,} configurations meet {', '.join(found.objectives)}")
    console.print(f"by {rank}{f' ({found.rate:g} requests/s)' if found.rate else ''}:\n")
    console.print(_table(able[:SHOWN]))
    for name, limit in zip(("Winner    ", "Runner-up "), found.limits, strict=False):
        console.print(f"\n{name} {limit}", end="")
    console.print()
    front = front_of(found, metrics)
    console.print(f"\nNot beaten in both of {' and '.join(metrics)}:" if len(metrics) == 2 else "\nPareto front:")
    console.print(_table(front[:SHOWN], metrics))
    telling = [one for one in varied if one.tells]
    if varied:
        console.print(
            f"\nOf {len(varied)} objectives made tighter or looser, {len(telling)} change the winner or its price:"
        )
    for one in telling:
        console.print(one.sentence)
    dropped = "; ".join(f"{count:,} by {reason}" for reason, count in found.dropped.items())
    console.print(
        f"\n{found.num_runs:,} simulations, {found.num_simulated:,} requests, {found.seconds:.1f} s"
        + (f"; left out: {dropped}" if dropped else "")
    )
    if out is not None:
        console.print(f"Written to {out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    for note in found.notes:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {note}", style="yellow")


def _table(rows: Sequence[Row], more: Sequence[str] = ()) -> Any:
    from rich.table import Table

    shown = {**COLUMNS, **{name: COLUMNS.get(name, name) for name in more}}
    names = [name for name in shown if any(row.get(name) is not None for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(shown[name], justify="left" if name in ("device", "scheduler.policy") else "right")
    for row in rows:
        table.add_row(*(cell(name, row) for name in names))
    return table


def cell(name: str, row: Row) -> str:
    """A figure of a row as a table shows it."""
    value = row.get(name)
    if value is None or (name == "scheduler.chunk_size" and row["scheduler.policy"] != "sarathi"):
        return "-"
    if name.startswith("latency."):
        return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
