"""Print a capacity as text or as JSON."""

import json
from pathlib import Path

from fastsim.cli.terminal.console import (
    MISSING,
    dollars,
    note,
    number,
    print_json,
    seconds,
    share,
    stdout,
    table,
)
from fastsim.deployment.description import Deployment
from fastsim.deployment.settings import runs
from fastsim.files.writing import write_text
from fastsim.planning.capacity import Capacity
from fastsim.planning.steady import DRIFT
from fastsim.result.kinds import hardware
from fastsim.simulation.probe import Probed


def show(
    capacity: Capacity,
    deployment: Deployment,
    workload: str,
    out: Path | None,
    as_json: bool,
    rate: float | None = None,
) -> None:
    """Print a capacity with the rates that were tried, and write it as JSON to ``out`` if given. Raises OutputError.

    ``rate``: requests/s that are to be served, which the text compares with it.
    """
    if out is not None:
        write_text(out, json.dumps(capacity.as_dict(), indent=2) + "\n")
    if as_json:
        print_json(capacity.as_dict())
        return
    console = stdout()
    console.print(
        f"{deployment.model} on {hardware(deployment.model_dump(warnings=False), capacity.gpus)}, "
        f"{runs(deployment)}; {capacity.num_requests:,} requests of {workload}, {seconds(capacity.span)}\n"
    )
    console.print(*_lines(capacity), sep="\n")
    if rate is not None and capacity.users is None:
        part = share(rate / capacity.rate) if capacity.rate else "more than all"
        console.print(f"To serve    {number(rate)} requests/s: {part} of the capacity")
    console.print()
    load = "rate" if capacity.users is None else "users"
    probes = table((load, "requests", *capacity.objectives, ""))
    for probed in sorted(capacity.probes, key=lambda probed: (probed.users or 0, probed.rate)):
        tried = number(probed.rate) if probed.users is None else f"{probed.users:,}"
        probes.add_row(
            tried, f"{probed.num_requests:,}", *(_cell(probed, name) for name in capacity.objectives), _verdict(probed)
        )
    console.print(probes)
    console.print(
        f"\n{capacity.num_runs} simulations, {capacity.num_simulated:,} requests, in {capacity.seconds:.2f} s"
        + (f"; written to {out}" if out else "")
    )
    for text in capacity.notes:
        note(text)


def _lines(capacity: Capacity) -> list[str]:
    """The headline figures, a line each."""
    interval = ""
    if capacity.interval is not None:
        low, high = capacity.interval
        interval = f"; 90 % interval of {len(capacity.replicates)} replicates: {number(low, 3)} to {number(high, 3)}"
    within = f"(within {share(capacity.tolerance, 1)}{interval})"
    if capacity.users is None:
        lines = [f"Capacity    {number(capacity.rate)} requests/s {within}"]
    else:
        lines = [f"Capacity    {capacity.users:,} users {within}", f"Rate        {number(capacity.rate)} requests/s"]
    if capacity.held is not None:
        held = capacity.held
        load = f"{number(held.rate)} requests/s" if held.users is None else f"{held.users:,} users"
        lines.append(f"Held        at {load} by {held.num_requests:,} other requests, {seconds(held.span)}")
    if capacity.replicates:
        meeting = round((capacity.chance or 0.0) * len(capacity.replicates))
        lines.append(f"Chance      {meeting} of {len(capacity.replicates)} replicates meet the objectives at it")
    if capacity.qps_per_dollar is None:
        lines.append("Per dollar  not given: no price of this GPU is known")
    else:
        lines.append(
            f"Per dollar  {number(capacity.qps_per_dollar)} requests/s for $1 an hour "
            f"({dollars(capacity.dollars_per_hour)} an hour)"
        )
    if capacity.limited_by:
        lines.append(f"Limit       {', '.join(capacity.limited_by)}")
    if capacity.summary:
        use = capacity.summary["utilisation"]
        lines.append(f"Goodput     {share(capacity.summary['goodput']['share'], 1)} of the requests")
        restarts = capacity.summary["totals"]["restarts"]
        lines.append(f"Use         busy {share(use['busy'])}, peak KV {share(use['peak_kv'])}, {restarts:,} restarts")
        lines.append(f"Ceiling     {number(capacity.ceiling)} requests/s if the queue is never empty")
    return lines


def _cell(probed: Probed, name: str) -> str:
    """The latency that an objective limits, at the probed rate."""
    if name not in probed.figures:
        return ""
    figure = probed.figures[name]
    if figure is None:
        return "missed" if name in probed.broken else MISSING
    return seconds(figure)


def _verdict(probed: Probed) -> str:
    """Whether the probed rate meets all objectives, and when its run was stopped if it does not."""
    if probed.met:
        return "met"
    if probed.broken == (DRIFT,):
        return f"the queue grows by {share(probed.drift, 1)} of the time"
    stopped = probed.figures.get(probed.broken[0], 0.0) is None
    return f"stopped after {probed.simulated:,} requests" if stopped else "not met"
