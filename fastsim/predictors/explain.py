"""One iteration of a deployment, operator by operator: time and interval, share, measured or modelled."""

import json
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.predictors.build import operator_times
from fastsim.predictors.tables.by_operator import Row, breakdown, interval, shares
from fastsim.predictors.times.iteration import Iteration, check

HOW = {"measured": "", "outside": "green", "modelled": "cyan", "given": ""}


def explain(resolved: Resolved, iteration: Iteration) -> dict[str, Any]:
    """What ``fastsim explain`` prints, as JSON has it.

    ``total_ms`` is what the kernel charges: the sum over all pipeline stages, of which several batches are under way
    at once. Raises ConfigError for an iteration that the deployment cannot run, or Vidur's composition.
    """
    check(resolved, iteration)
    if resolved.deployment.predictor.compose == "vidur":
        raise ConfigError("predictor.compose: 'vidur' cannot be explained by operator (valid: fastsim)")
    times, known, provenance = operator_times(resolved, iteration)
    rows = breakdown(resolved, times, known, iteration)
    total, (low, high) = sum(row.ms for row in rows), interval(rows)
    deployment = resolved.deployment
    return {
        "deployment": deployment.model_dump(mode="json"),
        "iteration": {
            "chunks": [list(chunk) for chunk in iteration.chunks],
            "decodes": [list(group) for group in iteration.decodes],
            "num_tokens": iteration.num_tokens,
            "num_seqs": iteration.num_seqs,
        },
        "operators": [_described(row, total) for row in rows],
        "total_ms": total,
        "interval_ms": [low, high],
        "shares": shares(rows),
        "provenance": {"source": deployment.predictor.source, **provenance},
        "warnings": list(resolved.warnings),
    }


def _described(row: Row, total: float) -> dict[str, Any]:
    about = row.about
    return {
        "name": row.name,
        "count": about.count,
        "shape": about.shape,
        "gflop": about.flops / 1e9,
        "mb": about.bytes_moved / 1e6,
        "ms": row.ms,
        "low_ms": row.low_ms,
        "high_ms": row.high_ms,
        "share": row.ms / total,
        "how": about.how,
    }


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
