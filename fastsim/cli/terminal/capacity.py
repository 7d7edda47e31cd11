"""A capacity as text and as JSON."""

import json
from pathlib import Path

from fastsim.deployment.description import Deployment
from fastsim.files.writing import write_text
from fastsim.planning.capacity import Capacity
from fastsim.simulation.probe import Probed


def show(found: Capacity, deployment: Deployment, workload: str, out: Path | None, as_json: bool) -> None:
    """Print it, and write the JSON to ``out``. Raises OutputError."""
    text = json.dumps(found.as_dict(), indent=2)
    if out is not None:
        write_text(out, text + "\n")
    if as_json:
        print(text)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = 240  # nothing is cut off in a file or a pipe
    console.print(
        f"{deployment.model} on {found.gpus} x {deployment.device} (TP {deployment.tensor_parallel_size}, "
        f"PP {deployment.pipeline_parallel_size}, {deployment.num_replicas} replicas), "
        f"{deployment.scheduler.policy}; {found.num_requests:,} requests of {workload}\n"
    )
    console.print(*_lines(found), sep="\n")
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("rate", *found.objectives, ""):
        table.add_column(name, justify="right")
    for probed in sorted(found.probes, key=lambda one: one.rate):
        table.add_row(f"{probed.rate:.4g}", *(_cell(probed, name) for name in found.objectives), _verdict(probed))
    console.print(table)
    console.print(
        f"\n{found.num_runs} simulations, {found.num_simulated:,} requests, {found.seconds:.2f} s"
        + (f"; written to {out}" if out else "")
    )
    for note in found.notes:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {note}", style="yellow")


def _lines(found: Capacity) -> list[str]:
    interval = ""
    if found.interval is not None:
        low, high = found.interval
        interval = f"; 90 % interval of {len(found.replicates)} replicates: {low:.3g} to {high:.3g}"
    lines = [
        f"Capacity    {found.rate:.4g} requests/s (within {found.tolerance:.1%}{interval})",
        f"Per dollar  {found.qps_per_dollar:.4g} requests/s for $1 an hour (${found.dollars_per_hour:.2f} an hour)",
    ]
    if found.limited_by:
        lines.append(f"Limit       {', '.join(found.limited_by)}")
    if found.summary:
        use = found.summary["utilisation"]
        restarts = found.summary["totals"]["restarts"]
        lines.append(f"Use         busy {use['busy']:.0%}, peak KV {use['peak_kv']:.0%}, {restarts:,} restarts")
        lines.append(f"Ceiling     {found.ceiling:.4g} requests/s when the queue is never empty")
    return lines


def _cell(probed: Probed, name: str) -> str:
    if name not in probed.figures:
        return ""
    figure = probed.figures[name]
    if figure is None:
        return "lost" if name in probed.broken else "-"
    return f"{figure:.3g} s" if figure >= 1 else f"{figure * 1e3:.3g} ms"


def _verdict(probed: Probed) -> str:
    if probed.met:
        return "met"
    stopped = probed.figures.get(probed.broken[0], 0.0) is None
    return f"stopped after {probed.simulated:,} requests" if stopped else "not met"
