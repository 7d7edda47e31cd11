"""Requests that arrive only once others have finished: sessions, closed loops, and clients that hold requests back."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

import fastsim
from fastsim.errors import ConfigError, WorkloadError
from fastsim.result.result import Result
from fastsim.workload.too_long import within

LENGTHS = {"kind": "uniform", "num_prompt_tokens": {"min": 20, "max": 900}, "num_output_tokens": {"min": 1, "max": 60}}


def loop(concurrency: int, number: int = 200, **gaps: object) -> fastsim.Workload:
    gaps = {"kind": "closed_loop", "concurrency": concurrency, **gaps}
    return fastsim.load_workload({"lengths": LENGTHS, "gaps": gaps}, num_requests=number)


def sessions(number: int, turns: int, think: float, seed: int = 0) -> fastsim.Workload:
    """Sessions that start at random times; the rows of their turns are mixed."""
    rng = np.random.default_rng(seed)
    session, turn = np.divmod(rng.permutation(number * turns), turns)
    turn = np.zeros_like(session)
    for each in range(number):
        turn[session == each] = np.arange(turns)
    arrived_at = np.where(turn == 0, 0.0, np.nan)
    arrived_at[turn == 0] = np.sort(rng.uniform(0, 5, number))
    prompts, outputs = rng.integers(10, 500, number * turns), rng.integers(1, 40, number * turns)
    return fastsim.Workload(
        arrived_at, prompts, outputs, session_id=session, think_time=np.where(turn == 0, np.nan, think)
    )


def in_flight(result: Result) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Times at which requests arrive or finish, and how many are in flight after each."""
    times = np.concatenate([result.column("arrived_at"), result.column("finished_at")])
    steps = np.repeat([1, -1], len(times) // 2)
    moments, place = np.unique(times, return_inverse=True)
    return moments, np.bincount(place, weights=steps).cumsum().astype(np.int64)


def test_a_closed_loop_has_all_its_users_in_flight_until_its_requests_run_out() -> None:
    result = fastsim.simulate(None, loop(16))
    moments, flying = in_flight(result)
    until = moments <= result.column("arrived_at")[-1]
    assert (flying[until] == 16).all()
    assert flying.max() == 16
    assert flying[-1] == 0


@pytest.mark.parametrize("replicas", [1, 3])
def test_little_holds_in_a_closed_loop_with_think_times(replicas: int) -> None:
    """Users = rate * (E2E + think time), over the time in which all users are there."""
    deployment = fastsim.Deployment.load(None, [f"num_replicas={replicas}", "router.policy=least_outstanding"])
    result = fastsim.simulate(deployment, loop(24, 3000, think_time=0.25))
    arrived, finished = result.column("arrived_at"), result.column("finished_at")
    end = arrived[-1]
    inside = np.minimum(finished + 0.25, end) - np.minimum(arrived, end)  # of each request and the thinking after it
    assert inside.sum() / end == pytest.approx(24, rel=1e-3)


@pytest.mark.parametrize("policy", ["sarathi", "vllm"])
def test_a_closed_loop_is_the_open_stream_of_its_arrivals(policy: str) -> None:
    deployment = fastsim.Deployment.load(None, [f"scheduler.policy={policy}"])
    result = fastsim.simulate(deployment, loop(12, ramp_up=1.0, think_time={"kind": "exponential", "mean": 0.1}))
    prompts, outputs = result.column("num_prompt_tokens"), result.column("num_output_tokens")
    again = fastsim.simulate(deployment, fastsim.Workload(result.column("arrived_at"), prompts, outputs))
    for name in ("scheduled_at", "first_token_at", "finished_at", "num_restarts"):
        np.testing.assert_array_equal(result.column(name), again.column(name), err_msg=name)
    assert (np.diff(result.column("arrived_at")) >= 0).all()
    assert sorted(result.column("request_id")) == list(range(200))


def test_what_finishes_on_one_replica_is_followed_at_once_on_another() -> None:
    """Where iterations of all replicas end at the same times, the next request can be in a batch formed then."""
    gaps = {"kind": "closed_loop", "concurrency": 4}
    lengths = {**LENGTHS, "num_prompt_tokens": {"min": 5, "max": 40}}
    workload = fastsim.load_workload({"lengths": lengths, "gaps": gaps}, num_requests=60, seed=30)
    settings = ["scheduler.policy=vllm_v1", "num_replicas=3", "scheduler.async_scheduling=false"]
    settings += ["predictor.source=affine", "predictor.affine={constant_ns: 7812500}"]
    result = fastsim.simulate(fastsim.Deployment.load(None, [*settings, "router.policy=round_robin"]), workload)
    columns = [result.column(name) for name in ("arrived_at", "num_prompt_tokens", "num_output_tokens", "replica_id")]
    arrived, prompts, outputs, replica = columns
    again = fastsim.Workload(arrived, prompts, outputs, replica_id=replica)
    open_stream = fastsim.simulate(fastsim.Deployment.load(None, [*settings, "router.policy=pinned"]), again)
    for name in ("scheduled_at", "first_token_at", "finished_at"):
        np.testing.assert_array_equal(result.column(name), open_stream.column(name), err_msg=name)


@pytest.mark.parametrize("think", [0.0, 0.5])
def test_no_turn_starts_before_the_one_before_it_has_ended(think: float) -> None:
    workload = sessions(20, 5, think)
    result = fastsim.simulate(fastsim.Deployment.load(None, ["num_replicas=2"]), workload)
    order = np.argsort(result.column("request_id"))
    arrived, finished = result.column("arrived_at")[order], result.column("finished_at")[order]
    assert workload.session_id is not None
    for session in range(20):
        mine = np.flatnonzero(workload.session_id == session)
        np.testing.assert_array_equal(arrived[mine[1:]], finished[mine[:-1]] + think)


def test_a_client_that_holds_back_sends_in_order_and_no_earlier() -> None:
    rng = np.random.default_rng(3)
    wanted = np.sort(rng.uniform(0, 2, 150))
    lengths = rng.integers(10, 700, 150), rng.integers(1, 50, 150)
    result = fastsim.simulate(None, fastsim.Workload(wanted, *lengths, max_concurrency=10))
    arrived = result.column("arrived_at")
    assert list(result.column("request_id")) == list(range(150))
    assert (arrived >= wanted).all()
    assert (arrived > wanted).sum() > 50
    _, flying = in_flight(result)
    assert flying.max() == 10
    # One that is held back arrives at the very moment at which another finishes.
    assert np.isin(arrived[arrived > wanted], result.column("finished_at")).all()
    free = fastsim.simulate(None, fastsim.Workload(wanted, *lengths, max_concurrency=150))
    np.testing.assert_array_equal(free.column("arrived_at"), wanted)


def test_each_tenant_has_its_users_in_flight() -> None:
    tenants = [
        {"name": "open", "share": 1},
        {"name": "loop", "share": 2, "concurrency": 12},
        {"name": "chats", "share": 2, "concurrency": 4, "sessions": {"turns": 3}},
    ]
    described = {"lengths": LENGTHS, "gaps": {"kind": "poisson", "rate": 10.0}, "tenants": tenants}
    workload = fastsim.load_workload(described, num_requests=500)
    result = fastsim.simulate(fastsim.Deployment.load(None, ["num_replicas=2"]), workload)
    assert workload.tenant is not None
    mine = result.column("tenant") == "open"
    np.testing.assert_array_equal(result.column("arrived_at")[mine], workload.arrived_at[workload.tenant == "open"])
    for tenant, users in (("loop", 12), ("chats", 4)):
        rows = np.flatnonzero(result.column("tenant") == tenant)
        ends = [
            result.column("finished_at")[rows[result.column("session_id")[rows] == user]]
            for user in np.unique(result.column("session_id")[rows])
        ]
        assert len(ends) == users
        moments, flying = in_flight(replace(result, requests=result.requests.take(rows)))
        assert (flying[moments < min(each.max() for each in ends)] == users).all()


def test_many_simulations_give_the_same_as_one() -> None:
    deployment = fastsim.Deployment.load(None, ["num_replicas=2"])
    workloads = loop(8), sessions(10, 3, 0.1)
    runs = fastsim.simulate_many([(deployment, workload) for workload in workloads], requests=True)
    for run, workload in zip(runs, workloads, strict=True):
        alone = fastsim.simulate(deployment, workload)
        assert run.requests is not None
        np.testing.assert_array_equal(run.requests["finished_at"].to_numpy(), alone.column("finished_at"))


def test_turns_after_one_that_is_too_long_are_dropped_too() -> None:
    workload = sessions(6, 4, 0.1)
    longest = int((workload.num_prompt_tokens + workload.num_output_tokens).max())
    kept = within(workload, longest - 1, "drop")
    gone = workload.num_requests - kept.num_requests
    assert 1 <= gone <= 4
    assert kept.origin is not None
    assert kept.origin.dropped == gone
    fastsim.simulate(None, kept)
    closed = loop(4, 40)
    first = int(closed.num_prompt_tokens[0] + closed.num_output_tokens[0])
    shorter = replace(closed, num_prompt_tokens=np.full(40, 10), num_output_tokens=np.full(40, 10))
    shorter.num_prompt_tokens.flags.writeable = False
    lengths = shorter.num_prompt_tokens.copy()
    lengths[0] = first + 1000
    kept = within(replace(shorter, num_prompt_tokens=lengths), first, "drop")
    assert kept.num_requests == 39
    assert np.count_nonzero(~np.isnan(kept.arrived_at)) == 4


def test_what_says_nothing_of_an_arrival_or_two_things_is_refused() -> None:
    two = np.array([10, 10])
    nan = np.nan
    with pytest.raises(WorkloadError, match=r"data row 2: arrived_at is empty, and think_time too"):
        fastsim.Workload(np.array([0, nan]), two, two, think_time=np.array([nan, nan]))
    with pytest.raises(WorkloadError, match=r"data row 2: think_time: 5 is given, and arrived_at 1 too"):
        fastsim.Workload(np.array([0.0, 1.0]), two, two, session_id=np.array([1, 1]), think_time=np.array([nan, 5]))
    with pytest.raises(WorkloadError, match=r"data row 2: think_time: 5 needs an earlier request of session 2"):
        fastsim.Workload(np.array([0, nan]), two, two, session_id=np.array([1, 2]), think_time=np.array([nan, 5]))
    with pytest.raises(WorkloadError, match=r"think_time: -1.0 is not a time in seconds"):
        fastsim.Workload(np.array([0, nan]), two, two, session_id=two, think_time=np.array([nan, -1.0]))
    with pytest.raises(WorkloadError, match="arrived_at: nan is not a time"):
        fastsim.Workload(np.array([0, nan]), two, two)
    with pytest.raises(WorkloadError, match="max_concurrency: 0 is not a whole number from 1"):
        fastsim.Workload(np.array([0.0, 1.0]), two, two, max_concurrency=0)
    with pytest.raises(WorkloadError, match=r"rate: 2 cannot be given to a closed loop.*\(now 4\)"):
        loop(4).at_rate(2.0)
    with pytest.raises(ConfigError, match=r"gaps: rate: 2 cannot be given to a closed loop"):
        fastsim.load_workload({"lengths": LENGTHS, "gaps": {"kind": "closed_loop", "concurrency": 4}}, rate=2.0)


def test_a_warm_up_leaves_out_the_first_arrivals_that_came_to_pass() -> None:
    whole, later = (fastsim.simulate(None, loop(8), exclude=(first, 0.0)).summary for first in (0.0, 0.5))
    assert later["latency"]["ttft"]["max"] < whole["latency"]["ttft"]["max"]  # the burst at the start
    with pytest.raises(ConfigError, match="a warm-up of 1000 s and a cool-down of 0 s leave nothing of the"):
        fastsim.simulate(None, loop(8), exclude=(1000.0, 0.0))


def test_capacity_finds_users() -> None:
    found = fastsim.capacity(None, loop(4, 400), ["e2e:p90<400ms"], tolerance=0.1)
    assert found.users is not None
    assert found.above is not None
    assert found.users < found.above <= max(found.users + 1, 1.1 * found.users)
    for users, met in ((found.users, True), (int(found.above), False)):
        summary = fastsim.simulate(None, loop(4, 400).with_users(users)).summary
        assert (summary["latency"]["e2e"]["p90"] < 0.4) == met
    assert found.rate == pytest.approx(found.summary["throughput"]["requests_per_s"], rel=0.01) if found.summary else 0
    with pytest.raises(ConfigError, match="users: a closed loop has a number of users and no rate"):
        fastsim.capacity(None, loop(4, 400), users=False)
