"""Small runs of vLLM's V1 scheduler that can be followed by hand, one for each rule that is often got wrong.

Each batch takes 10 ms on every stage. ``A952+B500`` is a batch that gives 952 tokens to the first request and 500 to
the second. The numbers E1 to E14 are those of our notes on vLLM; E11 and E12 are about speculative decoding, which is
not simulated.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from reference.vllm_v1.engine import Outcome
from reference.vllm_v1.releases import RELEASES, V0_11, V0_15, V0_19, V0_33, Release
from reference.vllm_v1.state import Request, Settings
from vllm_v1_runs import IMPLEMENTATIONS, TEN_MS, Serve, batches, starts

EVERY_RELEASE = pytest.mark.parametrize("release", RELEASES.values(), ids=lambda release: release.name)


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=list(IMPLEMENTATIONS))
def serve(request: pytest.FixtureRequest) -> Serve:
    chosen: Serve = request.param
    return chosen


def run(serve: Serve, release: Release, requests: Sequence[Request], **settings: Any) -> Outcome:
    return serve(requests, Settings(**{"num_blocks": 4096, **settings}), release, TEN_MS)


def restarts(outcome: Outcome) -> list[int]:
    return [request.num_preemptions for request in outcome.requests]


@EVERY_RELEASE
def test_e1_the_last_prompt_takes_the_rest_of_the_budget(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 3000, 3), Request(0, 500, 3)])
    assert batches(outcome) == ["A2048", "A952+B500", "A1+B1", "A1+B1"]
    assert [request.first_token_at for request in outcome.requests] == [20_000, 20_000]
    assert [4096 - decision.num_free_blocks for decision in outcome.decisions[:2]] == [128, 128 + 60 + 32]


@EVERY_RELEASE
def test_e2_asynchronous_an_arrival_waits_for_one_more_step(serve: Serve, release: Release) -> None:
    requests = [Request(0, 3000, 4), Request(0, 500, 3), Request(15_000, 100, 3)]
    outcome = run(serve, release, requests, async_scheduling=True)
    first = ["A2048", "A952+B500", "A1+B1", "A1+B1+C100"]
    if release is V0_11:  # the output that reaches max_tokens wastes a token in the next batch
        assert batches(outcome) == [*first, "A1+B1+C1", "A1+C1", "C1"]
    else:
        assert batches(outcome) == [*first, "A1+C1", "C1"]
    assert outcome.requests[2].first_token_at == 40_000


@EVERY_RELEASE
def test_e3_the_threshold_cuts_every_long_prompt(serve: Serve, release: Release) -> None:
    requests = [Request(0, 3000, 2), Request(0, 500, 2), Request(0, 600, 2)]
    outcome = run(serve, release, requests, long_prefill_token_threshold=512)
    together = ["A512+B500+C512", "A512+B1+C88", "A512+C1"]
    alone = ["A1464"] if release is V0_33 else ["A512", "A512", "A440"]  # 0.33 does not cut it
    assert batches(outcome) == [*together, *alone, "A1"]


@EVERY_RELEASE
def test_e4_without_chunked_prefill_a_prompt_waits_until_it_fits(serve: Serve, release: Release) -> None:
    requests = [Request(0, 1500, 2), Request(0, 1000, 2), Request(0, 100, 2)]
    outcome = run(serve, release, requests, enable_chunked_prefill=False)
    if release is V0_11:  # those behind it are tried
        assert batches(outcome) == ["A1500+C100", "A1+C1+B1000", "B1"]
    else:
        assert batches(outcome) == ["A1500", "A1+B1000+C100", "B1+C1"]


@EVERY_RELEASE
def test_e5_decodes_leave_the_rest_of_the_budget_to_a_prompt(serve: Serve, release: Release) -> None:
    requests = [Request(0, 2, 6), Request(0, 2, 6), Request(0, 2, 6), Request(15_000, 20, 1)]
    outcome = run(serve, release, requests, max_num_batched_tokens=8)
    assert batches(outcome) == ["A2+B2+C2", "A1+B1+C1"] + ["A1+B1+C1+D5"] * 4
    assert outcome.requests[3].first_token_at == 60_000


@EVERY_RELEASE
def test_e6_the_last_request_makes_room_and_resumes_from_its_own_blocks(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 48, 40)] * 3, num_blocks=11)
    steps = batches(outcome)
    assert steps[:33] == ["A48+B48+C48"] + ["A1+B1"] * 32  # C preempts itself in step 1, and is not admitted again
    assert steps[33:40] == ["A1"] * 7  # B needs a block in step 33, and preempts itself
    assert steps[40:42] == ["B1+C49", "B1+C1"]  # 80 of the 81 tokens of B were still cached, none of C
    assert restarts(outcome) == [0, 1, 1]
    assert [decision.num_free_blocks for decision in outcome.decisions[:3]] == [2, 3, 3]


@EVERY_RELEASE
def test_e7_a_request_is_admitted_only_if_its_whole_prompt_fits(serve: Serve, release: Release) -> None:
    requests = [Request(0, 96, 4), Request(0, 160, 1)]
    settings = {"num_blocks": 11, "max_num_batched_tokens": 64}
    unchecked = ["A64", "A32+B32", "A1", "A1", "A1", "B64", "B64"]
    checked = ["A64", "A32", "A1", "A1", "A1", "B64", "B64", "B32"]
    outcome = run(serve, release, requests, **settings)
    assert batches(outcome) == (checked if release in (V0_19, V0_33) else unchecked)
    assert restarts(outcome) == ([0, 0] if release in (V0_19, V0_33) else [0, 1])
    assert batches(run(serve, release, requests, scheduler_reserve_full_isl=False, **settings)) == unchecked


@EVERY_RELEASE
def test_e8_a_victim_gives_back_the_tokens_of_this_step(serve: Serve, release: Release) -> None:
    requests = [Request(0, 48, 40, priority=9), Request(1, 61, 40, priority=0)]
    outcome = run(serve, release, requests, policy="priority", num_blocks=8)
    steps = batches(outcome)
    assert steps[:5] == ["A48", "A1+B61", "A1+B1", "A1+B1", "A1+B1"]
    assert restarts(outcome) == [1, 0]
    if release is V0_11:  # A stays in the batch, without blocks, and that token counts as computed
        assert steps[5:42] == ["A1+B1"] + ["B1"] * 35 + ["A52"]
    else:
        assert steps[5:42] == ["B1"] * 36 + ["A37"]


@EVERY_RELEASE
def test_e8_a_request_that_is_its_own_victim_lets_others_pass_in_0_33(serve: Serve, release: Release) -> None:
    requests = [Request(0, 48, 40, priority=9), Request(1, 48, 40, priority=0)]
    outcome = run(serve, release, requests, policy="priority", num_blocks=8)
    assert batches(outcome)[16:19] == ["A1+B1", "B1", "B1"]
    calls = [len(decision.members) for decision in outcome.decisions]
    assert calls[16:19] == ([2, 1, 1] if release is V0_33 else [2, 0, 1])
    resumed = [member for decision in outcome.decisions for member in decision.members if member.num_tokens == 33]
    assert [(member.request.id, member.num_computed_before) for member in resumed] == [(0, 32)]


@EVERY_RELEASE
def test_e9_pipeline_an_arrival_joins_the_batch_that_it_waits_for(serve: Serve, release: Release) -> None:
    requests = [Request(0, 20, 4), Request(0, 20, 4), Request(5_000, 20, 3)]
    outcome = run(serve, release, requests, num_stages=2)
    assert batches(outcome) == ["A20+B20", "A1+B1+C20", "A1+B1+C1", "A1+B1+C1"]
    assert starts(outcome) == [0, 20_000, 40_000, 60_000]


@EVERY_RELEASE
def test_e9_pipeline_chunks_of_a_prompt_follow_each_other(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 5000, 3)], num_stages=2, max_model_len=8192)
    assert batches(outcome) == ["A2048", "A2048", "A904", "A1", "A1"]
    assert starts(outcome) == [0, 10_000, 20_000, 40_000, 60_000]


@EVERY_RELEASE
def test_e10_asynchronous_a_stop_token_wastes_a_token(serve: Serve, release: Release) -> None:
    requests = [Request(0, 20, 2, max_tokens=10, ends_by_stop=True)]
    outcome = run(serve, release, requests, async_scheduling=True)
    assert batches(outcome) == ["A20", "A1", "A1"]
    assert outcome.requests[0].finished_at == 20_000


@EVERY_RELEASE
def test_e13_two_cut_prompts_keep_a_short_one_waiting(serve: Serve, release: Release) -> None:
    requests = [Request(0, 40, 2), Request(0, 40, 2), Request(0, 4, 2)]
    outcome = run(serve, release, requests, max_num_batched_tokens=16, long_prefill_token_threshold=8)
    assert batches(outcome) == ["A8+B8"] * 5 + ["A1+B1+C4", "C1"]


@EVERY_RELEASE
def test_e14_without_a_cache_everything_is_computed_anew(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 48, 20)] * 3, num_blocks=11, enable_prefix_caching=False)
    assert batches(outcome)[:21] == ["A48+B48+C48"] + ["A1+B1"] * 19 + ["C49"]


# Further rules of the cache and of limits.


@EVERY_RELEASE
@pytest.mark.parametrize(
    ("num_tokens", "num_shared", "num_computed"), [(64, 64, 16), (65, 64, 1), (100, 64, 36), (100, 96, 4)]
)
def test_the_last_token_of_a_cached_prompt_is_computed(
    serve: Serve, release: Release, num_tokens: int, num_shared: int, num_computed: int
) -> None:
    shared = range(num_shared // 16)
    requests = [Request(0, num_shared, 1, block_hashes=shared), Request(20_000, num_tokens, 1, block_hashes=shared)]
    outcome = run(serve, release, requests)
    assert batches(outcome) == [f"A{num_shared}", f"B{num_computed}"]
    assert outcome.requests[1].num_cached_tokens == num_tokens - num_computed


@EVERY_RELEASE
def test_requests_admitted_in_one_step_share_a_prefix(serve: Serve, release: Release) -> None:
    requests = [Request(0, 64, 1, block_hashes=range(4)), Request(0, 80, 1, block_hashes=range(4))]
    outcome = run(serve, release, requests)
    assert batches(outcome) == ["A64+B16"]
    assert 4096 - outcome.decisions[0].num_free_blocks == 5


@EVERY_RELEASE
def test_0_33_reuses_blocks_without_a_hash_first(serve: Serve, release: Release) -> None:
    prompt = range(2)
    requests = [
        Request(0, 40, 1, block_hashes=prompt),
        Request(20_000, 30, 1),
        Request(40_000, 64, 2),
        Request(80_000, 41, 1, block_hashes=prompt),
    ]
    outcome = run(serve, release, requests, num_blocks=8)
    assert outcome.requests[3].num_cached_tokens == (32 if release is V0_33 else 16)


@EVERY_RELEASE
def test_a_request_ends_when_it_is_as_long_as_the_model_allows(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 90, 10, max_tokens=50)], max_model_len=100)
    assert batches(outcome) == ["A90"] + ["A1"] * 9
    assert outcome.requests[0].finish_reason == "length"


@EVERY_RELEASE
def test_at_most_max_num_seqs_requests_run(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 10, 2)] * 3, max_num_seqs=2)
    assert batches(outcome) == ["A10+B10", "A1+B1", "C10", "C1"]


@EVERY_RELEASE
def test_a_request_preempted_in_flight_still_gets_its_token(serve: Serve, release: Release) -> None:
    requests = [Request(0, 48, 6)] * 3
    outcome = run(serve, release, requests, num_blocks=11, max_model_len=128, async_scheduling=True)
    assert outcome.requests[2].first_token_at == 10_000
    wasted = release is V0_11
    assert batches(outcome) == ["A48+B48+C48"] + ["A1+B1"] * (5 + wasted) + ["C1"] * (5 + wasted)


@pytest.mark.parametrize("release", (V0_15, V0_19, V0_33), ids=lambda release: release.name)
def test_a_pipeline_and_asynchronous_scheduling(serve: Serve, release: Release) -> None:
    outcome = run(serve, release, [Request(0, 20, 4)], num_stages=2, async_scheduling=True)
    assert batches(outcome) == ["A20", "A1", "A1", "A1"]
    # 0.15 waits for each token. 0.19 schedules the request in every call, and 0.33 in every other one.
    period = 20_000 if release is V0_15 else 10_000
    assert starts(outcome) == [0, period, 2 * period, 3 * period]
    calls = [len(decision.members) for decision in outcome.decisions]
    assert calls[:4] == ([1, 1, 1, 1] if release is V0_19 else [1, 0, 1, 0])
    longer = run(serve, release, [Request(0, 20, 4)], num_stages=4, async_scheduling=True)
    assert len(batches(longer)) == (6 if release is V0_19 else 4)  # 0.19 sees the end two batches late
    for stages in (2, 4):
        awaited = run(serve, release, [Request(0, 20, 4)], num_stages=stages, async_scheduling=True, awaits_tokens=True)
        assert starts(awaited)[:4] == [0, 10_000 * stages, 20_000 * stages, 30_000 * stages]
