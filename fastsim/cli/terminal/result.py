"""What the terminal shows: a table of the headline figures, and progress on standard error."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.result.metrics.definitions import LATENCIES
from fastsim.result.result import Result
from fastsim.result.store import as_json

if TYPE_CHECKING:
    pass

QUANTILES = ("mean", "p50", "p90", "p99")


def summary(result: Result, json: bool) -> None:
    """Print the summary, for a reader or as JSON."""
    if json:
        print(as_json(result.summary), end="")
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=True)
    for warning in result.summary["warnings"]:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"note: {warning}", style="yellow")
    console.print(_title(result))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("mean", "P50", "P90", "P99"):
        table.add_column(name, justify="right")
    replicates = result.summary.get("replicates", {})
    for latency in LATENCIES:
        figures = result.summary["latency"][latency.key]
        name = latency.key.replace("_", " ")
        name = name.upper() if len(name) <= 4 else name.capitalize()
        table.add_row(name, *(_figure(latency.key, key, figures[key], replicates) for key in QUANTILES))
    console.print(table)
    console.print()
    console.print(*_lines(result), sep="\n")


def written(folder: Path | None) -> None:
    """Say where the result is, or how to keep it."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    if folder is None:
        console.print("Add --out DIR to keep the result, by request and as JSON.", style="dim")
    else:
        console.print(f"Written to {folder}: {', '.join(sorted(p.name for p in folder.iterdir()))}")


def _title(result: Result) -> str:
    deployment, workload = result.config["deployment"], result.config["workload"]
    gpus = result.summary["cost"]["gpus"]
    return (
        f"{deployment['model']} on {gpus} x {deployment['device']} (TP {deployment['tensor_parallel_size']}, "
        f"PP {deployment['pipeline_parallel_size']}, {deployment['num_replicas']} replicas), "
        f"{deployment['scheduler']['policy']}; {workload['num_requests']:,} requests of {workload['name']}\n"
    )


def _lines(result: Result) -> Iterator[str]:
    summary = result.summary
    rates, totals, timing = summary["throughput"], summary["totals"], summary["timing"]
    use, cost = summary["utilisation"], summary["cost"]
    if left_out := summary.get("excluded"):
        first, last = left_out["warm_up_s"], left_out["cool_down_s"]
        yield f"Left out    {left_out['requests']:,} requests of the first {first:g} s and last {last:g} s of arrivals"
    outputs, both = _text(rates["output_tokens_per_s"], ",.0f"), _text(rates["total_tokens_per_s"], ",.0f")
    yield f"Throughput  {_text(rates['requests_per_s'], '.3g')} requests/s, {outputs} output tokens/s, {both} tokens/s"
    for name, judged in summary.get("objectives", {}).items():
        how = {True: "met", False: "missed", None: "not measured"}[judged["met"]]
        yield f"Objective   {name} {how}: {_seconds(judged['value'])}, {_text(judged['share'], '.1%')} of requests"
    if good := summary.get("goodput"):
        share, rate = _text(good["share"], ".1%"), _text(good["requests_per_s"], ".3g")
        yield f"Goodput     {share} of requests meet every objective: {rate} requests/s"
    yield (
        f"Use         busy {_text(use['busy'], '.0%')}, peak KV {use['peak_kv']:.0%}, {totals['restarts']:,} restarts, "
        f"{totals['iterations']:,} iterations"
    )
    price = _text(cost["dollars_per_million_output_tokens"], ".2f")
    yield f"Cost        {cost['gpu_hours']:.3g} GPU-hours, ${cost['dollars']:.2f}, ${price} per million output tokens"
    if energy := summary.get("energy"):
        drawn, joules = f"{energy['kwh']:.3g} kWh, {energy['watts']:.0f} W a GPU", energy["joules_per_output_token"]
        yield f"Energy      {drawn}, {_text(joules, '.3g')} J per output token, by a model"
    if known := summary.get("operator_times"):
        yield (
            f"Known       of operator times, {known.get('measured', 0.0):.0%} measured, "
            f"{known.get('modelled', 0.0):.0%} modelled, {known.get('outside', 0.0):.0%} outside measured shapes"
        )
    if "replicates" in summary:
        number = summary["replicates"]["number"]
        yield f"±           half the 90 % interval of {number} runs with operator times drawn from theirs"
    if verdict := summary.get("verdict"):
        yield f"Verdict     {verdict['sentence']}"
    unfinished = totals["requests"] - totals.get("finished", totals["requests"])
    if unfinished:
        yield f"{unfinished:,} of {totals['requests']:,} requests did not finish"
    yield f"{totals['span_s']:,.1f} s of service simulated in {timing['kernel_s'] * 1e3:.1f} ms"


def _figure(metric: str, key: str, value: float | None, replicates: dict[str, Any]) -> str:
    """A figure, and half the width of its interval as a share of it, where it has one."""
    interval = replicates.get("intervals", {}).get(f"latency.{metric}.{key}")
    if value is None or interval is None:
        return _seconds(value)
    return f"{_seconds(value)} ±{(interval[1] - interval[0]) / 2 / value if value else 0:.0%}"


def _text(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.3g} s"
