"""Policy sglang against recorded runs of the unmodified scheduler of two releases of SGLang, to the last step.

A microsecond of a recording is taken as 2 ** -20 s, so that all times are exact.
"""

from collections import Counter
from pathlib import Path

import pytest
from reference.recorded import expected, runs_of
from reference.sglang.recordings import as_recorded, read
from sglang_kernel import serve, workload_of
from vllm_v1_kernel import TICK

import fastsim

OWN = Path(__file__).resolve().parents[1] / "data" / "sglang"
ALL = Path(__file__).resolve().parents[3] / "shared" / "golden_sglang"
SAME = (
    "schedule_policy",
    "max_prefill_tokens",
    "page_size",
    "max_total_num_tokens",
    "max_running_requests",
    "schedule_conservativeness",
    "enable_mixed_chunk",
    "disable_radix_cache",
    "disable_overlap_schedule",
    "ignore_eos",
)


def deployment_of(run: Path) -> fastsim.Deployment:
    _, settings, release, clock, _ = read(run)
    scheduler = {name: getattr(settings, name) for name in SAME}
    affine = {
        "constant_ns": clock.constant,
        "per_token_ns": clock.per_token,
        "per_sequence_ns": clock.per_request,
        "per_context_token_ns": clock.per_context_token,
        "tick_s": TICK,
    }
    return fastsim.Deployment.load(
        {
            "model": "llama-3-8b",
            "device": "h100",
            "engine": f"sglang-{release.name}",
            "scheduler": {**scheduler, "chunked_prefill_size": settings.chunked_prefill_size or -1},
            "predictor": {"source": "affine", "affine": affine},
        }
    )


def assert_simulates(run: Path) -> int:
    """The public result equals a recording; returns the number of batches."""
    recording = read(run)
    steps, _, requests = expected(run)
    workload = workload_of(recording.requests, recording.settings.page_size)
    result = fastsim.simulate(deployment_of(run), workload, iterations=True)
    assert result.iterations is not None
    got = [
        (row["start"] / TICK, row["end"] / TICK, row["num_seqs"], row["num_tokens"], row["num_preempted"])
        for row in result.iterations.to_pylist()
    ]
    names = "start_us", "end_us", "num_reqs", "num_tokens"
    assert got == [(*(row[name] for name in names), len(row["retracted_ids"])) for row in steps], run
    columns = {name: result.requests[name].to_pylist() for name in result.requests.column_names}
    requests.sort(key=lambda row: row["request_id"])
    times = {"scheduled_at": "admitted_us", "first_token_at": "first_token_us", "finished_at": "finished_us"}
    for mine, theirs in times.items():
        assert [time / TICK for time in columns[mine]] == [row[theirs] for row in requests], (run, mine)
    for mine, theirs in (("num_restarts", "num_retractions"), ("num_cached_tokens", "num_cached_tokens")):
        assert columns[mine] == [row[theirs] for row in requests], (run, mine)
    return len(got)


def assert_takes_every_step(run: Path) -> None:
    """The kernel, stopped after every pass, equals a recording in every column but the time of an update."""
    recording = read(run)
    outcome = serve(recording.requests, recording.settings, recording.release, recording.clock)
    for ours, theirs in zip(as_recorded(outcome), expected(run), strict=True):
        assert len(ours) == len(theirs), run
        for mine, row in zip(ours, theirs, strict=True):
            if "update_lag_us" in row:
                row["update_lag_us"] = mine["update_lag_us"]  # the kernel keeps no time of an update
            assert mine == row, run


def runs(folder: Path) -> list[Path]:
    return [run for case in sorted(folder.glob("*/requests.parquet")) for run in runs_of(case.parent)]


def test_results_equal_the_recordings_kept_here() -> None:
    for run in runs(OWN):
        assert_simulates(run)


def test_every_step_equals_the_recordings_kept_here() -> None:
    for run in runs(OWN):
        assert_takes_every_step(run)


@pytest.mark.skipif(not ALL.exists(), reason="needs shared/golden_sglang beside the checkout")
def test_results_equal_all_recordings(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[str] = Counter()
    for run in runs(ALL):
        recording = read(run)
        counted["batches"] += assert_simulates(run)
        counted.update([recording.release.name, *recording.features])
    with capsys.disabled():
        kinds = ", ".join(f"{number} {name}" for name, number in sorted(counted.items()))
        print(f"\nrecordings of SGLang that are equal: {kinds}")
    assert counted["0.5.10"] + counted["0.5.23"] == len(runs(ALL))
