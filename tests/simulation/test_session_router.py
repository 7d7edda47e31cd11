"""Routers and sessions: a session stays on its replica, and its prefixes are found there."""

import numpy as np
import pytest

import fastsim
from fastsim.errors import WorkloadError
from fastsim.simulation.ring import owners
from fastsim.workload.blocks import BlockHashes

BLOCK = 16


def sessions(number: int, turns: int, think: float) -> fastsim.Workload:
    """Sessions of which every turn repeats all that was said before, block by block."""
    rng = np.random.default_rng(5)
    session, turn = np.repeat(np.arange(number), turns), np.tile(np.arange(turns), number)
    arrived_at = np.where(turn == 0, 0.0, np.nan)
    arrived_at[turn == 0] = np.sort(rng.uniform(0, 4, number))
    prompts, outputs = 40 * BLOCK * (turn + 1), rng.integers(1, 40, number * turns)
    blocks = (prompts // BLOCK).tolist()
    hashes = [[1000 * one + i for i in range(size)] for one, size in zip(session.tolist(), blocks, strict=True)]
    return fastsim.Workload(
        arrived_at,
        prompts,
        outputs,
        session_id=session,
        think_time=np.where(turn == 0, np.nan, think),
        block_hashes=BlockHashes.of(hashes, BLOCK),
    )


def cached(router: str, workload: fastsim.Workload, policy: str) -> tuple[float, np.ndarray]:
    """The share of prompt tokens that were cached, and the replica of each request."""
    settings = [f"scheduler.policy={policy}", "num_replicas=4", f"router.policy={router}"]
    settings += ["predictor.source=affine", "predictor.affine={constant_ns: 8000000, per_token_ns: 20000}"]
    result = fastsim.simulate(fastsim.Deployment.load(None, settings), workload)
    order = np.argsort(result.column("request_id"))
    found = result.column("num_cached_tokens").sum() / workload.num_prompt_tokens.sum()
    return float(found), result.column("replica_id")[order]


@pytest.mark.parametrize("policy", ["vllm_v1", "sglang"])
def test_routers_that_know_caches_or_sessions_find_more_cached(policy: str) -> None:
    workload = sessions(40, 5, 0.3)
    turns, replicas = cached("round_robin", workload, policy)
    assert workload.session_id is not None
    assert len({*zip(workload.session_id.tolist(), replicas.tolist(), strict=True)}) > 80
    by_prefix, _ = cached("prefix_aware", workload, policy)
    by_score, _ = cached("weighted", workload, policy)
    by_session, replicas = cached("session", workload, policy)
    assert len({*zip(workload.session_id.tolist(), replicas.tolist(), strict=True)}) == 40
    everything = 1 - (40 * BLOCK * 40 * 5) / workload.num_prompt_tokens.sum()  # all but what each turn adds
    print(turns, by_prefix, by_score, by_session, everything)
    assert turns < 0.5 * by_session
    assert by_prefix == pytest.approx(everything) and by_session == pytest.approx(everything)
    assert by_score > 0.9 * everything


def test_the_ring_is_that_of_the_public_router() -> None:
    """What uhashring 2.5 answers for nodes "0", "1", ... and keys "0" to "23"."""
    three = [1, 1, 1, 1, 0, 1, 0, 0, 0, 2, 2, 0, 1, 1, 1, 2, 0, 2, 2, 2, 0, 2, 2, 0]
    eight = [1, 3, 3, 7, 0, 1, 7, 0, 3, 2, 2, 5, 3, 6, 6, 6, 0, 3, 7, 6, 0, 5, 5, 3]
    assert owners(np.arange(24), 3).tolist() == three
    assert owners(np.arange(24), 8).tolist() == eight


def test_a_replica_more_takes_sessions_and_moves_no_others() -> None:
    keys = np.arange(20_000)
    before, after = owners(keys, 7), owners(keys, 8)
    moved = before != after
    assert (after[moved] == 7).all()
    assert 0.08 < moved.mean() < 0.18
    assert np.bincount(after).min() > 1500


def test_without_sessions_there_is_nothing_to_route_by() -> None:
    with pytest.raises(WorkloadError, match=r"column session_id is missing, but router.policy session reads it"):
        fastsim.simulate(fastsim.Deployment.load(None, ["router.policy=session"]), fastsim.load_workload("chat"))


def test_a_workload_without_hashes_is_said_to_have_nothing_cached() -> None:
    deployment = fastsim.Deployment.load(None, ["router.policy=prefix_aware", "scheduler.policy=vllm_v1"])
    result = fastsim.simulate(deployment, fastsim.load_workload("chat", num_requests=5))
    assert any(
        "prefix_aware finds nothing cached, as the requests have no hashes of blocks" in w
        for w in result.summary["warnings"]
    )
