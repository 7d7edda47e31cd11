"""The kernel of policy sglang against its twin, on generated requests and settings of both releases."""

from __future__ import annotations

import copy
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given, reject, settings
from reference.recorded import Rows
from reference.sglang.loop import Loop, Outcome
from reference.sglang.recordings import as_recorded
from reference.sglang.state import Batch, Request
from sglang_kernel import ENDINGS, cost_of, finished, lay_out, serve
from sglang_strategies import Case, cases
from vllm_v1_kernel import TICK

from fastsim.kernels import state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import sglang
from fastsim.kernels.state import State

FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_retractions", "num_cached_tokens")


def twin_of(case: Case) -> Outcome:
    """The twin's answer; cases that take long, as requests are retracted again and again, are left out."""
    loop = Loop(case.requests, case.settings, case.release, case.clock)
    launch = loop.launch

    def counted(batch: Batch) -> None:
        if len(loop.batches) > 3000:
            reject()
        launch(batch)

    loop.launch = counted  # type: ignore[method-assign]
    ending = loop.run()
    return Outcome(loop.requests, loop.batches, ending)


def recorded(outcome: Outcome) -> tuple[Rows, Rows, Rows]:
    """An outcome in the columns of a recording, without the time of an update, which the kernel does not keep."""
    steps, scheduled, requests = as_recorded(outcome)
    for row in steps:
        del row["update_lag_us"]
    return steps, scheduled, requests


def assert_takes_every_step(case: Case) -> None:
    twin, kernel = twin_of(case), serve(case.requests, case.settings, case.release, case.clock)
    assert kernel.ending == twin.ending
    ours, theirs = recorded(kernel), recorded(twin)
    assert ours[:2] == theirs[:2]
    if twin.ending != "crashed":  # a crash leaves the twin in the midst of a batch
        assert ours[2] == theirs[2]


def facts(requests: list[Request]) -> list[tuple[object, ...]]:
    return [tuple(getattr(request, name) for name in FIELDS) for request in requests]


def assert_equals_twin(case: Case, log_rows: int, slice_length: int, router: int = routers.ROUTED) -> None:
    twin = twin_of(case)
    lane, limits = lay_out(case.requests, case.settings, case.release, log_rows, router=router)
    rows: list[tuple[float, ...]] = []
    while True:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = slice_length, 0
        code = sglang.run(lane, (cost_of(case.clock),), (limits,))
        log, number = lane.log, lane.cursor[state.LOGGED]
        columns = (log.start / TICK, log.end / TICK, log.num_seqs, log.num_tokens, log.num_preempted)
        rows += zip(*(column[:number].tolist() for column in columns), strict=True)
        if code != Exit.BUDGET:
            break
    assert rows == [(b.started_at, b.ended_at, len(b.members), b.num_tokens, len(b.retracted)) for b in twin.batches]
    assert ENDINGS[int(lane.replicas.counts[0, state.OUTCOME])] == twin.ending
    if twin.ending != "crashed":
        assert facts(finished(lane, copy.deepcopy(case.requests))) == facts(twin.requests)
        for i, request in enumerate(twin.requests):
            if request.finished_at is not None:
                batches = [b for b in twin.batches if i in {m.request.id for m in b.members}]
                work = sum(b.ended_at - b.started_at for b in batches if b.ended_at <= request.finished_at)
                assert abs(lane.requests.execution_time[i] / TICK - work) < 1e-3


def as_bytes(part: Any) -> list[bytes]:
    return [array.tobytes() for array in (part if isinstance(part, tuple) else [part])]


def run_in_slices(case: Case, length: int) -> State:
    """The state after a run whose log has room for 64 batches at a time."""
    lane, limits = lay_out(case.requests, case.settings, case.release, 64)
    code: int = Exit.BUDGET
    while code == Exit.BUDGET:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = length, 0
        code = sglang.run(lane, (cost_of(case.clock),), (limits,))
    return lane


@settings(deadline=None, max_examples=60)
@given(cases())
def test_takes_every_step_of_the_twin(case: Case) -> None:
    assert_takes_every_step(case)


@settings(deadline=None, max_examples=40)
@given(cases(follow=True))
def test_takes_every_step_of_the_twin_where_requests_follow_others(case: Case) -> None:
    assert_takes_every_step(case)


@pytest.mark.parametrize("router", [routers.ROUTED, routers.LEAST_OUTSTANDING])
@settings(deadline=None, max_examples=40)
@given(cases())
def test_whole_runs_equal_the_twin(router: int, case: Case) -> None:
    assert_equals_twin(case, log_rows=7, slice_length=5, router=router)
    assert_equals_twin(case, log_rows=4096, slice_length=1 << 40, router=router)


@settings(deadline=None, max_examples=40)
@given(cases())
def test_slices_change_no_bit(case: Case) -> None:
    """Kernels come back in slices, which differ with the number of threads."""
    twin_of(case)
    whole, cut = (run_in_slices(case, length) for length in (1 << 40, 3))
    kept = ("requests", "tally", "replicas.busy", "replicas.sums", "replicas.series", "sglang.tree_counts", "tbt")
    for name in kept:
        assert as_bytes(attrgetter(name)(whole)) == as_bytes(attrgetter(name)(cut)), name
    for column in (state.TOKENS, state.ITERATIONS, state.PEAK, state.RESTARTS, state.TBT_COUNT):
        assert whole.replicas.counts[0, column] == cut.replicas.counts[0, column]
    for column in (state.TBT_SUM, state.TBT_MAX, state.CLOCK):
        assert whole.replicas.times[0, column] == cut.replicas.times[0, column]


@settings(deadline=None, max_examples=25)
@given(cases(follow=True))
def test_whole_runs_equal_the_twin_where_requests_follow_others(case: Case) -> None:
    for router in (routers.ROUTED, routers.ROUND_ROBIN):
        assert_equals_twin(case, log_rows=4096, slice_length=1 << 40, router=router)
