"""The answer of a search as text, JSON and files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastsim.cli.terminal import console as kit
from fastsim.cli.terminal.console import MISSING, note, number, print_json, seconds, stdout, written
from fastsim.deployment import schedulers
from fastsim.planning.ranking import RANKINGS, Row
from fastsim.planning.search import Found
from fastsim.planning.sensitivity import Variation
from fastsim.planning.store import as_dict, front_of
from fastsim.result.metrics.definitions import headline

SHOWN = 10
COLUMNS = (
    "device",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "num_replicas",
    "gpus",
    "scheduler.policy",
    "scheduler.max_num_seqs",
    "scheduler.chunk_size",
    "capacity",
    "qps_per_dollar",
    "dollars_per_hour_at_rate",
    "latency.ttft.p90",
    "latency.tbt.p99",
    "latency.e2e.mean",
)
TEXTS = ("device", "scheduler.policy")


def show(found: Found, varied: Sequence[Variation], metrics: Sequence[str], out: Path | None, as_json: bool) -> None:
    """Print the best, what limits them, the Pareto front, and what the search took."""
    if as_json:
        print_json(as_dict(found, varied, metrics))
        return
    console = stdout()
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
        written(out)
    for text in found.notes:
        note(text)


def _table(rows: Sequence[Row], more: Sequence[str] = ()) -> Any:
    names = [name for name in dict.fromkeys((*COLUMNS, *more)) if any(row.get(name) is not None for row in rows)]
    table = kit.table([headline(name).label for name in names], left=[headline(name).label for name in TEXTS])
    for row in rows:
        table.add_row(*(cell(name, row) for name in names))
    return table


def cell(name: str, row: Row) -> str:
    """A figure of a row as a table shows it."""
    value = row.get(name)
    if name == "scheduler.chunk_size" and schedulers.of(row["scheduler.policy"]).token_budget != "chunk_size":
        value = None  # the policy ignores it
    if value is None:
        return MISSING
    if headline(name).unit == "s":
        return seconds(value)
    return number(value) if isinstance(value, float) else str(value)
