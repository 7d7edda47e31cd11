"""Prefill and decode on different replicas, against their twin in plain Python, and the laws of both."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from reference.pools import LeastOutstanding, LeastWaiting
from reference.routers import Replica, RoundRobin, Router
from reference.vllm_v1.apart import Outcome, Transfers, simulate_apart
from reference.vllm_v1.cluster import Kind
from reference.vllm_v1.state import Request
from vllm_v1_kernel import TICK, lay_out_pools
from vllm_v1_strategies import Case, cases, kinds, limited

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import NO_ROUTING, Share
from fastsim.kernels.schedulers import apart
from fastsim.kernels.state import State
from fastsim.kernels.transfers.state import Link

# The kernel takes long to compile for this file alone.
pytestmark = pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="runs interpreted (.ci/run)")
EXAMPLES = int(os.environ.get("FASTSIM_TWIN_EXAMPLES", "20"))
TIMES = {"scheduled_at": "admitted_at", "first_token_at": "first_token_at", "finished_at": "finished_at"}


class InTurn(RoundRobin):
    """Replicas in turn, by their number."""

    def __call__(self, replicas: Sequence[Replica], num_prompt_tokens: int) -> int:
        return replicas[super().__call__(replicas, num_prompt_tokens)].id


def halves(requests: Sequence[Request], stays: int, block_size: int) -> tuple[list[Request], dict[int, int]]:
    """Each request as one that prefills and one that decodes; prompts shorter than ``stays`` as one that does both."""
    made, sources, last = list[Request](), dict[int, int](), list[int]()
    for request in requests:
        follows = None if request.follows is None else last[request.follows]
        if request.num_prompt_tokens < stays:
            made.append(replace(request, follows=follows))
        else:
            known = request.block_hashes[: (request.num_prompt_tokens + 1) // block_size]
            first = replace(request, num_output_tokens=1, max_tokens=1, ends_by_stop=False, block_hashes=known)
            made.append(replace(first, follows=follows))
            sources[len(made)] = len(made) - 1
            made.append(replace(request, arrived_at=0, follows=len(made) - 1, think_time=0))
        last.append(len(made) - 1)
    return made, sources


def router_of(name: str, number: int) -> tuple[int, tuple[Router, Router]]:
    weights = [1.0] * number
    found: dict[str, tuple[int, tuple[Router, Router]]] = {
        "round_robin": (routers.ROUND_ROBIN, (InTurn(), InTurn())),
        "least_outstanding": (routers.LEAST_OUTSTANDING, (LeastOutstanding(weights), LeastOutstanding(weights))),
        "least_waiting": (routers.LEAST_WAITING, (LeastWaiting(weights), LeastWaiting(weights))),
    }
    return found[name]


@st.composite
def served(draw: st.DrawFn) -> tuple[list[Case], list[Request], dict[int, int], tuple[int, int], Transfers]:
    case = draw(cases(most=14, follow=draw(st.booleans()), stages=(1,)))
    chunked = replace(case.settings, policy="fcfs", enable_chunked_prefill=True)
    case = case._replace(settings=chunked)
    both = draw(kinds(case, 2))
    both = [each._replace(settings=replace(each.settings, max_num_seqs=draw(st.integers(1, 6)))) for each in both]
    stays = draw(st.sampled_from([0, 0, 10, 30]))
    requests, sources = halves(case.requests, stays, case.settings.block_size)
    if not sources:
        reject()
    how = Transfers(
        bandwidth=draw(st.sampled_from([0.01, 1.0, 50.0])),
        latency=draw(st.sampled_from([1.0, 700.0])),
        block_bytes=float(draw(st.sampled_from([1, 64, 5000]))),
    )
    return both, requests, sources, (draw(st.integers(1, 3)), draw(st.integers(1, 3))), how


def run(
    both: list[Case],
    requests: list[Request],
    sources: dict[int, int],
    sizes: tuple[int, int],
    how: Transfers,
    router: int,
    slice_length: int,
) -> State:
    source = np.full(len(requests), state.NONE, np.int32)
    source[list(sources)] = list(sources.values())
    shares = [
        Share(0, sizes[0], 1.0, 0, 0, True, 0),
        Share(sizes[0], sum(sizes), 1.0, 0, 0, False, 0),
    ]
    link = Link(how.bandwidth / TICK, how.latency * TICK, how.block_bytes, 1)
    pools = [(each.settings, each.release, each.clock, share) for each, share in zip(both, shares, strict=True)]
    lane, costs, limits = lay_out_pools(requests, pools, router, NO_ROUTING, link, source)
    code = int(Exit.BUDGET)
    while code == Exit.BUDGET:
        lane.cursor[state.LEFT] = slice_length
        code = apart.run(lane, costs, limits)
    assert code == Exit.DONE
    return lane


def check_laws(twin: Outcome, sources: dict[int, int], block_size: int) -> None:
    """Tokens and blocks balance, each block is moved once, and nothing is decoded before its KV is there."""
    assert Counter(request for request, *_ in twin.transfers) == Counter(
        {request: 1 for request, source in sources.items() if source not in twin.engines[0].apart.lost}
    )
    for request, start, end, blocks in twin.transfers:
        one, source = twin.requests[request], twin.requests[sources[request]]
        assert source.finished_at is not None and one.first_token_at is not None and one.admitted_at is not None
        assert source.finished_at <= start < end <= one.admitted_at < one.first_token_at
        assert blocks == -(-one.num_prompt_tokens // block_size) - one.num_cached_tokens // block_size
    for engine in twin.engines:
        assert engine.scheduler.blocks.num_free == engine.settings.num_blocks
    assert [r.num_outputs for r in twin.requests] == [r.num_output_tokens for r in twin.requests]


@pytest.mark.parametrize("name", ["round_robin", "least_outstanding", "least_waiting"])
def test_prefill_and_decode_apart_equal_their_twin(name: str) -> None:
    seen = Counter[str]()

    @settings(deadline=None, max_examples=EXAMPLES, derandomize=True)
    @given(served(), st.sampled_from([1, 7, 1 << 40]))
    def check(case: Any, slice_length: int) -> None:
        both, requests, sources, sizes, how = case
        router, twin_routers = router_of(name, sum(sizes))
        of_each = [Kind(e.settings, e.release, limited(e)) for e, n in zip(both, sizes, strict=True) for _ in range(n)]
        twin = simulate_apart(requests, sources, of_each, sizes[0], twin_routers, how)
        if any(request.finished_at is None for request in twin.requests):
            reject()
        check_laws(twin, sources, both[0].settings.block_size)
        lane = run(both, requests, sources, sizes, how, router, slice_length)
        assert lane.requests.replica.tolist() == [twin.replica_of[i] for i in range(len(requests))]
        for column, field in TIMES.items():
            times = [getattr(request, field) for request in twin.requests]
            assert (getattr(lane.requests, column) / TICK).tolist() == times, field
        assert lane.requests.restarts.tolist() == [request.num_preemptions for request in twin.requests]
        free = [each.settings.num_blocks for each, number in zip(both, sizes, strict=True) for _ in range(number)]
        assert lane.replicas.counts[:, state.FREE].tolist() == free
        moved = {request: blocks for request, _, _, blocks in twin.transfers}
        assert lane.transfers.moved.tolist() == [moved.get(i, 0) for i in range(len(requests))]
        seen["cases"] += 1
        seen["transfers"] += len(twin.transfers)
        seen["preemptions"] += any(request.num_preemptions for request in twin.requests)

    check()
    assert seen["cases"] > EXAMPLES // 3 and seen["transfers"] > EXAMPLES, dict(seen)
