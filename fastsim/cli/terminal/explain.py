"""An iteration by operator, on a terminal."""

import json
from typing import Any

HOW = {"measured": "", "outside": "green", "modelled": "cyan", "given": ""}


def show(explained: dict[str, Any], as_json: bool) -> None:
    """Print it, for a reader or as JSON."""
    if as_json:
        print(json.dumps(explained, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for warning in explained["warnings"]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {warning}", style="yellow")
    console.print(_title(explained))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("operator", "times", "shape", "GFLOP", "MB"):
        table.add_column(name, justify="left" if name in ("operator", "shape") else "right", no_wrap=True)
    for name in ("ms", "90 % interval", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for row in explained["operators"]:
        table.add_row(*_cells(row))
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file or a pipe
    console.print(table)
    low, high = explained["interval_ms"]
    known = ", ".join(f"{share:.1%} {how}" for how, share in explained["shares"].items())
    console.print(f"\nTotal {explained['total_ms']:.3f} ms ({low:.3f} to {high:.3f}); {known}")


def _title(explained: dict[str, Any]) -> str:
    deployment, iteration = explained["deployment"], explained["iteration"]
    chunks = [f"a chunk of {tokens} tokens after {before}" for tokens, before in iteration["chunks"]]
    decodes = [f"{number} decodes at {kv} tokens" for number, kv in iteration["decodes"]]
    precision = "" if deployment["quantization"] == "none" else f" in {deployment['quantization']}"
    return (
        f"{deployment['model']}{precision} on {deployment['device']}, TP {deployment['tensor_parallel_size']}, "
        f"PP {deployment['pipeline_parallel_size']}: {', '.join(chunks + decodes)}\n"
    )


def _cells(row: dict[str, Any]) -> list[str]:
    shape = " ".join(f"{name}={size}" for name, size in row["shape"].items())
    span = f"{row['low_ms']:.4f} to {row['high_ms']:.4f}"
    work = [f"{row['gflop']:.2f}" if row["gflop"] else "", f"{row['mb']:.2f}" if row["mb"] else ""]
    colour = HOW[row["how"]]
    how = f"[{colour}]{row['how']}[/]" if colour else row["how"]
    return [row["name"], str(row["count"]), shape, *work, f"{row['ms']:.4f}", span, f"{row['share']:.1%}", how]
