"""The summary of a simulation: headline figures, and with detail the sections that tell where time went."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns
from fastsim.deployment.resolved import Resolved
from fastsim.kernels import state
from fastsim.kernels.accounts import scale
from fastsim.kernels.state import Replicas
from fastsim.predictors.tables.by_operator import ByOperator
from fastsim.predictors.whole_run import Ran, known_of_run
from fastsim.result.metrics import distribution, occupancy, pools, work
from fastsim.result.metrics.batches import batch_distributions
from fastsim.result.metrics.cache import cache_figures
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.definitions import LATENCIES, definitions
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.energy import energy_costs
from fastsim.result.metrics.objectives import DEFAULTS, missed
from fastsim.result.metrics.operator_time import operator_time
from fastsim.result.metrics.preemptions import preemption_figures
from fastsim.result.metrics.pressure import pressure
from fastsim.result.metrics.requests import by_request, mean_breakdown
from fastsim.result.metrics.tenants import by_tenant
from fastsim.result.metrics.time_series import interval_edges, run_series
from fastsim.result.metrics.utilisation import blocks_of, busy_seconds, by_replica, moved_by_all, utilisation
from fastsim.result.metrics.verdict import verdict
from fastsim.result.metrics.window import inside
from fastsim.result.wording import OF_SGLANG, OF_VLLM


def summarise(
    resolved: Resolved,
    columns: Columns,
    replicas: Replicas,
    engines: NDArray[np.int64],
    tbt: NDArray[np.int64],
    provenance: Mapping[str, Any],
    exclude: tuple[float, float] = (0.0, 0.0),
) -> dict[str, Any]:
    """Return the summary of a simulation without the sections ``timing`` and those that need detail.

    A figure is None if nothing was measured.

    Parameters
    ----------
    resolved : Resolved
        The deployment.
    columns : mapping of str to array[n]
        The columns of requests.parquet, by name.
    replicas : kernels.state.Replicas
        The replicas at the end of the simulation.
    engines : int64[R, NUM_ENGINE_COUNTS]
        What their engines have counted (``kernels.engine.state.Engine.counts``); no rows where the policy is
        another than vllm_v1 or sglang.
    tbt : int64[NUM_BINS]
        Gaps between output tokens by length, in the bins of ``kernels.accounts.scale``.
    provenance : mapping
        Where the operator times come from.
    exclude : tuple of float
        Warm-up and cool-down, s. Latencies leave out the requests that arrive in them, and rates are those of the time
        in between; the gaps between tokens, utilisation and cost are of the whole run.
    """
    finished_at, arrived = columns["finished_at"], columns["arrived_at"]
    finished = np.isfinite(finished_at)
    all_finished = bool(finished.all())
    first = float(arrived[0]) if len(arrived) else 0.0
    span = float((finished_at if all_finished else finished_at[finished]).max(initial=first)) - first
    counts = replicas.counts
    num_prompt_tokens, num_output_tokens = (
        int((columns[name] if all_finished else columns[name][finished]).sum(dtype=np.int64))
        for name in ("num_prompt_tokens", "num_output_tokens")
    )
    num_tokens, num_finished = num_prompt_tokens + num_output_tokens, int(finished.sum())
    kept = inside(arrived, exclude)
    gpu_hours = resolved.num_gpus * span / 3600
    dollars = pools.dollars(resolved, span)
    busy = float((busy_seconds(replicas, span) / span).mean()) if span else None
    iterations = int(counts[:, state.ITERATIONS].sum())
    summary: dict[str, Any] = {
        "latency": {
            latency.key: _gaps(replicas, tbt) if latency.key == "tbt" else _latency(columns[latency.key], kept)
            for latency in LATENCIES
        },
        "throughput": _throughput(columns, exclude, span, num_finished, num_prompt_tokens, num_output_tokens),
        "totals": {
            "requests": len(finished_at),
            "finished": num_finished,
            "prompt_tokens": num_prompt_tokens,
            "output_tokens": num_output_tokens,
            "iterations": iterations,
            "restarts": int(counts[:, state.RESTARTS].sum()),
            "span_s": span,
        },
        "utilisation": {
            "busy": busy,
            "peak_kv": float((counts[:, state.PEAK] / blocks_of(resolved)).max()),
        },
        "cost": {
            "gpus": resolved.num_gpus,
            "gpu_hours": gpu_hours,
            "dollars": dollars,
            "dollars_per_million_output_tokens": None if dollars is None else ratio(dollars * 1e6, num_output_tokens),
            "dollars_per_million_tokens": None if dollars is None else ratio(dollars * 1e6, num_tokens),
        },
        "energy": pools.energy_of_all(resolved, replicas, span, num_output_tokens),
    }
    if (interruptions := pools.interruptions(resolved, span)) is not None:
        summary["cost"]["interruptions"] = interruptions
    summary["energy"] |= energy_costs(resolved.deployment.prices, summary["energy"]["kwh"])
    if kept is not None:
        num_excluded = len(kept) - int(kept.sum())
        summary["excluded"] = {"warm_up_s": exclude[0], "cool_down_s": exclude[1], "requests": num_excluded}
    if any(kind.scheduler.enable_prefix_caching for kind in resolved.kinds) and len(engines):
        summary["cache"] = cache_figures(columns, engines)
    if len(engines):
        by_priority = resolved.scheduler.scheduling_policy == "priority"
        summary["preemptions"] = preemption_figures(counts, engines, by_priority)
    if known := pools.known(resolved, provenance, replicas):
        summary["operator_times"] = known
    if resolved.pools:
        summary["pools"] = pools.by_pool(resolved, columns, replicas, span)
    if "tenant" in columns:
        summary["tenants"] = by_tenant(columns, kept)
    summary["definitions"] = definitions(summary)
    summary["definitions"]["cost.dollars"] = _priced(resolved)
    summary["warnings"] = list(resolved.warnings)
    return summary


def _priced(resolved: Resolved) -> str:
    """What the dollars of a run are made of."""
    if resolved.pools:
        return "; ".join(f"{each.pool.name}: {_priced(each.resolved)}" for each in resolved.pools)
    if resolved.price is None:
        return f"not given: no list price of {resolved.device.name} is known"
    if resolved.deployment.prices is None:
        return f"GPU-hours at ${resolved.price.dollars:g}, the list price of {resolved.device.name} per hour"
    return f"GPU-hours at {resolved.price.said}"


def _throughput(
    columns: Columns,
    exclude: tuple[float, float],
    span: float,
    num_finished: int,
    num_prompt_tokens: int,
    num_output_tokens: int,
) -> dict[str, float | None]:
    """Return rates over ``span`` s from these totals, or over the time between warm-up and cool-down if either is set.

    In that time, the requests that finish in it count.
    """
    arrived = columns["arrived_at"]
    if exclude != (0.0, 0.0) and len(arrived):
        begin, end = arrived[0] + exclude[0], arrived[-1] - exclude[1]
        finished = (columns["finished_at"] >= begin) & (columns["finished_at"] <= end)
        span, num_finished = max(0.0, float(end - begin)), int(finished.sum())
        num_prompt_tokens = int(columns["num_prompt_tokens"][finished].sum(dtype=np.int64))
        num_output_tokens = int(columns["num_output_tokens"][finished].sum(dtype=np.int64))
    return {
        "requests_per_s": ratio(num_finished, span),
        "output_tokens_per_s": ratio(num_output_tokens, span),
        "total_tokens_per_s": ratio(num_prompt_tokens + num_output_tokens, span),
    }


def _latency(values: NDArray[np.float64], kept: NDArray[np.bool_] | None) -> distribution.Figures:
    """Return the distribution of a latency over the requests that are kept, or over all of them if ``kept`` is None."""
    return distribution.of_values(values if kept is None else values[kept])


def _gaps(replicas: Replicas, tbt: NDArray[np.int64]) -> distribution.Figures:
    """Return the distribution of the gaps between output tokens (TBT)."""
    total, largest = float(replicas.times[:, state.TBT_SUM].sum()), float(replicas.times[:, state.TBT_MAX].max())
    return distribution.of_bins(tbt, ratio(total, int(tbt.sum())), largest)


def add_details(
    summary: dict[str, Any],
    resolved: Resolved,
    operators: ByOperator,
    columns: Columns,
    replicas: Replicas,
    measures: Measures,
    exclude: tuple[float, float] = (0.0, 0.0),
) -> None:
    """Add what needs detail to ``summary``.

    These are the sections request, batch, breakdown, replicas, series, operators and verdict, and more figures of
    utilisation. The verdict is by Vidur's objectives; ``Result.judge`` judges by others.

    Parameters
    ----------
    summary : dict
        The summary that ``summarise`` returned, which is changed in place.
    resolved : Resolved
        The deployment.
    operators : ByOperator
        The tables of each operator (``Built.operators``).
    columns : mapping of str to array[n]
        The columns of requests.parquet with the breakdown, by name.
    replicas : kernels.state.Replicas
        The replicas at the end of the simulation.
    measures : Measures
        What the simulation counted.
    exclude : tuple of float
        Warm-up and cool-down, s, whose requests the sections request and breakdown leave out.
    """
    kept = inside(columns["arrived_at"], exclude)
    counted = columns if kept is None else {name: values[kept] for name, values in columns.items()}
    summary["request"] = by_request(counted)
    summary["breakdown"] = mean_breakdown(counted)
    summary["batch"] = batch_distributions(measures, replicas)
    span = summary["totals"]["span_s"]
    first = float(columns["arrived_at"][0]) if len(columns["arrived_at"]) else 0.0
    done = work.Work(replicas.counts[:, state.TOKENS], measures.pairs, measures.squares, measures.sampled)
    computed = work.compute_seconds_of_all(resolved, done)
    moved = moved_by_all(resolved, columns, done, replicas, measures)
    queued, finished, num_replicas = occupancy.queued_at(columns), columns["finished_at"], len(replicas.busy)
    served_by = occupancy.engine_of(columns, resolved.data_parallel_size)
    occupied = occupancy.occupied(served_by, queued, finished, num_replicas)
    summary["utilisation"] |= utilisation(resolved, columns, replicas, measures, computed, moved, occupied, span)
    summary["replicas"] = by_replica(resolved, columns, replicas, measures, computed, span)
    summary["series"] = run_series(resolved, columns, measures, interval_edges(first, span, measures.bin_s))
    sizes = scale.sizes()[:-1]
    busy = float(replicas.busy.sum())
    num_stages = resolved.pipeline_parallel_size
    summary["operators"] = operator_time(operators, num_stages, sizes, measures.batch_tokens, measures.batch_size, busy)
    if "operator_times" in summary and operators:
        prompts, outputs = columns["num_prompt_tokens"], columns["num_output_tokens"]
        ran = Ran(sizes, measures.batch_tokens, measures.batch_size, busy, prompts, outputs)
        summary["operator_times"] = known_of_run(resolved, operators, ran)
    slots = (OF_VLLM if resolved.scheduler.sglang is None else OF_SGLANG).slots
    pressed = pressure(resolved, summary, columns, measures, moved)
    summary["verdict"] = verdict(pressed, missed(DEFAULTS, summary), slots)
    headline_definitions = summary.pop("definitions")
    summary["definitions"] = definitions(summary) | headline_definitions
