"""Ranks of policy vllm_v1 that step together against their twin, on generated requests and settings."""

from __future__ import annotations

import copy
from itertools import pairwise

from hypothesis import given, reject, settings
from hypothesis import strategies as st
from ranks_runs import Setup, run
from reference.vllm_v1.ranks import Balancer, Layout, Replica, StepClock, simulate
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import RELEASES
from reference.vllm_v1.state import Request, Settings
from vllm_v1_kernel import TICK, finished
from vllm_v1_strategies import Case, cases

from fastsim.kernels import state
from fastsim.kernels.state import State

FIELDS = ("admitted_at", "first_token_at", "finished_at", "num_preemptions", "num_cached_tokens")


@st.composite
def setups(draw: st.DrawFn, follow: bool = False) -> Setup:
    case = draw(cases(most=16, follow=follow, stages=(1,)))
    if draw(st.booleans()):  # more requests than may run, so that ranks differ in what waits and runs
        alike = 1000 * draw(st.integers(0, 90)), draw(st.integers(1, 20)), draw(st.integers(1, 20))
        crowd = [Request(*alike) for _ in range(8)] + [r for r in case.requests if r.follows is None]
        case = case._replace(requests=sorted(crowd, key=lambda r: r.arrived_at)) if not follow else case
    balancer: Balancer = draw(st.sampled_from(["internal", "internal", "round_robin", "given"]))
    refresh = draw(st.sampled_from([1, 1000, 20_000, 100_000]))
    layout = Layout(draw(st.sampled_from([2, 2, 3, 4, 8])), balancer, refresh, draw(st.sampled_from([1, 3, 32])))
    clock = StepClock(case.clock, draw(st.integers(0, 90)), draw(st.sampled_from([0, 4, 16, 512])))
    return Setup(case, layout, clock, draw(st.sampled_from([1, 1, 2])))


def twin_of(setup: Setup) -> tuple[list[Request], list[Replica], dict[int, int]]:
    """The twin's answer; cases that take long, as requests preempt each other for ever, are left out."""
    calls = [0]

    def step_time(batches: object) -> int:
        calls[0] += 1
        if calls[0] > 3000:
            reject()
        return setup.clock(batches)  # type: ignore[arg-type]

    case = setup.case
    rest = setup.num_replicas, setup.ranks_given
    return simulate(case.requests, setup.layout, case.settings, case.release, step_time, *rest)


def assert_equals_twin(setup: Setup, log_rows: int, slice_length: int) -> State:
    requests, replicas, replica_of = twin_of(setup)
    lane, rows = run(setup, log_rows, slice_length)
    number = setup.layout.num_ranks
    places = {i: replica_of[i] * number + replicas[replica_of[i]].rank_of[i] for i in replica_of}
    assert lane.requests.replica.tolist() == [places[i] for i in range(len(requests))]
    served = finished(lane, copy.deepcopy(setup.case.requests))
    for name in FIELDS[: 4 + setup.case.settings.enable_prefix_caching]:
        assert [getattr(r, name) for r in served] == [getattr(r, name) for r in requests], name
    for i in range(number * setup.num_replicas):
        decisions = [step.decisions[i % number] for step in replicas[i // number].steps]
        expected = [(i, d.started_at, d.ended_at, len(d.members), d.num_tokens) for d in decisions if d and d.members]
        if log_rows:
            assert [row for row in rows if row[0] == i] == expected
        endless = replicas[i // number].ranks[i % number].outcome == "endless"  # the batch that shows it is not run
        assert lane.replicas.counts[i, state.ITERATIONS] in (len(expected), len(expected) + endless)
        if all(request.finished_at is not None for request in requests):
            assert lane.replicas.counts[i, state.FREE] == setup.case.settings.num_blocks
    gaps = [later - earlier for request in requests for earlier, later in pairwise(request.token_times)]
    assert lane.replicas.counts[:, state.TBT_COUNT].sum() == lane.tbt.sum() == len(gaps)
    assert abs(lane.replicas.times[:, state.TBT_SUM].sum() / TICK - sum(gaps)) < 1e-6 * (1 + sum(gaps))
    for i, request in enumerate(requests):
        if request.finished_at is not None:
            steps = replicas[replica_of[i]].steps
            work = sum(
                step.ended_at - step.started_at
                for step in steps
                for d in step.decisions
                for m in (d.members if d is not None else ())
                if m.request.id == i and d is not None and 0 < d.updated_at <= request.finished_at
            )
            assert abs(lane.requests.execution_time[i] / TICK - work) < 1e-3
    return lane


@settings(deadline=None, max_examples=60)
@given(setups(), st.sampled_from([0, 4096]), st.sampled_from([1 << 40, 40]))
def test_ranks_equal_their_twin(setup: Setup, log_rows: int, slice_length: int) -> None:
    assert_equals_twin(setup, log_rows, slice_length)


def test_a_request_that_waits_counts_as_much_as_four_that_run() -> None:
    """Of eight requests every second one ends soon; of two later ones, one goes to each rank, which are equal then."""
    stream = [Request(0, 4, 1 if i % 2 else 90) for i in range(8)] + [Request(200_000, 4, 5), Request(200_000, 4, 5)]
    case = Case(stream, Settings(num_blocks=99), RELEASES["0.19"], Clock(10_000_000))
    lane = assert_equals_twin(Setup(case, Layout(2), StepClock(case.clock)), 0, 1 << 40)
    assert lane.requests.replica.tolist() == [0, 1] * 4 + [1, 0]


@settings(deadline=None, max_examples=60)
@given(setups(follow=True), st.sampled_from([0, 4096]))
def test_sessions_on_ranks_equal_their_twin(setup: Setup, log_rows: int) -> None:
    assert_equals_twin(setup, log_rows, 1 << 40)


@settings(deadline=None, max_examples=40)
@given(setups())
def test_a_log_and_slices_change_no_bit(setup: Setup) -> None:
    twin_of(setup)
    whole, logged = run(setup, 0, 1 << 40)[0], run(setup, 64, 40)[0]
    for name, mine in whole.requests._asdict().items():
        assert mine.tobytes() == getattr(logged.requests, name).tobytes(), name
    for name in ("busy", "series", "sums"):
        assert getattr(whole.replicas, name).tobytes() == getattr(logged.replicas, name).tobytes(), name
    # Rows of ranks follow their replica's only when something happens on them.
    first, gaps = -setup.num_replicas, [state.TBT_SUM, state.TBT_MAX]
    assert whole.replicas.times[first:].tobytes() == logged.replicas.times[first:].tobytes()
    assert whole.replicas.times[:, gaps].tobytes() == logged.replicas.times[:, gaps].tobytes()
    assert whole.tbt.tobytes() == logged.tbt.tobytes()
