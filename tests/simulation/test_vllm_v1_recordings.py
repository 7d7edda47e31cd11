"""Policy vllm_v1 against recorded runs of the unmodified scheduler of four releases of vLLM, to the last step.

A microsecond of a recording is taken as 2 ** -20 s, so that all times are exact.
"""

from collections import Counter
from pathlib import Path

import pytest
from reference.recorded import expected, runs_of
from reference.vllm_v1.recordings import read
from vllm_v1_kernel import TICK, serve, workload_of

import fastsim
from fastsim.errors import TooLargeError

OWN = Path(__file__).resolve().parents[1] / "data" / "vllm_v1"
ALL = Path(__file__).resolve().parents[3] / "shared" / "golden_v1"


def deployment_of(run: Path) -> fastsim.Deployment:
    _, settings, release, clock = read(run)
    scheduler = {
        "policy": "vllm_v1",
        "scheduling_policy": settings.policy,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "block_size": settings.block_size,
        "num_blocks": settings.num_blocks,
        "enable_prefix_caching": settings.enable_prefix_caching,
        "enable_chunked_prefill": settings.enable_chunked_prefill,
        "long_prefill_token_threshold": settings.long_prefill_token_threshold,
        "async_scheduling": settings.async_scheduling,
        "empty_step_sleep_s": settings.empty_step_sleep * TICK,
    }
    if settings.watermark:
        scheduler["watermark"] = settings.watermark
    if release.whole_prompt_check:
        scheduler["scheduler_reserve_full_isl"] = settings.scheduler_reserve_full_isl
    affine = {
        "constant_ns": clock.constant,
        "per_token_ns": clock.per_token,
        "per_sequence_ns": clock.per_sequence,
        "per_context_token_ns": clock.per_context_token,
        "tick_s": TICK,
    }
    return fastsim.Deployment.load(
        {
            "model": "llama-3-8b",
            "device": "h100",
            "engine": f"vllm-{release.name}",
            "max_model_len": settings.max_model_len,
            "pipeline_parallel_size": settings.num_stages,
            "scheduler": scheduler,
            "predictor": {"source": "affine", "affine": affine},
        }
    )


def assert_simulates(run: Path) -> int:
    """The public result equals a recording; returns the number of batches."""
    recording = read(run)
    steps, _, requests = expected(run)
    workload = workload_of(recording.requests, recording.settings.block_size)
    result = fastsim.simulate(deployment_of(run), workload, iterations=True)
    assert result.iterations is not None
    iterations, last = result.iterations.to_pylist(), recording.settings.num_stages - 1
    firsts = [row for row in iterations if row["stage_id"] == 0]
    lasts = [row for row in iterations if row["stage_id"] == last]
    got = [
        (a["start"] / TICK, b["end"] / TICK, a["num_seqs"], a["num_tokens"], a["num_preempted"], a["num_cached_tokens"])
        for a, b in zip(firsts, lasts, strict=True)
    ]
    cached = [sum(row["new_cached"]) + sum(row["resumed_cached"]) for row in steps]
    wanted = [
        (row["start_us"], row["end_us"], row["num_reqs"], row["num_tokens"], len(row["preempted_ids"]), tokens)
        for row, tokens in zip(steps, cached, strict=True)
        if row["num_tokens"] > 0
    ]
    assert [row[:4] for row in got] == [row[:4] for row in wanted], run
    columns = {name: result.requests[name].to_pylist() for name in result.requests.column_names}
    requests.sort(key=lambda row: row["request_id"])
    times = {"scheduled_at": "admitted_us", "first_token_at": "first_token_us", "finished_at": "finished_us"}
    for mine, theirs in times.items():
        assert [time / TICK for time in columns[mine]] == [row[theirs] for row in requests], (run, mine)
    for mine, theirs in (("num_restarts", "num_preemptions"), ("num_cached_tokens", "num_cached_tokens")):
        assert columns[mine] == [row[theirs] for row in requests], (run, mine)
    return len(wanted)


def assert_takes_every_step(run: Path) -> None:
    """The kernel, stopped after every call of the scheduler, equals a recording, empty steps included."""
    recording = read(run)
    outcome = serve(recording.requests, recording.settings, recording.release, recording.clock)
    steps, scheduled, _ = expected(run)
    assert len(outcome.decisions) == len(steps), run
    members = iter(scheduled)
    for decision, step in zip(outcome.decisions, steps, strict=True):
        got = (decision.started_at, decision.ended_at, decision.num_free_blocks, decision.num_running)
        assert (*got, decision.num_waiting) == tuple(
            step[name] for name in ("start_us", "end_us", "free_blocks", "num_running", "num_waiting")
        ), (run, step)
        assert sorted(decision.preempted) == step["preempted_ids"], (run, step)
        assert [row.request_id for row in decision.admitted] == step["new_ids"], (run, step)
        assert [row.num_cached_tokens for row in decision.admitted] == step["new_cached"], (run, step)
        for member in decision.members:
            row = next(members)
            wanted = row["request_id"], row["num_scheduled_tokens"], row["num_computed_before"]
            assert (member.request.id, member.num_tokens, member.num_computed_before) == wanted, (run, step)


def runs(folder: Path) -> list[Path]:
    return [run for case in sorted(folder.glob("*/requests.parquet")) for run in runs_of(case.parent)]


def test_results_equal_the_recordings_kept_here() -> None:
    for run in runs(OWN):
        assert_simulates(run)


def test_every_step_equals_the_recordings_kept_here() -> None:
    for run in runs(OWN):
        assert_takes_every_step(run)


@pytest.mark.skipif(not ALL.exists(), reason="needs shared/golden_v1 beside the checkout")
def test_results_equal_all_recordings(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for run in runs(ALL):
        settings, release = read(run).settings, read(run).release
        batches = assert_simulates(run)
        counted["batches"] += batches
        kinds = {
            release.name: True,
            "asynchronous": settings.async_scheduling,
            "pipelines": settings.num_stages > 1,
            "prefix caching": settings.enable_prefix_caching,
            "priority": settings.policy == "priority",
            "without chunks": not settings.enable_chunked_prefill,
            "threshold": settings.long_prefill_token_threshold > 0,
        }
        counted.update(name for name, holds in kinds.items() if holds)
    with capsys.disabled():
        kinds_of = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
        print(f"\nrecordings of vLLM V1 that are equal: {kinds_of}")
    assert sum(counted[name] for name in ("0.11", "0.15", "0.19", "0.33")) == len(runs(ALL))


def test_more_replicas_with_prefix_caching_than_memory_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastsim.files.memory.free_memory", lambda: 2**30)
    few = ["num_replicas=100000", "scheduler.num_blocks=500"]  # of which 64 requests may need more, and be preempted
    deployment = fastsim.Deployment.load(deployment_of(runs(OWN)[0]), few)
    lengths = {"kind": "fixed", "num_prompt_tokens": 100, "num_output_tokens": 20}
    workload = fastsim.load_workload({"lengths": lengths}, rate=1.0, num_requests=64)
    said = r"^num_replicas: 100,000 replicas .* with prefix caching need about .* GiB of memory, and 1 GiB are free"
    with pytest.raises(TooLargeError, match=said):
        fastsim.simulate(deployment, workload)
