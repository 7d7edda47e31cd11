"""Whole simulations, from a deployment and a workload to a saved result."""

import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.errors import InputError, OutputError, StuckError, TooLargeError, WorkloadError
from fastsim.files import memory
from fastsim.result.columns import BREAKDOWN, ITERATIONS, REQUESTS
from fastsim.result.result import Result
from fastsim.result.store import TABLES
from fastsim.simulation import lanes, layout
from fastsim.workload import Workload
from fastsim.workload.loading import load

SHARED = Path(__file__).resolve().parents[3] / "shared"
AZURE = SHARED / "traces" / "azure_conv_2023.csv"


def deployment(**fields: Any) -> Deployment:
    return Deployment.load(None, [f"{name.replace('__', '.')}={value}" for name, value in fields.items()])


def workload(*rows: tuple[float, int, int], replica_id: list[int] | None = None) -> Workload:
    arrived, prompts, outputs = zip(*rows, strict=True)
    pinned = None if replica_id is None else np.array(replica_id, np.int32)
    return Workload(np.array(arrived), np.array(prompts), np.array(outputs), pinned, "rows")


CHAT = load("chat", rate=4.0, num_requests=300, seed=3)


@pytest.mark.parametrize("policy", ["vllm", "sarathi", "orca", "lightllm", "faster_transformer"])
def test_a_result_adds_up(policy: str) -> None:
    result = fastsim.simulate(deployment(scheduler__policy=policy), CHAT, iterations=True)
    assert result.requests.column_names == [column.name for column in REQUESTS + BREAKDOWN]
    table = result.iterations
    assert table is not None
    assert table.column_names == [column.name for column in ITERATIONS]
    steps = ("arrived_at", "scheduled_at", "first_token_at", "finished_at")
    for earlier, later in pairwise(steps):
        assert (result.column(earlier) <= result.column(later)).all()
    total = result.column("scheduling_delay") + result.column("execution_time") + result.column("preempted_time")
    np.testing.assert_allclose(total, result.column("e2e"), rtol=0, atol=1e-9)
    decode = result.column("tpot") * (CHAT.num_output_tokens - 1)
    np.testing.assert_allclose(np.nan_to_num(decode), result.column("e2e") - result.column("ttft"), atol=1e-9)
    tokens = int(CHAT.num_prompt_tokens.sum() + CHAT.num_output_tokens.sum()) - CHAT.num_requests
    assert table["num_tokens"].to_numpy().sum() == tokens
    assert table["num_prefill_tokens"].to_numpy().sum() == CHAT.num_prompt_tokens.sum()
    assert (np.diff(table["start"].to_numpy()) >= 0).all()
    latency = result.summary["latency"]["ttft"]
    assert latency["p90"] == pytest.approx(np.quantile(result.column("ttft"), 0.9))


@pytest.mark.parametrize(
    ("policy", "stages"),
    [(policy, 1) for policy in ("vllm", "sarathi", "orca", "lightllm", "faster_transformer", "vllm_v1", "sglang")]
    + [("vllm_v1", 2)],
)
def test_gaps_between_tokens_add_up_to_the_time_after_the_first(policy: str, stages: int) -> None:
    result = fastsim.simulate(deployment(scheduler__policy=policy, pipeline_parallel_size=stages), CHAT)
    gaps = result.summary["latency"]["tbt"]["mean"] * (CHAT.num_output_tokens - 1).sum()
    assert gaps == pytest.approx((result.column("e2e") - result.column("ttft")).sum())


def test_tbt_quantiles_are_within_a_bin_of_the_samples() -> None:
    """On one replica that never preempts, the gaps between tokens follow from the iterations."""
    result = fastsim.simulate(deployment(), workload((0.0, 100, 400), (0.5, 3000, 300)), iterations=True)
    table = result.iterations
    assert table is not None
    ends = table["end"].to_numpy()
    first, last = result.column("first_token_at"), result.column("finished_at")
    gaps = np.concatenate([np.diff(ends[(ends >= a) & (ends <= b)]) for a, b in zip(first, last, strict=True)])
    tbt = result.summary["latency"]["tbt"]
    assert tbt["mean"] == pytest.approx(gaps.mean())
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert tbt[name] == pytest.approx(np.quantile(gaps, share, method="inverted_cdf"), rel=0.0079)


def on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> list[Result]:
    """Results of five replicas on 1, 2 and 5 threads, in slices of different lengths."""
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        monkeypatch.setattr(lanes, "SLICE", 1000 * cores)
        wanted = deployment(num_replicas=5, scheduler__max_num_seqs=8, **fields)
        results.append(fastsim.simulate(wanted, CHAT, iterations=True))
    return results


@pytest.mark.parametrize("policy", ["vllm_v1", "sarathi"])
@pytest.mark.parametrize("router", ["round_robin", "random", "least_outstanding", "least_waiting"])
def test_the_same_input_gives_the_same_bits_on_any_number_of_threads(
    router: str, policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = on_any_number_of_threads(monkeypatch, router__policy=router, scheduler__policy=policy)
    for other in results[1:]:
        assert other.requests.equals(results[0].requests)
        assert other.iterations is not None
        assert results[0].iterations is not None
        assert other.iterations.equals(results[0].iterations)
        assert {**other.summary, "timing": 0} == {**results[0].summary, "timing": 0}


def test_every_router_serves_everything() -> None:
    pinned = Workload(
        CHAT.arrived_at, CHAT.num_prompt_tokens, CHAT.num_output_tokens, (np.arange(300) % 3).astype(np.int32), "x"
    )
    turns = fastsim.simulate(deployment(num_replicas=3, router__policy="round_robin"), CHAT)
    same = fastsim.simulate(deployment(num_replicas=3, router__policy="pinned"), pinned)
    np.testing.assert_array_equal(turns.column("finished_at"), same.column("finished_at"))
    seeds = [
        fastsim.simulate(deployment(num_replicas=3, router__policy="random", seed=seed), pinned).column("replica_id")
        for seed in (1, 1, 2)
    ]
    assert (seeds[0] == seeds[1]).all()
    assert (seeds[0] != seeds[2]).any()


def test_parallelism_shortens_iterations_and_pipelines_lengthen_latency() -> None:
    alone = fastsim.simulate(deployment(), CHAT).summary["latency"]
    sharded = fastsim.simulate(deployment(tensor_parallel_size=2), CHAT).summary["latency"]
    piped = fastsim.simulate(deployment(pipeline_parallel_size=2), CHAT).summary["latency"]
    assert sharded["tbt"]["p50"] < alone["tbt"]["p50"] < piped["tbt"]["p50"] * 1.2
    assert piped["tpot"]["mean"] > sharded["tpot"]["mean"]


def test_save_and_load(tmp_path: Path) -> None:
    result = fastsim.simulate(deployment(), CHAT, iterations=True)
    folder = tmp_path / "deep" / "out"
    result.save(folder)
    assert {path.name for path in folder.iterdir()} == {*TABLES, "config.json", "summary.json"}
    loaded = Result.load(folder)
    assert loaded.requests.equals(result.requests)
    assert loaded.summary == result.summary
    assert set(loaded.summary["timing"]) == {"tables_s", "kernel_s", "write_s", "total_s"}
    metadata = pq.read_schema(folder / "requests.parquet")
    assert json.loads((metadata.metadata or {})[b"fastsim"]) == result.config
    assert (metadata.field("ttft").metadata or {})[b"unit"] == b"s"
    (folder / "mine.txt").write_text("stays")
    fastsim.simulate(deployment(), CHAT).save(folder)
    stale = "iterations.parquet"
    assert {path.name for path in folder.iterdir()} == {*TABLES, "config.json", "summary.json", "mine.txt"} - {stale}
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_a_result_can_be_repeated_from_its_files(tmp_path: Path) -> None:
    first = fastsim.simulate(deployment(scheduler__chunk_size=256), CHAT)
    first.save(tmp_path / "out")
    again = fastsim.simulate(Deployment.load(first.config["deployment"]), tmp_path / "out" / "requests.parquet")
    assert again.requests.equals(first.requests)
    assert again.config["workload"]["sha256"] == first.config["workload"]["sha256"]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    result = fastsim.simulate(deployment(), CHAT)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        result.save(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        result.save(tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("missing", "content", "message"),
    [
        ("summary.json", None, "holds no summary.json"),
        ("summary.json", "{", "cannot be read"),
        ("requests.parquet", "", "cannot be read"),
    ],
)
def test_an_incomplete_folder_is_refused(tmp_path: Path, missing: str, content: str | None, message: str) -> None:
    fastsim.simulate(deployment(), CHAT).save(tmp_path / "out")
    if content is None:
        (tmp_path / "out" / missing).unlink()
    else:
        (tmp_path / "out" / missing).write_text(content)
    with pytest.raises(InputError, match=message):
        Result.load(tmp_path / "out")


@pytest.mark.parametrize(
    ("fields", "rows", "message"),
    [
        (
            {},
            [(0.0, 8000, 500)],
            "request 0: prompt and output have 8500 tokens together, more than max_model_len 8192",
        ),
        (
            {"scheduler__policy": "vllm", "scheduler__max_num_batched_tokens": 2048},
            [(0.0, 9, 9), (1.0, 3000, 5)],
            "request 1: the prompt has 3000 tokens, .* set scheduler.max_num_batched_tokens=3000",
        ),
        (
            {"scheduler__policy": "sarathi", "scheduler__num_blocks": 64},
            [(0.0, 1100, 5)],
            "needs 69 KV blocks, but a replica can give only 64",
        ),
        (
            {"scheduler__num_blocks": 64},
            [(0.0, 1000, 500)],
            "prompt and output need 94 KV blocks, but a replica can give only 64",
        ),
        ({"router__policy": "pinned"}, [(0.0, 9, 9)], "column replica_id is missing"),
    ],
)
def test_requests_that_can_never_be_scheduled_are_refused(
    fields: dict[str, Any], rows: list[tuple[float, int, int]], message: str
) -> None:
    with pytest.raises(WorkloadError, match=message):
        fastsim.simulate(deployment(**fields), workload(*rows))


def test_a_pinned_replica_must_exist() -> None:
    with pytest.raises(WorkloadError, match=r"request 1: replica_id 2 is none of the 2 replicas \(valid: 0 to 1\)"):
        fastsim.simulate(
            deployment(num_replicas=2, router__policy="pinned"), workload((0, 9, 9), (0, 9, 9), replica_id=[1, 2])
        )


def test_more_than_fits_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    many = Workload(np.zeros(10**6), np.ones(10**6, np.int64), np.ones(10**6, np.int64), name="a.csv")
    with pytest.raises(TooLargeError, match=r"^a.csv: 1,000,000 requests need about 0.3\d GiB of memory, and 0.28 GiB"):
        fastsim.simulate(deployment(scheduler__policy="sarathi"), many)
    replicas = deployment(num_replicas=100_000, scheduler__policy="sarathi", scheduler__block_size=4096)
    fastsim.simulate(replicas, CHAT.head(20))  # of which most are never used
    said = r"^num_replicas: 100,000 replicas with scheduler.max_num_seqs 128 and scheduler.block_size 4,096, of which "
    with pytest.raises(TooLargeError, match=said + "8,000 serve requests, need about 0.7"):
        fastsim.simulate(replicas, load("chat", num_requests=8000))
    (run,) = fastsim.simulate_many([(replicas, load("chat", num_requests=20_000))])
    assert isinstance(run.error, TooLargeError)


def test_memory_that_the_system_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(layout, "lay_out_replicas", refuse)
    with pytest.raises(TooLargeError, match=r"^num_replicas: 7 replicas with .* need a larger piece of memory than"):
        fastsim.simulate(deployment(num_replicas=7), CHAT)


def test_a_request_that_outgrows_the_memory_is_named() -> None:
    """The prompt fits in memory and the output does not, so the request restarts alone and then needs too much."""
    with pytest.raises(StuckError, match="request 0 can never be scheduled after a restart: it needs 1025 tokens"):
        few = deployment(scheduler__policy="sarathi", scheduler__num_blocks=64, scheduler__watermark=0)
        fastsim.simulate(few, workload((0.0, 1000, 500)))


@pytest.mark.skipif(not AZURE.exists(), reason="needs shared/traces beside the checkout")
@pytest.mark.parametrize("replicas", [1, 4])
def test_the_azure_trace_is_served_completely(replicas: int) -> None:
    requests = load(AZURE)
    result = fastsim.simulate(deployment(max_model_len=16384, num_replicas=replicas), requests)
    assert result.requests.num_rows == requests.num_requests == 19_366
    assert np.isfinite(result.column("finished_at")).all()
    totals = result.summary["totals"]
    assert totals["prompt_tokens"] == requests.num_prompt_tokens.sum()
    assert totals["output_tokens"] == requests.num_output_tokens.sum()


def test_replicates_give_intervals_around_the_run() -> None:
    result = fastsim.simulate(deployment(), CHAT, replicates=12)
    again = fastsim.simulate(deployment(), CHAT, replicates=12)
    plain = fastsim.simulate(deployment(), CHAT)
    intervals = result.summary["replicates"]
    assert intervals == again.summary["replicates"]
    assert intervals["number"] == 12
    for name in ("latency.tpot.mean", "latency.e2e.mean"):
        low, high = intervals["intervals"][name]
        section, metric, figure = name.split(".")
        assert low < high
        assert 0.9 * low < plain.summary[section][metric][figure] < 1.1 * high
        assert len(intervals["values"][name]) == 12
    assert result.requests.equals(plain.requests)
    known = result.summary["operator_times"]
    assert sum(known.values()) == pytest.approx(1.0, abs=0.02)
