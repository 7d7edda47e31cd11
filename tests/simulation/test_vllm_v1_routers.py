"""Several replicas of policy vllm_v1 behind every router, against their twin in plain Python."""

import copy
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numba
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from reference import routers as twins
from reference.vllm_v1.cluster import Outcome, simulate
from reference.vllm_v1.state import Request
from router_strategies import ROUTERS, Chosen
from user_policies import longest_prefix
from vllm_v1_kernel import finished, lay_out
from vllm_v1_strategies import Case, cases

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import vllm_v1
from fastsim.kernels.state import State
from fastsim.simulation.custom.runner import Runner

# The kernels with all routers and pipelines take many minutes to compile for this file alone.
pytestmark = pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="runs interpreted (.ci/run)")
EXAMPLES = 80
QUIET = settings(deadline=None, max_examples=EXAMPLES, derandomize=True)
FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_preemptions", "num_cached_tokens")


@st.composite
def pressed(draw: st.DrawFn, follow: bool) -> Case:
    """A case whose replicas have hardly more memory than its longest request takes, and mostly a prefix cache."""
    case = draw(cases(most=16, follow=follow))
    longest = max(request.num_prompt_tokens + request.num_output_tokens for request in case.requests)
    whole = -(-longest // case.settings.block_size)
    num_blocks = whole + draw(st.sampled_from([0, 1, 3, whole, 9 * whole, 9 * whole]))
    caching = draw(st.sampled_from([True, True, True, False]))
    return case._replace(settings=replace(case.settings, num_blocks=num_blocks, enable_prefix_caching=caching))


@st.composite
def steady(draw: st.DrawFn) -> Case:
    """Long outputs, so that replicas run decodes alone for many iterations while others get requests."""
    case, now, stream = draw(cases(most=1)), 0, list[Request]()
    batch = case.clock.constant // 1000 + 50  # us, about
    for _ in range(draw(st.integers(8, 24))):
        now += draw(st.integers(0, 20)) * batch
        stream.append(Request(now, draw(st.integers(1, 30)), draw(st.integers(1, 60))))
    roomy = replace(
        case.settings,
        num_blocks=draw(st.sampled_from([2, 4, 20])) * -(-90 // case.settings.block_size),
        max_model_len=200,
        max_num_batched_tokens=100,
        max_num_seqs=draw(st.sampled_from([2, 24])),
        num_stages=1,
    )
    return case._replace(requests=stream, settings=roomy)


def twin_of(case: Case, num_replicas: int, router: twins.Router) -> Outcome:
    """The twin's answer; cases in which requests wait or preempt each other for ever are left out."""
    clock = case.clock

    def stage_time(stage: int, members: Any) -> int:
        calls[0] += 1
        if calls[0] > 800:
            reject()
        return clock(stage, members)

    calls = [0]
    twin = simulate(case.requests, case.settings, case.release, stage_time, num_replicas, router)
    if any(request.finished_at is None for request in twin.requests):
        reject()
    return twin


def run(case: Case, num_replicas: int, chosen: Chosen, slice_length: int) -> State:
    lane, limits, cost = lay_out(
        case.requests, case.settings, case.release, case.clock, 0, num_replicas, chosen.router, chosen.routing
    )
    kernel: Callable[..., int] = vllm_v1.run if case.settings.num_stages == 1 else vllm_v1.run_stages
    if chosen.router == routers.CUSTOM:
        kernel = Runner("vllm_v1", longest_prefix, case.settings.num_stages)
    code = int(Exit.BUDGET)
    while code == Exit.BUDGET:
        lane.cursor[state.LEFT] = slice_length
        code = kernel(lane, (cost,), (limits,))
    assert code == Exit.DONE
    return lane


def assert_equals_twin(case: Case, num_replicas: int, chosen: Chosen, slice_length: int) -> Outcome:
    twin = twin_of(case, num_replicas, chosen.twin)
    lane = run(case, num_replicas, chosen, slice_length)
    assert lane.requests.replica.tolist() == [twin.replica_of[i] for i in range(len(case.requests))]
    served = finished(lane, copy.deepcopy(case.requests))
    for name in FIELDS[: 4 + case.settings.enable_prefix_caching]:
        assert [getattr(r, name) for r in served] == [getattr(r, name) for r in twin.requests], name
    assert lane.replicas.counts[:, state.FREE].tolist() == [case.settings.num_blocks] * num_replicas
    return twin


@pytest.mark.parametrize("name", ROUTERS)
def test_replicas_equal_their_twin(name: str) -> None:
    seen = Counter[str]()

    @QUIET
    @given(st.booleans(), st.integers(2, 4), ROUTERS[name], st.sampled_from([1, 7, 1 << 40]), st.data())
    def check(follow: bool, num_replicas: int, chosen: Chosen, slice_length: int, data: st.DataObject) -> None:
        case = data.draw(pressed(follow))
        twin = assert_equals_twin(case, num_replicas, chosen, slice_length)
        seen["cases"] += 1
        seen["hits"] += any(request.num_cached_tokens for request in twin.requests)
        seen["preemptions"] += any(request.num_preemptions for request in twin.requests)

    check()
    print(name, dict(seen))
    assert seen["cases"] > EXAMPLES // 2 and seen["hits"] > EXAMPLES // 10


@pytest.mark.parametrize("name", ROUTERS)
def test_replicas_that_preempt_equal_their_twin(name: str) -> None:
    """Eight requests at once on two replicas, each with memory for little more than one of them."""

    @settings(QUIET, max_examples=10)
    @given(cases(most=1), ROUTERS[name], st.sampled_from([1, 7, 1 << 40]))
    def check(case: Case, chosen: Chosen, slice_length: int) -> None:
        crowded = replace(
            case.settings,
            num_stages=1,
            num_blocks=-(-90 // case.settings.block_size) + 1,
            max_model_len=200,
            max_num_seqs=8,
            max_num_batched_tokens=100,
            watermark=0.0,
        )
        requests = [Request(0, 20, 60) for _ in range(8)]
        twin = assert_equals_twin(case._replace(requests=requests, settings=crowded), 2, chosen, slice_length)
        assert any(request.num_preemptions for request in twin.requests)

    check()


@pytest.mark.parametrize("name", ["least_outstanding", "least_waiting"])
def test_leaps_end_before_the_load_changes(name: str) -> None:
    """A replica whose decodes run alone is not advanced until one may finish."""

    @QUIET
    @given(steady(), st.integers(2, 4), ROUTERS[name])
    def check(case: Case, num_replicas: int, chosen: Chosen) -> None:
        assert_equals_twin(case, num_replicas, chosen, 1 << 40)

    check()
