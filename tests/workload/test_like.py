"""Workloads that are drawn like a trace have its statistics, and none of its requests."""

from pathlib import Path

import numpy as np
import pytest

from fastsim.errors import ConfigError
from fastsim.workload import BlockHashes, Workload
from fastsim.workload.closeness import closeness
from fastsim.workload.following import NONE, previous_turns
from fastsim.workload.like import synthesise_like
from fastsim.workload.loading import load
from fastsim.workload.ranks import distance

TRACES = Path(__file__).parents[3] / "shared/traces"


def bursty(number: int = 4000) -> Workload:
    """Half of the requests in a quarter of the time; gaps vary twice as much as Poisson's; 1 in 5 prompts is 777."""
    rng = np.random.default_rng(1)
    gaps = rng.gamma(0.25, 4, number) * np.where(np.arange(number) < number // 2, 1, 3)
    score, other = rng.standard_normal((2, number))
    prompts = np.exp(8 + score).astype(np.int64) + 1
    outputs = np.exp(6 + 0.6 * score + 0.8 * other).astype(np.int64) + 1
    prompts[rng.random(number) < 0.2] = 777
    return Workload(np.cumsum(gaps), prompts, outputs, name="bursty")


def sessions(number: int = 400, block_size: int = 16) -> Workload:
    """Sessions of 1 to 6 turns that repeat all before, with one of two system prompts; turns of sessions are mixed."""
    rng = np.random.default_rng(2)
    fresh = iter(range(10**6, 10**9))
    rows = []
    for session in range(number):
        arrived, total = float(session), 320
        hashes = [*range(20)] if session % 2 else [*range(100, 120)]
        for turn in range(int(rng.integers(1, 7))):
            think = float(rng.exponential(20)) if turn else np.nan
            arrived += think if turn else 0
            prompt, output = total + int(rng.integers(20, 200)), int(rng.integers(10, 400))
            total = prompt + output
            hashes = [*hashes, *(next(fresh) for _ in range(total // block_size - len(hashes)))]
            rows.append((arrived, np.nan if turn else arrived, prompt, output, session, think, hashes))
    rows.sort(key=lambda row: row[0])
    _, times, prompts, outputs, ids, think_times, lists = zip(*rows, strict=True)
    columns = np.array(times), np.array(prompts), np.array(outputs)
    of = np.array(ids), np.array(think_times)
    return Workload(*columns, block_hashes=BlockHashes.of(lists, block_size), session_id=of[0], think_time=of[1])


def test_rate_bursts_and_joint_lengths() -> None:
    trace = bursty()
    drawn = synthesise_like(trace, seed=5)
    close = closeness(trace, drawn)
    assert drawn.num_requests == trace.num_requests
    assert all(of < 0.03 for of in close.kolmogorov_smirnov.values()), close
    assert close.rate < 0.03
    assert close.rank_correlation[1] == pytest.approx(close.rank_correlation[0], abs=0.05)
    assert close.gap_cv[1] == pytest.approx(close.gap_cv[0], rel=0.1)
    assert close.dispersion[10][1] == pytest.approx(close.dispersion[10][0], rel=0.3)
    assert np.mean(drawn.num_prompt_tokens == 777) == pytest.approx(np.mean(trace.num_prompt_tokens == 777), abs=0.02)
    same, other = (synthesise_like(trace, seed=seed) for seed in (5, 6))
    assert same.digest == drawn.digest != other.digest


def test_no_request_of_the_trace_is_drawn_more_often_than_chance_has_it() -> None:
    trace = bursty()
    drawn = synthesise_like(trace, seed=5)

    def requests(workload: Workload) -> list[tuple[int, int, float]]:
        gaps = np.round(np.diff(workload.arrived_at), 5).tolist()
        columns = workload.num_prompt_tokens[1:].tolist(), workload.num_output_tokens[1:].tolist()
        return [*zip(*columns, gaps, strict=True)]

    known = set(requests(trace))
    rng = np.random.default_rng(0)
    columns = [rng.permutation(column) for column in zip(*requests(trace), strict=True)]
    by_chance = sum(request in known for request in zip(*(column.tolist() for column in columns), strict=True))
    assert sum(request in known for request in requests(drawn)) <= by_chance + 3


def test_more_requests_repeat_the_rate_and_fewer_are_its_beginning() -> None:
    trace = bursty()
    longer, shorter = (synthesise_like(trace, num_requests=number, seed=1) for number in (8000, 1000))
    assert longer.span == pytest.approx(2 * trace.span, rel=0.05)
    shares = [np.searchsorted(longer.arrived_at, part * trace.span) / 8000 for part in (0.25, 0.5, 1.25)]
    assert shares == pytest.approx([0.25, 0.25 + 1 / 12, 0.75], abs=0.04)
    assert shorter.span == pytest.approx(trace.span / 8, rel=0.2)
    assert synthesise_like(trace, num_requests=1).num_requests == 1


def test_sessions_and_their_prefixes() -> None:
    trace = sessions()
    drawn = synthesise_like(trace, seed=1)
    assert drawn.session_id is not None and trace.session_id is not None
    turns = [np.unique(of, return_counts=True)[1] for of in (trace.session_id, drawn.session_id)]
    assert distance(*turns) < 0.1
    before = previous_turns(drawn.num_requests, drawn.session_id, drawn.think_time)
    later = np.flatnonzero(before != NONE)
    total = drawn.num_prompt_tokens + drawn.num_output_tokens
    assert (drawn.num_prompt_tokens[later] >= total[before[later]]).all()  # as in the trace
    thinks = [each.think_time[~np.isnan(each.think_time)] for each in (trace, drawn) if each.think_time is not None]
    assert distance(*thinks) < 0.05
    close = closeness(trace, drawn)
    assert close.kolmogorov_smirnov["num_prompt_tokens"] < 0.06
    assert close.hit_share["unbounded"][0] > 0.5
    for shares in close.hit_share.values():
        assert shares[1] == pytest.approx(shares[0], abs=0.05)


def test_prefixes_where_only_shared_blocks_have_hashes() -> None:
    trace = load("agent", num_requests=1000)
    for shares in closeness(trace, synthesise_like(trace, seed=1)).hit_share.values():
        assert shares[1] == pytest.approx(shares[0], abs=0.05)


def test_turns_that_arrive_at_times_of_their_own() -> None:
    times, session = np.arange(90) / 7, np.arange(90) // 3
    trace = Workload(times, np.tile([10, 30, 60], 30), np.full(90, 10), session_id=session)
    drawn = synthesise_like(trace)
    assert drawn.think_time is None and drawn.session_id is not None
    assert set(np.unique(drawn.session_id, return_counts=True)[1].tolist()) <= {1, 2, 3}
    assert not np.isnan(drawn.arrived_at).any()


def test_tenants_and_priorities_are_as_frequent() -> None:
    ones = np.full(1000, 10)
    tenant = np.array(["a", "b", "b", "b"])[np.arange(1000) % 4]
    trace = Workload(np.arange(1000) / 4, ones, ones, tenant=tenant, priority=(tenant == "a").astype(np.int32))
    drawn = synthesise_like(trace)
    assert drawn.tenant is not None and drawn.priority is not None
    assert np.mean(drawn.tenant == "a") == pytest.approx(0.25, abs=0.05)
    assert ((drawn.tenant == "a") == (drawn.priority == 1)).all()


def test_a_closed_loop_stays_one() -> None:
    trace = load("chat", num_requests=200).with_users(8)
    drawn = synthesise_like(trace, num_requests=50)
    assert (drawn.is_loop, drawn.max_concurrency) == (True, 8)
    assert np.isnan(drawn.arrived_at[8:]).all()


def test_even_gaps_and_ticks_of_a_clock_stay() -> None:
    ones = np.full(1000, 10)
    even = synthesise_like(Workload(np.arange(1000) / 4, ones, ones))
    assert np.diff(even.arrived_at) == pytest.approx(0.25)
    ticks = 3 * np.sort(np.random.default_rng(0).integers(0, 100, 1000)).astype(np.float64)
    drawn = synthesise_like(Workload(ticks, ones, ones))
    assert (drawn.arrived_at % 3 == 0).all()
    assert 60 < len(np.unique(drawn.arrived_at)) <= 101
    at_once = synthesise_like(Workload(np.zeros(50), ones[:50], ones[:50]))
    assert not at_once.arrived_at.any()


@pytest.mark.skipif(not TRACES.exists(), reason="needs the traces beside the project")
def test_like_the_conversations_of_mooncake() -> None:
    trace = load(TRACES / "mooncake_conversation_trace.parquet")
    close = closeness(trace, synthesise_like(trace, seed=1))
    assert all(of < 0.02 for of in close.kolmogorov_smirnov.values()), close
    for shares in close.hit_share.values():
        assert shares[1] == pytest.approx(shares[0], abs=0.02)


def test_refused() -> None:
    with pytest.raises(ConfigError, match="5 requests are too few to take statistics of"):
        synthesise_like(bursty().head(5))
    with pytest.raises(ConfigError, match="num_requests: 0 is not a whole number"):
        synthesise_like(bursty(), num_requests=0)
    with pytest.raises(ConfigError, match="seed: -1 is not an integer"):
        synthesise_like(bursty(), seed=-1)
