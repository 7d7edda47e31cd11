"""A comparison of two results, on a terminal."""

import json
from typing import Any

SHOWN = (
    "throughput.requests_per_s",
    "throughput.output_tokens_per_s",
    "goodput.share",
    "utilisation.busy",
    "utilisation.peak_kv",
    "cost.dollars_per_million_output_tokens",
    "energy.joules_per_output_token",
    "totals.restarts",
)


def show(found: dict[str, Any], as_json: bool) -> None:
    """Print a comparison, for a reader or as JSON."""
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{found['compared']:,} of {found['requests']:,} requests finished in both; differences are B - A\n")
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file or a pipe
    for note in found["notes"]:
        console.print(f"note: {note}", style="yellow")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "A", "B", "difference", "95 % interval", ""):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for name, figures in found["latency"].items():
        for key, figure in figures.items():
            table.add_row(f"{name} {key}", *_cells(figure))
    for name, figure in found["breakdown"].items():
        if figure["a"] or figure["b"]:
            table.add_row(f"{name} mean", *_cells(figure))
    for name in SHOWN:
        if figure := found["figures"].get(name):
            table.add_row(name, *(_number(figure[key]) for key in ("a", "b", "difference")))
    console.print(table)
    if not found["worse"]:
        console.print("\nNo request takes longer in B.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold", title="\nTaking longer in B", title_justify="left")
    for name in ("request", "prompt", "output", "e2e A", "e2e B", "difference", "most of it"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["worse"]:
        sizes = (str(row[name]) for name in ("request_id", "num_prompt_tokens", "num_output_tokens"))
        part = f"{row['part']} {_seconds(row['part_difference'])}" if "part" in row else ""
        table.add_row(*sizes, *(_seconds(row[name]) for name in ("a", "b", "difference")), part)
    console.print(table)


def _cells(figure: dict[str, Any]) -> list[str]:
    if figure["difference"] is None:
        return ["-"] * 4
    low, high = figure["interval"]
    share = f" ({figure['difference'] / figure['a']:+.1%})" if figure["a"] else ""
    sure = "better" if high < 0 else "worse" if low > 0 else ""
    ends = f"{_seconds(low)} to {_seconds(high)}"
    return [_seconds(figure["a"]), _seconds(figure["b"]), _seconds(figure["difference"]) + share, ends, sure]


def _seconds(value: float) -> str:
    return f"{value * 1e3:.3g} ms" if abs(value) < 1 else f"{value:.3g} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
