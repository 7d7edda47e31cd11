"""The twin of vLLM V1 against recorded runs of four releases, step for step, and what it adds to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from reference.recorded import expected, runs_of
from reference.vllm_v1.engine import simulate
from reference.vllm_v1.recordings import as_recorded, read
from reference.vllm_v1.releases import RELEASES, V0_11, V0_33, Release
from reference.vllm_v1.state import Request, Settings
from vllm_v1_runs import TEN_MS, batches, starts

OWN = Path(__file__).resolve().parents[1] / "data" / "vllm_v1"
ALL = Path(__file__).resolve().parents[3] / "shared" / "golden_v1"
SETTINGS = Settings(num_blocks=64)


def cases(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/requests.parquet"))


def replay(run: Path) -> None:
    recording = read(run)
    outcome = simulate(recording.requests, recording.settings, recording.release, recording.clock)
    for ours, theirs in zip(as_recorded(outcome), expected(run), strict=True):
        for mine, row in zip(ours, theirs, strict=False):
            assert mine == row, f"{run.parent.name} {run.name}"
        assert len(ours) == len(theirs)


@pytest.mark.parametrize("case", cases(OWN), ids=lambda case: case.name)
def test_replays_every_step(case: Path) -> None:
    for run in runs_of(case):
        replay(run)


@pytest.mark.skipif(not ALL.exists(), reason="needs shared/golden_v1 beside the checkout")
@pytest.mark.parametrize("case", cases(ALL), ids=lambda case: case.name)
def test_replays_every_step_of_all_recordings(case: Path) -> None:
    for run in runs_of(case):
        replay(run)


def test_the_recordings_kept_here_cover_all_releases_and_kinds_of_engine() -> None:
    recordings = [read(run) for case in cases(OWN) for run in runs_of(case)]
    assert Counter(recording.release.name for recording in recordings).keys() == RELEASES.keys()
    engines = {(recording.settings.num_stages, recording.settings.async_scheduling) for recording in recordings}
    assert engines == {(1, False), (1, True), (2, False), (2, True), (4, False)}


def test_followers_arrive_after_the_end_of_their_predecessor_and_enter_by_id() -> None:
    requests = [
        Request(0, 20, 2),
        Request(0, 10, 1, follows=0, think_time=15_000),
        Request(0, 11, 1, follows=3, think_time=5_000),
        Request(10_000, 12, 1, follows=0),
        Request(90_000, 13, 1, follows=0),  # its client wants to send it later
    ]
    outcome = simulate(requests, SETTINGS, V0_33, TEN_MS)
    assert [request.arrived_at for request in outcome.requests] == [0, 35_000, 35_000, 20_000, 90_000]
    assert batches(outcome) == ["A20", "A1", "D12", "B10+C11", "E13"]
    assert starts(outcome) == [0, 10_000, 20_000, 35_000, 90_000]


def test_seconds_may_be_fractions() -> None:
    outcome = simulate([Request(0.25, 20, 3)], SETTINGS, V0_33, lambda stage, members: 0.125)
    (request,) = outcome.requests
    assert request.token_times == [0.375, 0.5, 0.625]


def test_requests_that_never_fit_are_stuck_and_those_that_overtake_them_are_served() -> None:
    requests = [Request(0, 60, 2, priority=1), Request(25_000, 16, 2, priority=0)]
    settings = replace(SETTINGS, num_blocks=3, policy="priority")
    outcome = simulate(requests, settings, V0_33, TEN_MS)
    assert outcome.outcome == "stuck"
    assert batches(outcome) == ["B16", "B1"]
    assert starts(outcome) == [25_000, 35_000]
    assert [request.finished_at for request in outcome.requests] == [None, 45_000]


def test_0_11_has_no_asynchronous_scheduling_with_a_pipeline() -> None:
    with pytest.raises(ValueError, match=r"0\.11"):
        simulate([], replace(SETTINGS, async_scheduling=True, num_stages=2), V0_11, TEN_MS)


@pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.name)
def test_all_blocks_are_free_and_all_tokens_out_at_the_end(release: Release) -> None:
    requests = [Request(3_000 * i, 10 + 7 * (i % 9), 5 + i % 11) for i in range(60)]
    for settings in (
        replace(SETTINGS, num_blocks=12, max_model_len=128),
        replace(SETTINGS, num_blocks=12, max_model_len=128, async_scheduling=True),
        replace(SETTINGS, num_blocks=12, max_model_len=128, num_stages=3, policy="priority"),
    ):
        outcome = simulate(requests, settings, release, TEN_MS)
        assert outcome.outcome == "done"
        assert outcome.decisions[-1].num_free_blocks == 12
        assert [r.num_outputs for r in outcome.requests] == [r.num_output_tokens for r in requests]
        assert sum(r.num_preemptions for r in outcome.requests) > 0
