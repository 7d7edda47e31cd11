"""What results of policy vllm_v1 say besides: cached tokens, preemptions, and the wait of a batch for its start."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from pyarrow import parquet

import fastsim
from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.report.timeline import flows
from fastsim.result.columns import BREAKDOWN, ENGINE_ITERATIONS
from fastsim.result.config import config_of
from fastsim.result.metrics.definitions import METRICS
from fastsim.result.result import Result
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes


def deployment(*overrides: str, engine: str | None = "vllm-0.19", **fields: Any) -> Deployment:
    described = {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100", "engine": engine, **fields}
    return Deployment.load(described, overrides)


def again() -> Workload:
    """Three requests, each after the end of the one before: the second is the first again, the third half of it."""
    return Workload(
        name="again",
        arrived_at=np.array([0.0, 10.0, 20.0]),
        num_prompt_tokens=np.array([64, 64, 64]),
        num_output_tokens=np.array([4, 4, 4]),
        block_hashes=BlockHashes.of([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 5, 6]]),
    )


@pytest.fixture(scope="module")
def cached(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a result of the policy with these requests."""
    folder = tmp_path_factory.mktemp("run")
    fastsim.simulate(deployment(), again(), iterations=True).save(folder)
    return folder


def test_requests_say_how_many_tokens_were_cached(cached: Path) -> None:
    result = Result.load(cached)
    assert result.config["workload"]["block_hashes"] is True
    # The last token is computed in any case, and with it its block.
    assert result.column("num_cached_tokens").tolist() == [0, 48, 32]
    field = result.requests.schema.field("num_cached_tokens")
    assert (field.type, field.metadata[b"unit"]) == ("int32", b"tokens")
    assert result.iterations is not None
    assert result.iterations["num_cached_tokens"].to_numpy()[::4].tolist() == [0, 48, 32]
    figures = result.summary["cache"]
    assert (figures["token_hit_rate"], figures["request_hit_rate"]) == (80 / 192, 2 / 3)
    assert (figures["queried_tokens"], figures["hit_tokens"], figures["evicted_blocks"]) == (192, 80, 0)
    declared = {metric.name for metric in METRICS if metric.name.startswith("cache.")}
    assert {f"cache.{name}" for name in figures} == declared <= set(result.summary["definitions"])


def test_without_a_cache_nothing_is_said_of_it() -> None:
    uncached = fastsim.simulate(deployment("scheduler.enable_prefix_caching=false"), again())
    assert uncached.column("num_cached_tokens").tolist() == [0, 0, 0]
    assert "cache" not in uncached.summary
    other = fastsim.simulate(deployment("scheduler.policy=sarathi", engine=None), again(), iterations=True)
    assert "cache" not in other.summary
    assert "num_cached_tokens" not in other.requests.column_names
    assert other.iterations is not None
    assert not {column.name for column in ENGINE_ITERATIONS} & set(other.iterations.column_names)


def test_sweeps_have_the_figures_of_the_cache_where_a_configuration_has_them(tmp_path: Path) -> None:
    space = {
        "deployment": {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100"},
        "workload": {"source": "chat", "rate": 4, "num_requests": 20},
        "axes": {"scheduler.policy": ["sarathi", "vllm_v1"]},
    }
    fastsim.sweep(space, tmp_path / "sweep")
    table = parquet.read_table(tmp_path / "sweep").sort_by("scheduler.policy")
    assert table["cache.token_hit_rate"].to_pylist() == [None, 0.0]
    [none, queried] = table["cache.queried_tokens"].to_pylist()
    assert none is None
    assert queried == table["totals.prompt_tokens"].to_pylist()[1]


def test_commands_show_the_cache(cached: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["result", "show", str(cached)])
    assert "Cache       42% of tokens and 67% of requests hit, 0 blocks evicted" in shown.stdout
    fastsim.simulate(deployment(), replace(again(), block_hashes=None)).save(tmp_path / "alone")
    alone = CliRunner().invoke(cli, ["result", "show", str(tmp_path / "alone")])
    assert "vllm-0.19; 3 requests" in alone.stdout and "Cache" not in alone.stdout  # no two requests share a prefix
    page, timeline = tmp_path / "page.html", tmp_path / "timeline.json"
    assert CliRunner().invoke(cli, ["report", str(cached), "-o", str(page)]).exit_code == 0
    assert "tokens found in the prefix cache at first admission" in page.read_text().lower()
    assert "Cached tokens" in page.read_text() and ">cached<" in page.read_text()
    assert CliRunner().invoke(cli, ["timeline", str(cached), "-o", str(timeline)]).exit_code == 0
    events = json.loads(timeline.read_text())["traceEvents"]
    batches = [event["args"] for event in events if event.get("cat") == "batch"]
    assert [args["cached tokens"] for args in batches][::4] == [0, 48, 32]
    assert {args["preempted"] for args in batches} == {0}
    begun = [event["args"] for event in events if event.get("cat") == "request" and "args" in event]
    assert [args["cached tokens"] for args in begun] == [0, 48, 32]


def test_preemptions_are_told_apart_by_what_they_made_room_for(tmp_path: Path) -> None:
    scheduler = {"scheduling_policy": "priority", "num_blocks": 8}
    workload = Workload(
        np.array([0.0, 0.001]), np.array([48, 61]), np.array([40, 40]), priority=np.array([9, 0], np.int32)
    )
    affine = {"source": "affine", "affine": {"constant_ns": 10_000_000}}
    result = fastsim.simulate(deployment(scheduler=scheduler, predictor=affine, max_model_len=128), workload)
    # The second request needs a block for its decodes and takes those of the first.
    figures = result.summary["preemptions"]
    assert figures == {"for_decodes": 1, "for_prefills": 0, "of_lower_priority": 1}
    assert {f"preemptions.{name}" for name in figures} <= set(result.summary["definitions"])
    result.save(tmp_path / "run")
    shown = CliRunner().invoke(cli, ["result", "show", str(tmp_path / "run")])
    assert "Preempted   1 for decodes, 0 for prefills, 1 of a lower priority" in shown.stdout


def test_a_result_follows_from_hashes_only_where_they_are_read() -> None:
    def digest(deployment: Deployment, workload: Workload) -> str:
        return str(config_of(resolve(deployment), workload, {})["workload"]["sha256"])

    plain, uncached = replace(again(), block_hashes=None), deployment("scheduler.enable_prefix_caching=false")
    assert digest(deployment(), again()) != digest(deployment(), plain)
    assert digest(uncached, again()) == digest(uncached, plain)


def parts_of(result: Result) -> dict[str, list[float]]:
    """The parts of each request's time that are not 0 for all requests, in ms."""
    parts = {column.name: np.round(result.column(column.name) * 1e3, 6) for column in BREAKDOWN}
    return {name: values.tolist() for name, values in parts.items() if values.any()}


def test_a_request_waits_for_the_batch_that_was_scheduled_before_its_own() -> None:
    affine = {"source": "affine", "affine": {"constant_ns": 10_000_000}}
    workload = Workload(np.array([0.0, 0.005]), np.array([32, 32]), np.array([5, 2]))
    # Its batches last 10 ms. Two are scheduled at 0 ms, and the third, which the second request is in, at 10 ms.
    lagging = fastsim.simulate(deployment(predictor=affine), workload)
    assert parts_of(lagging) == {
        "queue_wait": [0.0, 5.0],
        "launch_wait": [0.0, 10.0],
        "prefill_compute": [10.0, 10.0],
        "decode_compute": [40.0, 10.0],
    }
    columns = lagging.columns()
    starts = np.array([0.0, 0.01, 0.02, 0.03, 0.04])
    assert flows.first_batch(starts, columns, np.arange(2)).tolist() == [0, 2]
    prompt = fastsim.simulate(deployment("scheduler.async_scheduling=false", predictor=affine), workload)
    assert "launch_wait" not in parts_of(prompt)
    assert prompt.column("scheduled_at").tolist() == lagging.column("scheduled_at").tolist() == [0.0, 0.01]


@pytest.mark.parametrize(
    "overrides",
    [(), ("pipeline_parallel_size=2",), ("pipeline_parallel_size=4", "scheduler.max_num_batched_tokens=256")],
    ids=lambda overrides: overrides[0] if overrides else "one stage",
)
def test_parts_add_up_and_batches_account_for_preemptions_and_hits(overrides: tuple[str, ...]) -> None:
    tight = deployment("scheduler.num_blocks=700", "scheduler.max_num_seqs=64", *overrides, engine="vllm-0.15")
    result = fastsim.simulate(tight, fastsim.load_workload("chat", rate=8.0, num_requests=300), iterations=True)
    parts = np.array([result.column(column.name) for column in BREAKDOWN])
    np.testing.assert_allclose(parts.sum(axis=0), result.column("e2e"), rtol=0, atol=1e-9)
    assert parts.min() > -1e-9
    assert result.iterations is not None
    rows = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}
    first = rows["stage_id"] == 0
    restarts = result.column("num_restarts").sum()
    assert rows["num_preempted"][first].sum() == restarts == result.summary["totals"]["restarts"] > 50
    made_room = result.summary["preemptions"]
    assert made_room["for_decodes"] + made_room["for_prefills"] == restarts
    # Requests of this workload share nothing, but find their own tokens again.
    assert result.column("num_cached_tokens").sum() == 0
    cache = result.summary["cache"]
    assert rows["num_cached_tokens"][first].sum() == cache["hit_tokens_again"] > 16 * restarts
    assert cache["queried_tokens"] == result.column("num_prompt_tokens").sum()
    assert cache["hit_tokens"] == cache["token_hit_rate"] == 0 < cache["evicted_blocks"]
