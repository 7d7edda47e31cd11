"""The kernel of policy vllm_v1 against its twin, on generated requests and settings of every release."""

import copy
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, reject, settings
from reference.vllm_v1.engine import Engine, Outcome
from reference.vllm_v1.state import Decision, Request
from vllm_v1_kernel import ENDINGS, TICK, finished, lay_out, serve
from vllm_v1_strategies import Case, cases

from fastsim.kernels import state
from fastsim.kernels.engine import state as engine_state
from fastsim.kernels.exits import Exit
from fastsim.kernels.replicas import routers
from fastsim.kernels.schedulers import vllm_v1
from fastsim.kernels.state import State

REQUEST_FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_preemptions")


def facts(requests: Sequence[Request], caching: bool) -> list[tuple[object, ...]]:
    names = (*REQUEST_FIELDS, "num_cached_tokens") if caching else REQUEST_FIELDS
    return [tuple(getattr(request, name) for name in names) for request in requests]


def twin_of(case: Case) -> Outcome:
    """The twin's answer; cases that take long, as requests preempt each other for ever, are left out."""
    engine = Engine(case.requests, case.settings, case.release, case.clock)
    launch = engine.launch

    def counted(decision: Decision) -> None:
        if len(engine.decisions) > 4000:
            reject()
        launch(decision)

    engine.launch = counted  # type: ignore[method-assign]
    outcome = engine.run()
    return engine.result(outcome)


def run_whole(
    case: Case, log_rows: int, slice_length: int, router: int = routers.ROUTED
) -> tuple[State, list[tuple[int, int, int, int]]]:
    """The state at the end, and (start, end, requests, tokens) of each batch, over all stages."""
    lane, limits, cost = lay_out(case.requests, case.settings, case.release, case.clock, log_rows, router=router)
    run = vllm_v1.run if case.settings.num_stages == 1 else vllm_v1.run_stages
    rows: list[tuple[int, float, float, int, int]] = []
    while True:
        lane.cursor[state.LEFT], lane.cursor[state.LOGGED] = slice_length, 0
        code = run(lane, (cost,), (limits,))
        log, number = lane.log, lane.cursor[state.LOGGED]
        columns = (log.stage, log.start, log.end, log.num_seqs, log.num_tokens)
        rows += zip(*(column[:number].tolist() for column in columns), strict=True)
        if code != Exit.BUDGET:
            break
    firsts = [row for row in rows if row[0] == 0]
    lasts = [row for row in rows if row[0] == case.settings.num_stages - 1]
    return lane, [(int(a[1] / TICK), int(b[2] / TICK), a[3], a[4]) for a, b in zip(firsts, lasts, strict=True)]


def batches_of(twin: Outcome) -> list[tuple[float, float, int, int]]:
    return [(d.started_at, d.ended_at, len(d.members), d.num_tokens) for d in twin.decisions if d.members]


def assert_equals_twin(
    case: Case, log_rows: int = 4096, slice_length: int = 1 << 40, router: int = routers.ROUTED
) -> None:
    twin = twin_of(case)
    lane, rows = run_whole(case, log_rows, slice_length, router)
    assert rows == batches_of(twin)
    counts = lane.replicas.counts[0]
    assert ENDINGS[counts[state.OUTCOME]] == twin.outcome
    own = lane.engine.counts[0]
    assert (own[engine_state.FOR_PREFILLS], own[engine_state.OUTRANKED]) == twin.preemptions
    caching = case.settings.enable_prefix_caching
    served = finished(lane, copy.deepcopy(case.requests))
    assert facts(served, caching) == facts(twin.requests, caching)
    assert lane.engine.counts[0, engine_state.EVICTED] == twin.num_evicted
    if twin.outcome == "done":
        assert counts[state.FREE] == case.settings.num_blocks
    times = [request.token_times for request in twin.requests]
    gaps = [later - earlier for each in times for earlier, later in pairwise(each)]
    assert counts[state.TBT_COUNT] == lane.tbt.sum() == len(gaps)
    assert abs(lane.replicas.times[0, state.TBT_SUM] / TICK - sum(gaps)) < 1e-6 * (1 + sum(gaps))
    if case.settings.num_stages == 1:
        for i, request in enumerate(twin.requests):
            if request.finished_at is not None:
                work = sum(
                    d.ended_at - d.started_at
                    for d in twin.decisions
                    for m in d.members
                    if m.request.id == i and d.updated_at <= request.finished_at
                )
                assert abs(lane.requests.execution_time[i] / TICK - work) < 1e-3


@settings(deadline=None, max_examples=100)
@given(cases())
def test_whole_runs_equal_the_twin(case: Case) -> None:
    assert_equals_twin(case)


@settings(deadline=None, max_examples=100)
@given(cases(follow=True))
def test_sessions_equal_the_twin(case: Case) -> None:
    assert_equals_twin(case, log_rows=7, slice_length=5)


@settings(deadline=None, max_examples=100)
@given(cases())
def test_slices_change_no_bit(case: Case) -> None:
    """Kernels come back in slices, which differ with the number of threads."""
    twin_of(case)
    whole, cut = (run_whole(case, 64, length)[0] for length in (1 << 40, 3))
    for name, values in whole.requests._asdict().items():
        assert values.tobytes() == getattr(cut.requests, name).tobytes(), name
    assert whole.replicas.times.tobytes() == cut.replicas.times.tobytes()


@settings(deadline=None, max_examples=100)
@given(cases())
def test_a_replica_that_stops_at_every_arrival_equals_the_twin(case: Case) -> None:
    """A router that looks at loads lets the replica go only as far as the next request."""
    assert_equals_twin(case, router=routers.LEAST_OUTSTANDING)


@settings(deadline=None, max_examples=100)
@given(cases(most=6))
def test_every_call_equals_the_twin(case: Case) -> None:
    twin = twin_of(case)
    outcome = serve(copy.deepcopy(case.requests), case.settings, case.release, case.clock)
    for got, expected in zip(outcome.decisions, twin.decisions, strict=True):
        for name in ("started_at", "ended_at", "num_free_blocks", "num_running", "num_waiting"):
            assert getattr(got, name) == getattr(expected, name), name
        assert sorted(got.preempted) == sorted(set(expected.preempted))
        members = [(m.request.id, m.num_tokens, m.num_computed_before) for m in expected.members]
        assert [(m.request.id, m.num_tokens, m.num_computed_before) for m in got.members] == members
