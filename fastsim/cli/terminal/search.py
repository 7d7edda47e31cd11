"""Print the result of a search as text or as JSON."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fastsim.cli.terminal import console as kit
from fastsim.cli.terminal.console import MISSING, note, number, print_json, seconds, stdout, written
from fastsim.deployment import schedulers
from fastsim.planning.ranking import RANKINGS
from fastsim.planning.search import SearchResult
from fastsim.planning.sensitivity import Variation
from fastsim.planning.store import as_dict, front_of
from fastsim.result.metrics.definitions import headline
from fastsim.sweeps.configuration import Row

SHOWN = 10
SETTINGS = (
    "device",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "enable_expert_parallel",
    "num_replicas",
    "gpus",
    "scheduler.policy",
    "scheduler.max_num_seqs",
    "scheduler.chunk_size",
    "scheduler.max_num_batched_tokens",
)
FIGURES = (
    "users",
    "capacity",
    "qps_per_dollar",
    "dollars_per_hour_at_rate",
    "latency.ttft.p90",
    "latency.tbt.p99",
    "latency.e2e.mean",
)
TEXTS = ("device", "scheduler.policy")
USUAL = {"data_parallel_size": 1, "enable_expert_parallel": False}  # of settings that are shown where one differs
BUDGETS = ("scheduler.chunk_size", "scheduler.max_num_batched_tokens")


def show(
    found: SearchResult, varied: Sequence[Variation], metrics: Sequence[str], out: Path | None, as_json: bool
) -> None:
    """Print the best configurations, what limits them, the Pareto front, and how long the search took."""
    if as_json:
        print_json(as_dict(found, varied, metrics))
        return
    console = stdout()
    able = [row for row in found.rows if row["score"]]
    settings = [*SETTINGS, *(name for name in found.candidates[0].settings if name not in SETTINGS)]
    names = [name for name in (*settings, *FIGURES) if any(row.get(name) != USUAL.get(name) for row in able)]
    console.print(f"{len(able):,} of {len(found.rows):,} configurations meet {', '.join(found.objectives)}.")
    if able:
        at_rate = f" (rate: {found.rate:g} requests/s)" if found.rate else ""
        console.print(f"The best {min(len(able), SHOWN)} by {RANKINGS[found.rank].meaning}{at_rate}:\n")
        console.print(_table(able[:SHOWN], names))
        for name, limit in zip(("Winner    ", "Runner-up "), found.limits, strict=False):
            console.print(f"\n{name} {limit}", end="")
        console.print(f"\n\nPareto front for {' and '.join(headline(name).label for name in metrics)}:")
        console.print(_table(front_of(found, metrics)[:SHOWN], dict.fromkeys((*names, *metrics))))
    if varied:
        console.print(_sensitivity(varied))
    dropped = "; ".join(f"{count:,} by {reason}" for reason, count in found.dropped.items())
    console.print(
        f"\n{found.num_runs:,} simulations, {found.num_simulated:,} requests, in {found.seconds:.1f} s"
        + (f"; dropped: {dropped}" if dropped else "")
    )
    if out is not None:
        written(out)
    for text in found.notes:
        note(text)


def _sensitivity(varied: Sequence[Variation]) -> str:
    """The objectives whose change would change the winner or its price, a line each."""
    changing = [variation.sentence for variation in varied if variation.tells]
    head = f"\n{len(changing)} of {len(varied)} tighter or looser objectives change the winner or its price"
    return "\n".join([head + (":" if changing else "."), *changing])


def _table(rows: Sequence[Row], names: Iterable[str]) -> Any:
    """A line per configuration, with the settings and figures ``names`` that any of them has."""
    names = [name for name in names if any(row.get(name) is not None for row in rows)]
    table = kit.table([headline(name).label for name in names], left=[headline(name).label for name in TEXTS])
    for row in rows:
        table.add_row(*(cell(name, row) for name in names))
    return table


def cell(name: str, row: Row) -> str:
    """Return a figure of a configuration as text; a missing figure, or a setting that its policy ignores, is -."""
    value = row.get(name)
    budget = schedulers.of(row["scheduler.policy"]).token_budget
    if name in BUDGETS and name != f"scheduler.{budget}":
        value = None  # the policy ignores it
    if value is None:
        return MISSING
    if headline(name).unit == "s":
        return seconds(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)
