"""The details of a summary, compared with sums over the requests and iterations."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.cli.terminal import result as show
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.predictors.explain import explain
from fastsim.predictors.times.iteration import Iteration
from fastsim.result.columns import BREAKDOWN
from fastsim.result.compare import compare
from fastsim.result.config import config_of
from fastsim.result.metrics import requests
from fastsim.result.metrics import summary as summary_module
from fastsim.result.metrics import time_series as series
from fastsim.result.metrics.definitions import BATCH, METRICS, REQUEST, STATISTICS, definitions, flatten
from fastsim.result.metrics.objectives import DEFAULTS
from fastsim.result.metrics.summary import summarise
from fastsim.result.result import Result
from fastsim.result.store import as_json
from fastsim.result.wrap import request_table
from fastsim.workload import Workload
from fastsim.workload.loading import load

CHAT = replace(load("chat", rate=12.0, num_requests=600, seed=3), tenant=np.resize(["a", "b", "b"], 600))
# Two replicas of two stages, with little memory: queues, preemption and bubbles.
FIELDS = ["num_replicas=2", "pipeline_parallel_size=2", "scheduler.num_blocks=900", "scheduler.max_num_seqs=32"]

PRICES = (
    "prices={gpus: {h100: {per_hour: 4.25, interruptions_per_hour: 0.1}}, "
    "energy: {per_kwh: 0.1, grams_co2_per_kwh: 400}}"
)


@pytest.fixture(scope="module")
def result() -> Result:
    wanted = Deployment.load(None, [*FIELDS, PRICES])
    return fastsim.simulate(wanted, CHAT, iterations=True, objectives=["ttft:p90<2s"], exclude=(1.0, 1.0))


def test_a_summary_holds_exactly_the_declared_metrics(result: Result) -> None:
    summary = result.summary
    others = ("preemptions.of_lower_priority", "pools")  # under priority, and of deployments with pools
    metrics = [metric for metric in METRICS if metric.name not in others]
    assert list(summary["definitions"]) == [metric.name for metric in metrics]
    assert all(summary["definitions"].values())
    for metric in metrics:
        section, _, key = metric.name.partition(".")
        figures = summary[section][key] if key else summary[section]
        if metric.kind == "distribution":
            assert list(figures) == list(STATISTICS)
    declared = {metric.name for metric in METRICS}
    for name in flatten(summary):
        assert any(name == metric or name.startswith(f"{metric}.") for metric in declared), name
    assert set(summary["request"]) == {metric.key for metric in REQUEST} == set(requests.PER_REQUEST)
    assert set(summary["batch"]) == {metric.key for metric in BATCH}
    assert {f"series.{name}" for name in summary["series"]} <= declared
    as_json(summary)


def test_batches_are_those_of_the_iterations(result: Result) -> None:
    rows = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}  # type: ignore[union-attr,index]
    first = rows["stage_id"] == 0
    seconds = rows["end"] - rows["start"]
    decodes = rows["num_tokens"] - rows["num_prefill_tokens"]
    batch, use = result.summary["batch"], result.summary["utilisation"]
    for key, values in (
        ("size", rows["num_seqs"][first]),
        ("tokens", rows["num_tokens"][first]),
        ("prefill_tokens", rows["num_prefill_tokens"][first]),
        ("decode_tokens", decodes[first]),
        ("seconds", seconds),
    ):
        assert batch[key]["mean"] == pytest.approx(values.mean()), key
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            wanted = np.quantile(values, share, method="inverted_cdf")
            assert batch[key][name] == pytest.approx(wanted, rel=1 / 128), (key, name)
    span = result.summary["totals"]["span_s"]
    for r, row in enumerate(result.summary["replicas"]):
        for s, busy in enumerate(row["busy"]):
            assert busy == pytest.approx(seconds[(rows["replica_id"] == r) & (rows["stage_id"] == s)].sum() / span)
    assert use["busy"] == pytest.approx(np.mean([row["busy"] for row in result.summary["replicas"]]))
    assert use["mfu"] == pytest.approx(np.mean([row["mfu"] for row in result.summary["replicas"]]))
    assert use["mfu"] == pytest.approx(use["mfu_busy"] * use["busy"])
    assert use["mbu"] == pytest.approx(use["mbu_busy"] * use["busy"])
    assert 0 < use["bubbles"] < 1 - use["busy"]
    assert use["mean_kv"] == pytest.approx(np.mean([row["mean_kv"] for row in result.summary["replicas"]]))
    assert 0.2 < use["mean_kv"] < use["peak_kv"] <= 1
    assert sum(row["requests"] for row in result.summary["replicas"]) == 600


@pytest.mark.parametrize("num_replicas", [1, 3])
def test_no_stage_is_busy_for_longer_than_the_run(num_replicas: int) -> None:
    deployment = Deployment.load(None, [f"num_replicas={num_replicas}"])
    for number in (6, 7, 11, 21, 31):  # of some of these runs, the times of the batches add up to more
        summary = fastsim.simulate(deployment, load("chat", rate=1e5, num_requests=number, seed=number)).summary
        shares = [share for replica in summary["replicas"] for share in replica["busy"]]
        assert 0.3 < summary["utilisation"]["busy"] <= 1 and max(shares) <= 1
        assert max(summary["series"]["busy"]) <= 1


def test_series_add_up_to_the_totals(result: Result) -> None:
    series, totals = result.summary["series"], result.summary["totals"]
    end = series["time"][0] + totals["span_s"]
    widths = np.diff([*series["time"], end])
    assert (widths[:-1] == pytest.approx(series["interval_s"])) and 0 < widths[-1] <= series["interval_s"] + 1e-9
    sums = {name: float(np.array(values) @ widths) for name, values in series.items() if isinstance(values, list)}
    for name in ("arrivals", "first_tokens", "completions"):
        assert sums[name] == pytest.approx(600, rel=1e-4), name
    assert sums["prefill_tokens"] + sums["decode_tokens"] == pytest.approx(
        result.summary["batch"]["tokens"]["mean"] * totals["iterations"], rel=1e-4
    )
    use = result.summary["utilisation"]
    for name in ("busy", "kv"):
        assert sums[name] / totals["span_s"] == pytest.approx(use["busy" if name == "busy" else "mean_kv"], rel=1e-4)
    assert sums["queue"] / totals["span_s"] == pytest.approx(use["mean_queue"], rel=1e-4)
    assert use["mean_queue"] == pytest.approx(result.column("scheduling_delay").sum() / totals["span_s"])
    assert max(series["queue"]) <= use["peak_queue"]


def test_the_breakdown_is_that_of_the_slowest(result: Result) -> None:
    arrived, e2e = result.column("arrived_at"), result.column("e2e")
    kept = np.flatnonzero((arrived >= arrived[0] + 1) & (arrived <= arrived[-1] - 1))
    slowest = kept[np.argsort(-e2e[kept])[: -(-len(kept) // 100)]]
    breakdown = result.summary["breakdown"]
    assert breakdown["slowest_requests"] == len(slowest)
    for part in BREAKDOWN:
        assert breakdown["slowest"][part.name] == pytest.approx(result.column(part.name)[slowest].mean(), abs=1e-12)
    assert sum(breakdown["mean"].values()) == pytest.approx(e2e[kept].mean(), abs=1e-9)
    assert breakdown["slowest"]["queue_wait"] + breakdown["slowest"]["preemption"] > 0


def test_operators_add_up_to_the_busy_time(result: Result) -> None:
    operators = result.summary["operators"]
    busy = result.summary["utilisation"]["busy"] * result.summary["totals"]["span_s"] * 4
    assert sum(operators.values()) == pytest.approx(busy)
    assert 0.03 < operators["attention"] / busy < 0.5
    assert list(operators.values()) == sorted(operators.values(), reverse=True)


@pytest.mark.parametrize("fields", [[], ["pipeline_parallel_size=2"], ["tensor_parallel_size=2"]])
def test_operators_of_one_iteration_are_those_that_explain_lists(fields: list[str]) -> None:
    wanted = Deployment.load(None, fields)
    request = Workload(np.zeros(1), np.array([300]), np.array([1]), None, "one request")
    operators = fastsim.simulate(wanted, request).summary["operators"]
    rows = explain(resolve(wanted), Iteration(chunks=((300, 0),)))["operators"]
    explained = {row["name"]: row["ms"] / 1e3 for row in rows}
    explained["attention"] = explained.pop("attn_prefill")
    assert operators.keys() == explained.keys()
    for name, seconds in explained.items():
        assert operators[name] == pytest.approx(seconds, rel=0.01), name  # bins are 0.8 % wide


def test_simulate_many_gives_the_same_details() -> None:
    wanted = Deployment.load(None, FIELDS)
    alone = fastsim.simulate(wanted, CHAT).summary
    (run,) = fastsim.simulate_many([(wanted, CHAT)], detail=True)
    assert run.summary is not None
    assert {**run.summary, "timing": 0} == {**alone, "timing": 0}
    (light,) = fastsim.simulate_many([(wanted, CHAT)])
    assert light.summary is not None
    assert set(light.summary) < set(alone)
    assert {name: light.summary[name] for name in ("latency", "totals", "cost")} == {
        name: alone[name] for name in ("latency", "totals", "cost")
    }


@pytest.mark.parametrize("number", [0, 1, 5])
def test_a_run_in_which_few_requests_finished(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Only the first of 5 requests finished and the others never began; the result is shown, saved and compared."""
    from fastsim.predictors.build import build_cost
    from fastsim.simulation import lanes
    from fastsim.simulation import run as simulation
    from fastsim.simulation.limits import limits_of
    from fastsim.simulation.stream import share

    resolved = resolve(Deployment.load(None))
    few = load("chat", rate=4.0, num_requests=5, seed=3)
    limits = limits_of(resolved)
    stream = share(few.arrived_at, few.num_prompt_tokens, few.num_output_tokens)
    built = build_cost(resolved)
    job = simulation.Job(resolved, lanes.kernel_of(resolved), limits, few, stream, None)
    outcome, _ = simulation.run(job, built.costs, detail=True)
    assert outcome.measures is not None
    columns = {name: values.copy() for name, values in outcome.columns.items()}
    for name, values in columns.items():
        if values.dtype.kind == "f" and name != "arrived_at":
            values[number:] = np.nan
    summary: dict[str, Any] = summarise(resolved, columns, outcome.replicas, outcome.engines, outcome.tbt, {})
    summary_module.add_details(summary, resolved, built.operators, columns, outcome.replicas, outcome.measures)
    assert summary["totals"]["finished"] == number
    if not number:
        assert summary["latency"]["ttft"]["p99"] is None
        assert summary["throughput"]["requests_per_s"] in (None, 0.0)
        assert summary["cost"]["dollars_per_million_output_tokens"] is None
    assert set(summary["definitions"]) == set(definitions(summary))
    config = config_of(resolved, few, {})
    timing = dict.fromkeys(("tables_s", "kernel_s", "write_s", "total_s"), 0.0)
    unfinished = Result(request_table(columns, config), None, {**summary, "timing": timing}, config)
    unfinished.judge(DEFAULTS)
    unfinished.save(tmp_path / "out")
    loaded = Result.load(tmp_path / "out")
    assert loaded.summary == unfinished.summary
    show.summary(loaded, json=False)
    shown = capsys.readouterr().out
    assert (f"{5 - number} of 5 requests did not finish" in shown) == (number < 5)
    assert f"Goodput     {number / 5:.1%} of requests" in shown
    assert compare(loaded, loaded)["compared"] == number
    edges = np.linspace(0, 2, 5)
    assert series.request_series(columns, edges)["completions"].sum() <= number / 0.5


def test_without_detail_there_are_no_details() -> None:
    plain = fastsim.simulate(None, load("chat", num_requests=20), detail=False)
    assert "verdict" not in plain.summary
    assert plain.requests.column_names[-1] == "num_cached_tokens"
