"""The twin of SGLang against recorded runs of two releases, step for step, and what it adds to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from reference.recorded import expected, runs_of
from reference.sglang.loop import simulate
from reference.sglang.recordings import Recording, as_recorded, read
from reference.sglang.releases import RELEASES, V0_5_10, V0_5_23, Release
from reference.sglang.state import Request, Settings
from sglang_runs import TEN_MS, batches, starts

OWN = Path(__file__).resolve().parents[1] / "data" / "sglang"
ALL = Path(__file__).resolve().parents[3] / "shared" / "golden_sglang"
SETTINGS = Settings(max_total_num_tokens=1000)
SYNC = replace(SETTINGS, disable_overlap_schedule=True)
each_release = pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.name)


def runs(folder: Path) -> list[Path]:
    return [run for case in sorted(folder.glob("*/requests.parquet")) for run in runs_of(case.parent)]


def replay(run: Path) -> Recording:
    recording = read(run)
    outcome = simulate(recording.requests, recording.settings, recording.release, recording.clock)
    assert outcome.ending == "done"
    for ours, theirs in zip(as_recorded(outcome), expected(run), strict=True):
        for mine, row in zip(ours, theirs, strict=False):
            assert mine == row, f"{run.parent.name} {run.name}"
        assert len(ours) == len(theirs)
    return recording


@pytest.mark.parametrize("run", runs(OWN), ids=lambda run: f"{run.parent.name}-{run.name}")
def test_replays_every_step(run: Path) -> None:
    replay(run)


@pytest.mark.skipif(not ALL.exists(), reason="needs shared/golden_sglang beside the checkout")
def test_replays_every_step_of_all_recordings(capsys: pytest.CaptureFixture[str]) -> None:
    counted: Counter[tuple[str, str]] = Counter()
    for run in runs(ALL):
        recording = replay(run)
        counted.update((recording.release.name, feature) for feature in ["all", *recording.features])
    assert sum(number for (_, feature), number in counted.items() if feature == "all") == len(runs(ALL))
    with capsys.disabled():
        for name in RELEASES:
            kinds = ", ".join(f"{number} {kind}" for (of, kind), number in sorted(counted.items()) if of == name)
            print(f"\nrecordings of SGLang {name} that the twin replays: {kinds}")


def test_the_recordings_kept_here_cover_both_releases_and_all_settings() -> None:
    recordings = [read(run) for run in runs(OWN)]
    assert {recording.release.name for recording in recordings} == RELEASES.keys()
    settings = [recording.settings for recording in recordings]
    for name in ("enable_mixed_chunk", "disable_radix_cache", "disable_overlap_schedule", "ignore_eos"):
        assert {getattr(each, name) for each in settings} == {False, True}, name
    assert {each.schedule_policy for each in settings} == {"fcfs", "lpm"}
    assert {each.page_size for each in settings} == {1, 16}
    assert None in {each.chunked_prefill_size for each in settings}


# Rules that the recordings kept here do not show, or show together with others.


@each_release
def test_prefills_go_before_decodes_and_results_come_one_batch_late(release: Release) -> None:
    requests = [Request(0, 20, 2, tokens=[]), Request(5_000, 30, 2)]
    assert batches(simulate(requests, SYNC, release, TEN_MS)) == ["A20", "B30", "A1+B1"]
    # The decode of A is on its way before the engine knows that its second token is the last.
    stops = [Request(0, 20, 2, max_tokens=9, ends_by_stop=True)]
    assert batches(simulate(stops, SETTINGS, release, TEN_MS)) == ["A20", "A1", "A1"]
    assert batches(simulate(stops, SYNC, release, TEN_MS)) == ["A20", "A1"]


def test_only_0_5_10_decodes_once_more_after_max_tokens() -> None:
    requests = [Request(0, 20, 2)]
    assert batches(simulate(requests, SETTINGS, V0_5_10, TEN_MS)) == ["A20", "A1", "A1"]
    assert batches(simulate(requests, SETTINGS, V0_5_23, TEN_MS)) == ["A20", "A1"]


@each_release
def test_a_prompt_that_is_cut_is_completed_before_others_are_taken(release: Release) -> None:
    requests = [Request(0, 25, 2), Request(0, 8, 2)]
    settings = replace(SYNC, chunked_prefill_size=10)
    assert batches(simulate(requests, settings, release, TEN_MS)) == ["A10", "A10", "A5+B5", "B3", "A1+B1"]
    mixed = replace(settings, enable_mixed_chunk=True)
    assert batches(simulate(requests, mixed, release, TEN_MS)) == ["A10", "A10", "A5+B5", "B3+A1", "B1"]


@each_release
def test_a_finished_request_leaves_its_tokens_to_the_next(release: Release) -> None:
    tokens = list(range(100))
    requests = [Request(0, 20, 11, tokens=tokens), Request(900_000, 40, 2, tokens=tokens)]
    served = simulate(requests, SYNC, release, TEN_MS).requests
    assert [request.num_cached_tokens for request in served] == [0, 30]  # the last output was not computed
    # With overlap, the decode after the last token leaves that as well.
    served = simulate(requests, SETTINGS, release, TEN_MS).requests
    assert served[1].num_cached_tokens == (31 if release is V0_5_10 else 30)


def test_0_5_23_refreshes_the_prefixes_of_waiting_requests() -> None:
    old = Request(0, 100, 1, tokens=list(range(101)))
    fillers = [Request(100_000 * (i + 1), 5, 1) for i in range(31)]
    last = 100_000 * 33
    long, again = Request(last, 60, 1), Request(last, 110, 1, tokens=list(range(100)))
    settings = replace(SYNC, max_total_num_tokens=260, chunked_prefill_size=None, max_prefill_tokens=50)
    requests = [old, *fillers, long, again]
    for release, hit in ((V0_5_10, 0), (V0_5_23, 100)):
        assert simulate(requests, settings, release, TEN_MS).requests[-1].num_cached_tokens == hit


def test_mixed_chunks_may_crash_0_5_10_for_want_of_memory() -> None:
    requests = [*(Request(0, 1, 60) for _ in range(4)), Request(30_000, 120, 2)]
    settings = replace(
        SYNC,
        max_total_num_tokens=160,
        chunked_prefill_size=8,
        enable_mixed_chunk=True,
        schedule_conservativeness=0.01,
    )
    outcome = simulate(requests, settings, V0_5_10, TEN_MS)
    assert outcome.ending == "crashed"


@each_release
def test_what_the_engine_reserves_beyond_a_request_may_shut_it_out(release: Release) -> None:
    settings = replace(SYNC, max_total_num_tokens=64, page_size=16, disable_radix_cache=True, ignore_eos=True)
    outcome = simulate([Request(0, 50, 12), Request(5_000, 5, 2)], settings, release, TEN_MS)
    assert outcome.ending == "stuck"
    assert batches(outcome) == []


def test_requests_that_the_engine_would_cut_are_refused() -> None:
    with pytest.raises(ValueError, match=r"request 1: max_tokens is 99, and the engine allows 98"):
        simulate([Request(0, 1, 1), Request(0, 900, 99)], SETTINGS, V0_5_10, TEN_MS)


# What the twin adds.


@each_release
def test_followers_arrive_after_the_end_of_their_predecessor_and_enter_by_id(release: Release) -> None:
    requests = [
        Request(0, 20, 2),
        Request(0, 10, 1, follows=0, think_time=15_000),
        Request(0, 11, 1, follows=3, think_time=5_000),
        Request(10_000, 12, 1, follows=0),
        Request(90_000, 13, 1, follows=0),  # its client wants to send it later
    ]
    outcome = simulate(requests, SYNC, release, TEN_MS)
    assert [request.arrived_at for request in outcome.requests] == [0, 35_000, 35_000, 20_000, 90_000]
    assert batches(outcome) == ["A20", "A1", "D12", "B10+C11", "E13"]
    assert starts(outcome) == [0, 10_000, 20_000, 35_000, 90_000]


def test_seconds_may_be_fractions() -> None:
    outcome = simulate([Request(0.25, 20, 3)], SETTINGS, V0_5_23, lambda members: 0.125)
    (request,) = outcome.requests
    assert request.token_times == [0.375, 0.5, 0.625]
