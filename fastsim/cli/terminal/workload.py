"""Print the arrival rate and the lengths of a workload."""

from math import inf
from pathlib import Path
from typing import Any

from fastsim.cli.terminal.console import note, number, print_json, stdout, table
from fastsim.workload.reuse import SIZES
from fastsim.workload.workload import Workload

ROWS = (
    ("prompt tokens", "num_prompt_tokens"),
    ("output tokens", "num_output_tokens"),
    ("prompt + output", "num_tokens"),
    ("prompt : output", "prompt_output_ratio"),
)
COLUMNS = ("mean", "median", "p90", "p99", "max", "total")


def show(workload: Workload, as_json: bool) -> None:
    """Print the headline figures of a workload as a table or as JSON."""
    figures = workload.describe()
    if as_json:
        print_json(figures)
        return
    rate = "all at once" if figures["rate_per_s"] is None else f"{number(figures['rate_per_s'])} requests/s"
    span, spread = number(figures["span_s"]), number(figures["gap_cv"], 3)
    gaps = "" if figures["gap_cv"] is None else f", gaps with a coefficient of variation of {spread}"
    most = workload.max_concurrency
    if workload.is_loop:
        came = f", sent by {most:,} users who wait for their answers"
    else:
        came = f" in {span} s, {rate}{gaps}" + (f", at most {most:,} in flight" if most else "")
    stdout().print(f"{workload.name}: {workload.num_requests:,} requests{came}")
    lengths = table(("", *(column.replace("p9", "P9") for column in COLUMNS)))
    for title, key in ROWS:
        cells = (figures[key].get(column) for column in COLUMNS)
        lengths.add_row(title, *("" if cell is None else number(cell, 3) for cell in cells))
    stdout().print(lengths)
    if turns := figures["sessions"]:
        _sessions(turns, figures["num_sessions"])
    if figures["layout"]:
        stdout().print(f"Layout: {figures['layout']}")
    if tenants := figures["tenants"]:
        shown = ", ".join(f"{name or 'none'} {count:,}" for name, count in tenants.items())
        stdout().print(f"Requests by tenant: {shown}")
    if figures["max_tokens"] is not None or figures["ends_by_stop"] is not None:
        _ends(figures)
    if blocks := figures["block_hashes"]:
        stdout().print(
            f"Blocks: {blocks['num_hashes']:,} hashes of blocks of {blocks['block_size']:,} tokens, "
            f"{blocks['num_different']:,} of them different; "
            f"{100 * blocks['share_of_requests_that_reuse']:.1f} % of requests share some with an earlier one"
        )
        _hits(workload)
    for sentence in workload.notes:
        note(sentence)


def _sessions(figures: dict[str, Any], num_sessions: int) -> None:
    """Print how many turns sessions have, how long users think, and how many tokens a turn adds."""
    turns, think, new = (figures[key] for key in ("turns", "think_time_s", "num_new_tokens"))
    said = f"Sessions: {num_sessions:,} with {number(turns['mean'], 3)} turns on average, {turns['max']:,} at most"
    if think is not None:
        said += (
            f"; think times of {number(think['mean'], 3)} s on average, {number(think['median'], 3)} s in the median"
        )
    if new is not None and new["median"] > 0:
        said += f"; {number(new['median'], 3)} new prompt tokens in a later turn's median"
    stdout().print(said)


def _ends(figures: dict[str, Any]) -> None:
    """Print how requests end, and the limit of outputs that the engine knows."""
    said = []
    if figures["ends_by_stop"] is not None:
        said.append(f"{100 * figures['ends_by_stop']:.1f} % of requests by a stop token")
    if figures["max_tokens"] is not None:
        said.append(f"max_tokens is {number(figures['max_tokens'])} in the median")
    stdout().print(f"Ends: {'; '.join(said)}")


def _hits(workload: Workload) -> None:
    """Print the share of prompt tokens that a prefix cache would hit, by its size."""
    curve = workload.hit_curve
    if curve is None:
        return
    hits = table(("tokens in a prefix cache (LRU)", *(f"{size:,}" for size in SIZES), "unbounded"))
    shares = (curve.share(size) for size in (*SIZES, inf))
    hits.add_row("share of prompt tokens that it hits", *(f"{100 * share:.1f} %" for share in shares))
    stdout().print(hits)


def notes(workload: Workload, target: str) -> None:
    """Say which layout was read, what was changed, and what the file to be written cannot hold."""
    if workload.origin is not None and workload.origin.layout:
        note(f"{workload.name}: the layout is {workload.origin.layout}")
    for sentence in workload.notes:
        note(sentence)
    if workload.block_hashes is not None and Path(target).suffix.lower() not in (".parquet", ".jsonl"):
        note("CSV has no lists, so the hashes of blocks are left out; name the file .parquet or .jsonl to keep them")
