"""A capacity as text and as JSON."""

import json
from pathlib import Path

from fastsim.cli.terminal.console import MISSING, dollars, note, number, print_json, seconds, share, stdout, table
from fastsim.deployment.description import Deployment
from fastsim.files.writing import write_text
from fastsim.planning.capacity import Capacity
from fastsim.simulation.probe import Probed


def show(found: Capacity, deployment: Deployment, workload: str, out: Path | None, as_json: bool) -> None:
    """Print it, and write the JSON to ``out``. Raises OutputError."""
    if out is not None:
        write_text(out, json.dumps(found.as_dict(), indent=2) + "\n")
    if as_json:
        print_json(found.as_dict())
        return
    console = stdout()
    console.print(
        f"{deployment.model} on {found.gpus} x {deployment.device} (TP {deployment.tensor_parallel_size}, "
        f"PP {deployment.pipeline_parallel_size}, {deployment.num_replicas} replicas), "
        f"{deployment.scheduler.policy}; {found.num_requests:,} requests of {workload}\n"
    )
    console.print(*_lines(found), sep="\n")
    console.print()
    probes = table(("rate", *found.objectives, ""))
    for probed in sorted(found.probes, key=lambda one: one.rate):
        probes.add_row(number(probed.rate), *(_cell(probed, name) for name in found.objectives), _verdict(probed))
    console.print(probes)
    console.print(
        f"\n{found.num_runs} simulations, {found.num_simulated:,} requests, {found.seconds:.2f} s"
        + (f"; written to {out}" if out else "")
    )
    for text in found.notes:
        note(text)


def _lines(found: Capacity) -> list[str]:
    interval = ""
    if found.interval is not None:
        low, high = found.interval
        interval = f"; 90 % interval of {len(found.replicates)} replicates: {number(low, 3)} to {number(high, 3)}"
    lines = [
        f"Capacity    {number(found.rate)} requests/s (within {share(found.tolerance, 1)}{interval})",
        f"Per dollar  {number(found.qps_per_dollar)} requests/s for $1 an hour "
        f"({dollars(found.dollars_per_hour)} an hour)",
    ]
    if found.limited_by:
        lines.append(f"Limit       {', '.join(found.limited_by)}")
    if found.summary:
        use = found.summary["utilisation"]
        restarts = found.summary["totals"]["restarts"]
        lines.append(f"Use         busy {share(use['busy'])}, peak KV {share(use['peak_kv'])}, {restarts:,} restarts")
        lines.append(f"Ceiling     {number(found.ceiling)} requests/s when the queue is never empty")
    return lines


def _cell(probed: Probed, name: str) -> str:
    if name not in probed.figures:
        return ""
    figure = probed.figures[name]
    if figure is None:
        return "lost" if name in probed.broken else MISSING
    return seconds(figure)


def _verdict(probed: Probed) -> str:
    if probed.met:
        return "met"
    stopped = probed.figures.get(probed.broken[0], 0.0) is None
    return f"stopped after {probed.simulated:,} requests" if stopped else "not met"
