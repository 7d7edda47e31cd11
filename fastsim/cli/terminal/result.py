"""Print the headline figures of a result."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.cli.terminal import console
from fastsim.cli.terminal.console import MISSING, counted, dollars, note, number, seconds, share, stdout, table
from fastsim.report.words import statistic, title
from fastsim.result import wording
from fastsim.result.kinds import hardware
from fastsim.result.metrics.definitions import LATENCIES
from fastsim.result.result import Result
from fastsim.result.store import as_json

if TYPE_CHECKING:
    from rich.table import Table

STATISTICS = ("mean", "p50", "p90", "p99")
MOST_TENANTS = 10


def summary(result: Result, json: bool) -> None:
    """Print the summary of a result as text or as JSON; its warnings go to standard error."""
    if json:
        print(as_json(result.summary), end="")
        return
    output = stdout()
    for warning in result.summary["warnings"]:
        note(warning)
    output.print(subject(result))
    latencies = table(("", *map(statistic, STATISTICS)))
    replicates = result.summary.get("replicates", {})
    for latency in LATENCIES:
        figures = result.summary["latency"][latency.key]
        latencies.add_row(
            title(latency.key), *(_figure(latency.key, key, figures[key], replicates) for key in STATISTICS)
        )
    output.print(latencies)
    output.print()
    if tenants := result.summary.get("tenants"):
        output.print(_tenants(tenants))
        output.print()
    output.print(*_lines(result), sep="\n")


def written(folder: Path | None) -> None:
    """Say where the result was written, or how to write it; nothing with --quiet."""
    if console.is_quiet():
        return
    if folder is None:
        stdout().print("Add --out DIR to write the result: a row per request, and the summary as JSON.", style="dim")
    else:
        console.written(folder)


def subject(result: Result) -> str:
    """The deployment and the workload, in a line."""
    deployment, workload = result.config["deployment"], result.config["workload"]
    gpus, runs = result.summary["cost"]["gpus"], deployment.get("engine") or deployment["scheduler"]["policy"]
    return (
        f"{deployment['model']} on {hardware(deployment, gpus)}, "
        f"{runs}; {workload['num_requests']:,} requests of {workload['name']}\n"
    )


def _tenants(listed: list[dict[str, Any]]) -> "Table":
    """A table of the tenants with the most requests."""
    shown = (("ttft", "p50"), ("ttft", "p99"), ("tpot", "p99"), ("e2e", "p99"))
    head = ("tenant", "requests", *(f"{title(name)} {statistic(key)}" for name, key in shown))
    tenants = table(head, left=("tenant",))
    for entry in listed[:MOST_TENANTS]:
        figures = [seconds(entry["latency"][name][key]) for name, key in shown]
        tenants.add_row(entry["tenant"] or MISSING, number(entry["requests"]), *figures)
    if len(listed) > MOST_TENANTS:
        tenants.add_row(f"and {len(listed) - MOST_TENANTS} others, in summary.json")
    return tenants


def _lines(result: Result) -> Iterator[str]:
    """The headline figures below the table of latencies, a line each."""
    summary = result.summary
    totals, timing = summary["totals"], summary["timing"]
    if excluded := summary.get("excluded"):
        first, last = excluded["warm_up_s"], excluded["cool_down_s"]
        left_out = f"{excluded['requests']:,} requests that arrive in the first {first:g} s or the last {last:g} s"
        yield f"Excluded    {left_out}"
    rates = {name: number(rate, 3) for name, rate in summary["throughput"].items()}
    yield (
        f"Throughput  {rates['requests_per_s']} requests/s, {rates['output_tokens_per_s']} output tokens/s, "
        f"{rates['total_tokens_per_s']} tokens/s"
    )
    yield from _objectives(summary)
    use, words = summary["utilisation"], wording.of(result.config)
    again = words.losses if wording.is_sglang(result.config) else "restarts"
    yield (
        f"Use         busy {share(use['busy'])}, peak KV {share(use['peak_kv'])}, {totals['restarts']:,} {again}, "
        f"{totals['iterations']:,} iterations"
    )
    cache = summary.get("cache", {})
    if cache.get("hit_tokens") or (cache and result.config["workload"].get("block_hashes")):
        hits = f"{share(cache['token_hit_rate'])} of tokens and {share(cache['request_hit_rate'])} of requests hit"
        yield f"Cache       {hits}, {_evicted(cache['evicted_blocks'], result)} evicted from the {words.cache}"
    if not wording.is_sglang(result.config):  # all of whose retractions are for decodes
        yield from _preemptions(summary.get("preemptions", {}))
    yield from _pools(summary)
    yield from _costs(summary)
    yield from _certainty(summary)
    if verdict := summary.get("verdict"):
        yield f"Verdict     {verdict['sentence']}"
    unfinished = totals["requests"] - totals.get("finished", totals["requests"])
    if unfinished:
        yield f"{unfinished:,} of {totals['requests']:,} requests did not finish"
    yield f"{totals['span_s']:,.1f} s of service simulated in {timing['kernel_s'] * 1e3:.1f} ms"


def _pools(summary: dict[str, Any]) -> Iterator[str]:
    """A line for each pool: what it is of, and how much of it was used."""
    for pool in summary.get("pools", []):
        cost = "" if pool["dollars"] is None else f", ${pool['dollars']:.2f}"
        yield (
            f"Pool        {pool['name']}: {counted(pool['gpus'], 'GPU')}, busy {share(pool['busy'])}, "
            f"peak KV {share(pool['peak_kv'])}, {counted(pool['requests'], 'request')}{cost}"
        )


def _evicted(blocks: int, result: Result) -> str:
    """How much a cache gave up: blocks, or tokens where SGLang counts these."""
    if not wording.is_sglang(result.config):
        return f"{blocks:,} blocks"
    return f"{blocks * result.config['deployment']['scheduler']['page_size']:,} tokens"


def _preemptions(counted: dict[str, int]) -> Iterator[str]:
    """A line that says what requests were preempted for, where any were."""
    if not any(counted.values()):
        return
    lower = f", {counted['of_lower_priority']:,} of a lower priority" if "of_lower_priority" in counted else ""
    yield f"Preempted   {counted['for_decodes']:,} for decodes, {counted['for_prefills']:,} for prefills{lower}"


def _objectives(summary: dict[str, Any]) -> Iterator[str]:
    """A line for each objective, and one for the goodput, which counts requests and not gaps between tokens."""
    objectives = summary.get("objectives", {})
    for name, judged in objectives.items():
        how = {True: "met", False: "missed", None: "not measured"}[judged["met"]]
        by = " by the mean of their gaps" if name.startswith("tbt:") else ""
        below = f"{share(judged['share'], 1)} of requests are below {name.partition('<')[2]}{by}"
        yield f"Objective   {name} {how}: {seconds(judged['value'])}; {below}"
    if good := summary.get("goodput"):
        met, rate = share(good["share"], 1), number(good["requests_per_s"], 3)
        lost = sum(judged["met"] is False for judged in objectives.values())
        run = f"; the run misses {lost} of {len(objectives)} objectives" if lost else ""
        yield f"Goodput     {met} of requests are below every limit, {rate} requests/s{run}"


def _costs(summary: dict[str, Any]) -> Iterator[str]:
    """A line for the cost, and one for the energy."""
    cost = summary["cost"]
    hours = f"{number(cost['gpu_hours'], 3)} GPU-hours"
    if cost["dollars"] is None:
        yield f"Cost        {hours}, no price of this GPU is known"
    else:
        whole, price = dollars(cost["dollars"]), dollars(cost["dollars_per_million_output_tokens"])
        yield f"Cost        {hours}, {whole}, {price} per million output tokens"
        said = summary["definitions"]["cost.dollars"]
        if "list price" not in said:
            yield f"Price       {said.partition(' at ')[2]}"
    if (lost := cost.get("interruptions")) is not None:
        yield f"Spot        {number(lost, 3)} interruptions expected in this run; what they lose is not counted"
    if (energy := summary.get("energy")) and energy["kwh"] is not None:
        drawn, joules = number(energy["kwh"], 3), number(energy["joules_per_output_token"], 3)
        yield f"Energy      {drawn} kWh, {energy['watts']:.0f} W per GPU, {joules} J per output token, modelled"
        beside = [f"${number(energy['dollars'], 3)}"] if energy.get("dollars") is not None else []
        beside += [f"{number(energy['kg_co2'], 3)} kg of CO2"] if energy.get("kg_co2") is not None else []
        if beside:
            yield f"            {', '.join(beside)}"


def _certainty(summary: dict[str, Any]) -> Iterator[str]:
    """A line for the sources of the operator times, and one that explains the intervals in the table."""
    if known := summary.get("operator_times"):
        yield (
            f"Operator times: {share(known.get('measured', 0.0))} measured, "
            f"{share(known.get('modelled', 0.0))} modelled, {share(known.get('outside', 0.0))} outside measured shapes"
        )
    if "replicates" in summary:
        replicates = summary["replicates"]["number"]
        yield f"±: half-width of the 90 % interval over {replicates} replicates with resampled operator times"


def _figure(metric: str, key: str, value: float | None, replicates: dict[str, Any]) -> str:
    """A latency; where it has an interval, with the half-width of the interval as a share of the latency."""
    interval = replicates.get("intervals", {}).get(f"latency.{metric}.{key}")
    if value is None or interval is None:
        return seconds(value)
    return f"{seconds(value)} ±{share((interval[1] - interval[0]) / 2 / value if value else 0.0)}"
