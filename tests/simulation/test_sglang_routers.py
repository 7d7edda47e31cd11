"""Several replicas of policy sglang behind every router, against their twin in plain Python."""

import copy
from collections import Counter
from collections.abc import Callable

import numba
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from reference.sglang.cluster import Outcome, simulate
from router_strategies import ROUTERS, Chosen
from sglang_kernel import cost_of, finished, lay_out
from sglang_strategies import Case, cases
from user_policies import longest_prefix

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.memory.radix_tree import EVICTABLE
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import sglang
from fastsim.kernels.sglang.state import FREE_PAGES
from fastsim.simulation.custom.runner import Runner

# The kernel with a user's router takes long to compile for this file alone.
pytestmark = pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="runs interpreted (.ci/run)")
EXAMPLES = 60
FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_retractions", "num_cached_tokens")


def twin_of(case: Case, num_replicas: int, chosen: Chosen) -> Outcome:
    """The twin's answer; cases that end in a crash, or in which requests are never admitted, are left out."""
    calls = Counter[str]()

    def batch_time(members: object) -> float:
        calls["all"] += 1
        if calls["all"] > 800:
            reject()
        return case.clock(members)  # type: ignore[arg-type]

    twin = simulate(case.requests, case.settings, case.release, batch_time, num_replicas, chosen.twin)
    if not all(request.is_finished for request in twin.requests):
        reject()
    return twin


def assert_equals_twin(case: Case, num_replicas: int, chosen: Chosen, slice_length: int) -> Outcome:
    twin = twin_of(case, num_replicas, chosen)
    lane, limits = lay_out(case.requests, case.settings, case.release, 0, num_replicas, chosen.router, chosen.routing)
    kernel: Callable[..., int] = sglang.run
    if chosen.router == routers.CUSTOM:
        kernel = Runner("sglang", longest_prefix, 1)
    code = int(Exit.BUDGET)
    while code == Exit.BUDGET:
        lane.cursor[state.LEFT] = slice_length
        code = kernel(lane, (cost_of(case.clock),), (limits,))
    assert code == Exit.DONE
    assert lane.requests.replica.tolist() == [twin.replica_of[i] for i in range(len(case.requests))]
    served = finished(lane, copy.deepcopy(case.requests))
    for name in FIELDS:
        assert [getattr(r, name) for r in served] == [getattr(r, name) for r in twin.requests], name
    memories = [engine.scheduler.memory for engine in twin.engines]
    page = case.settings.page_size
    assert (lane.sglang.counts[:, FREE_PAGES] * page).tolist() == [memory.num_free for memory in memories]
    if not case.settings.disable_radix_cache:
        evictable = lane.sglang.tree_counts[:, EVICTABLE] * page
        assert evictable.tolist() == [memory.num_evictable for memory in memories]
    return twin


@pytest.mark.parametrize("name", ROUTERS)
def test_replicas_equal_their_twin(name: str) -> None:
    """That the looks of a router leave no trace in a tree shows in what is evicted, and in which requests hit."""
    seen = Counter[str]()

    @settings(deadline=None, max_examples=EXAMPLES, derandomize=True)
    @given(cases(most=16), st.integers(2, 3), ROUTERS[name], st.sampled_from([1, 7, 1 << 40]))
    def check(case: Case, num_replicas: int, chosen: Chosen, slice_length: int) -> None:
        twin = assert_equals_twin(case, num_replicas, chosen, slice_length)
        seen["cases"] += 1
        seen["hits"] += any(request.num_cached_tokens for request in twin.requests)
        seen["retractions"] += any(request.num_retractions for request in twin.requests)

    check()
    print(name, dict(seen))
    assert seen["cases"] > EXAMPLES // 2 and seen["hits"] > EXAMPLES // 10
