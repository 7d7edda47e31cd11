"""Replicas of different kinds behind one router, against their twin in plain Python."""

import copy
import os
from collections import Counter
from typing import Literal

import numba
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from reference.pools import LeastOutstanding, LeastWaiting, OfPool, Pool
from reference.routers import RoundRobin, Router, least_kv
from reference.vllm_v1.cluster import Kind, simulate_kinds
from vllm_v1_kernel import finished, lay_out_pools
from vllm_v1_strategies import cases, kinds, limited

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.routers import NO_ROUTING, Share
from fastsim.kernels.schedulers import vllm_v1

# A kernel for each number of pools takes long to compile for this file alone.
pytestmark = pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="runs interpreted (.ci/run)")
EXAMPLES = int(os.environ.get("FASTSIM_TWIN_EXAMPLES", "12"))
RULES = {"load": routers.BY_LOAD, "prompt_length": routers.BY_PROMPT, "cost": routers.BY_COST}
FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_preemptions")
Rule = Literal["load", "prompt_length", "cost"]


def router_of(name: str, weights: list[float]) -> tuple[int, Router]:
    found: dict[str, tuple[int, Router]] = {
        "least_outstanding": (routers.LEAST_OUTSTANDING, LeastOutstanding(weights)),
        "least_waiting": (routers.LEAST_WAITING, LeastWaiting(weights)),
        "least_kv": (routers.LEAST_KV, least_kv),
        "round_robin": (routers.ROUND_ROBIN, RoundRobin()),
    }
    return found[name]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("least_outstanding", "load"),
        ("least_outstanding", "prompt_length"),
        ("least_outstanding", "cost"),
        ("least_waiting", "cost"),
        ("least_kv", "prompt_length"),
        ("round_robin", "load"),
    ],
)
def test_pools_equal_their_twin(name: str, rule: Rule) -> None:
    seen = Counter[str]()

    @settings(deadline=None, max_examples=EXAMPLES, derandomize=True)
    @given(st.booleans(), st.integers(2, 3), st.sampled_from([1, 7, 1 << 40]), st.data())
    def check(follow: bool, number: int, slice_length: int, data: st.DataObject) -> None:
        follow = follow or name == "round_robin"
        case = data.draw(cases(most=16, follow=follow, stages=(1,)))
        if name == "round_robin" and all(request.follows is None for request in case.requests):
            reject()
        of_pools = data.draw(kinds(case, number))
        shares, pools, weights, first, bound = [], [], list[float](), 0, 0
        prices = data.draw(st.permutations([1.0, 2.0, 3.0][:number]))
        for place in range(number):
            size, weight = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1.0, 0.5, 3.0]))
            bound, most = bound + data.draw(st.integers(1, 40)), data.draw(st.integers(1, 3))
            pools.append(Pool(first, first + size, weight, bound, most, prices[place]))
            first += size
            weights += [weight] * size
        asked = sorted(range(number), key=lambda place: prices[place])
        shares = [
            Share(pool.first, pool.last, pool.weight, pool.longest, pool.most, False, asked[place])
            for place, pool in enumerate(pools)
        ]
        router, twin_router = router_of(name, weights)
        twin_kinds = [
            Kind(of_pools[place].settings, of_pools[place].release, limited(of_pools[place]))
            for place, pool in enumerate(pools)
            for _ in range(pool.last - pool.first)
        ]
        twin = simulate_kinds(case.requests, twin_kinds, OfPool(pools, rule, twin_router))
        if any(request.finished_at is None for request in twin.requests):
            reject()
        given_pools = [(k.settings, k.release, k.clock, share) for k, share in zip(of_pools, shares, strict=True)]
        lane, costs, limits = lay_out_pools(case.requests, given_pools, router, NO_ROUTING._replace(pools=RULES[rule]))
        code = int(Exit.BUDGET)
        while code == Exit.BUDGET:
            lane.cursor[state.LEFT] = slice_length
            code = vllm_v1.run(lane, costs, limits)
        assert code == Exit.DONE
        assert lane.requests.replica.tolist() == [twin.replica_of[i] for i in range(len(case.requests))]
        served = finished(lane, copy.deepcopy(case.requests))
        for field in FIELDS:
            assert [getattr(r, field) for r in served] == [getattr(r, field) for r in twin.requests], field
        blocks = [limits[pool].num_blocks for pool in lane.replicas.pool]
        assert lane.replicas.counts[:, state.FREE].tolist() == blocks
        seen["cases"] += 1
        seen["pools"] += len({lane.replicas.pool[r] for r in lane.requests.replica}) > 1

    check()
    assert seen["cases"] > EXAMPLES // 3 and seen["pools"] > 0, dict(seen)
