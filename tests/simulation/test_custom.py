"""Policies and routers that a user writes, compared with twins in plain Python."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import kernel_runs
import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference import core as reference
from reference import policies as reference_policies
from reference.state import Request, Settings
from strategies import Case, cases, empty_vidur, fastsim_tables
from user_policies import LIKE, TWINS, most_memory, newest_first, shortest_prompt_first

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.errors import PolicyError
from fastsim.kernels.custom import queue
from fastsim.kernels.custom.order import insert, sort_front
from fastsim.kernels.replicas import routers
from fastsim.kernels.replicas.look import next_horizon
from fastsim.kernels.state import HORIZON
from fastsim.kernels.tables import COMPOSE_VIDUR, Cost
from fastsim.simulation.custom import runner
from fastsim.simulation.custom.runner import Runner
from fastsim.workload.loading import load

COMPILED = not numba.config.DISABLE_JIT
EXAMPLES = 200 if COMPILED else 60
QUIET = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def check_equal(case: Case, kernel: Runner, slice_length: int = 1 << 40) -> reference.Outcome:
    """Compare with the twin in cases in which it serves every request.

    The twin calls a queue stuck where a policy may leave requests waiting.
    """
    chunks_anywhere = case.cost.compose != COMPOSE_VIDUR or case.cost.vidur.kv_step == 1024
    assume(chunks_anywhere or kernel.scheduler is not newest_first)
    twin = reference.simulate(case.requests, case.settings, reference.cost_stage_seconds(case.cost))
    assume(set(twin.outcome) == {"done"})
    return kernel_runs.assert_equals_twin(case, slice_length, kernel=kernel)


# Compiling takes a minute each: two of them are, one whose iterations leap and one whose iterations do not.
CHECKED = [policy for policy in TWINS if not COMPILED or policy in (shortest_prompt_first, newest_first)]


@pytest.mark.parametrize("policy", CHECKED, ids=lambda policy: policy.name)
def test_a_policy_equals_its_twin(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"cases": 0, "restarts": 0, "pipelines": 0}
    if policy in (shortest_prompt_first, newest_first):
        seen["out of turn"] = 0
    monkeypatch.setitem(reference_policies.FORM, LIKE[policy], TWINS[policy])
    monkeypatch.setattr(runner, "ROOM", 0)  # so that queues have to grow
    if not COMPILED:
        monkeypatch.setattr(queue, "MANY", 3)  # so that whole queues are sorted, too

    @QUIET
    @given(cases(LIKE[policy]) | cases(LIKE[policy], follow=True), st.sampled_from([1, 7, 1 << 40]))
    def check(case: Case, slice_length: int) -> None:
        twin = check_equal(case, Runner(policy, None, case.settings.num_stages), slice_length)
        seen["cases"] += 1
        seen["restarts"] += bool(twin.restarts)
        seen["pipelines"] += case.settings.num_stages > 1
        if "out of turn" in seen:
            seen["out of turn"] += any(np.diff([request.scheduled_at for request in twin.requests]) < 0)

    check()
    print(policy.name, seen)
    assert seen["cases"] > EXAMPLES // 2
    assert min(seen.values()) > (EXAMPLES // 40 if COMPILED else 0)


@pytest.mark.parametrize("scheduler", ["vllm", "sarathi", "orca", shortest_prompt_first], ids=str)
def test_a_router_equals_its_twin(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"cases": 0, "uneven": 0, "restarts": 0}
    name = scheduler if isinstance(scheduler, str) else LIKE[scheduler]
    if name != scheduler:
        monkeypatch.setitem(reference_policies.FORM, name, TWINS[scheduler])
    monkeypatch.setitem(kernel_runs.ROUTER, "least_outstanding", routers.CUSTOM)

    def choose(simulation: reference.Simulation, request: Request) -> int:
        return min(simulation.replicas, key=lambda r: (-r.num_free, r.num_outstanding)).id

    monkeypatch.setattr(reference.Simulation, "choose", choose)

    @settings(QUIET, max_examples=EXAMPLES // 2)
    @given(cases(name, "least_outstanding") | cases(name, "least_outstanding", follow=True))
    def check(case: Case) -> None:
        twin = check_equal(case, Runner(scheduler, most_memory, case.settings.num_stages))
        seen["cases"] += 1
        seen["restarts"] += bool(twin.restarts)
        turns = [i % case.settings.num_replicas for i in range(len(twin.requests))]
        seen["uneven"] += [request.replica_id for request in twin.requests] != turns

    check()
    assert seen["cases"] > EXAMPLES // 4
    assert seen["uneven"] > EXAMPLES // 20


@pytest.mark.skipif(COMPILED, reason="a part of a kernel would be compiled for this test alone")
def test_replicas_go_no_further_than_the_first_that_may_finish_a_request() -> None:
    """Where several may finish one at nearly the same time, each in any order, the first sets the horizon."""
    requests = [Request(5.0, 5, 4), Request(np.nan, 5, 4, follows=0)]
    cost = Cost(COMPOSE_VIDUR, 1, empty_vidur(), fastsim_tables(np.random.default_rng(0), 1), np.ones(1))
    lane, _ = kernel_runs.lay_out(Case(requests, Settings("vllm", num_replicas=3), cost), 0)
    first, second, third = 4.0, np.nextafter(4.0, 5.0), np.nextafter(np.nextafter(4.0, 5.0), 5.0)
    for times in itertools.permutations([first, second, third]):
        lane.replicas.quiet_until[:] = times
        next_horizon(lane)
        assert lane.moments[HORIZON] == second, times  # until then, and not at that time
    lane.replicas.quiet_until[:] = 6.0
    next_horizon(lane)
    assert lane.moments[HORIZON] == 5.0  # when a request arrives


TWELVE = load("chat", rate=20.0, num_requests=12, seed=1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(0, 5))
@settings(deadline=None)
def test_sort_by(keys: list[int], swaps: int) -> None:
    order = np.random.default_rng(len(keys)).permutation(len(keys)).astype(np.int32)
    for _ in range(2):  # in any order, then nearly in order
        fastsim.sort_by(order, np.array(keys))
        assert order.tolist() == sorted(range(len(keys)), key=lambda i: (keys[i], i))
        order[:swaps] = order[:swaps][::-1].copy()


@pytest.mark.skipif(COMPILED, reason="parts of kernels cannot be called")
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(0, 5), st.integers(0, 30))
@settings(deadline=None)
def test_requests_are_put_where_the_order_has_them(keys: list[int], restarted: int, front: int) -> None:
    """Some are in the queue from the start and some restarted; the rest join one by one."""
    by = np.array(keys)
    there, first = min(10, len(keys)), 30
    restarted = min(restarted, there)
    queue = np.full(100, -1, np.int32)
    queue[first : first + there] = [*range(restarted), *sorted(range(restarted, there), key=lambda i: (keys[i], i))]
    sort_front(queue, by, first, first + there, restarted)
    last = first + there
    for request in range(there, len(keys)):
        before = last - first
        first, last = insert(queue, by, first, last, request, front)
        assert (last - first, first >= front) == (before + 1, True)
    assert queue[first:last].tolist() == sorted(range(len(keys)), key=lambda i: (keys[i], i))


FILE = """
import fastsim


@fastsim.policy
def one_by_one(replica, chosen, tokens):
    if replica.num_allocated == 0 and len(replica.waiting) > 0:
        chosen[0], tokens[0] = replica.waiting[0], replica.prefill[replica.waiting[0]]
        return 1
    if len(replica.running) > 0:
        chosen[0], tokens[0] = replica.running[0], 1
        return 1
    return 0
"""


def test_a_file_names_a_policy_and_its_machine_code_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(FILE)
    named = Deployment.load(None, [f"scheduler.policy={file}:one_by_one"])
    result = fastsim.simulate(named, TWELVE, iterations=True)
    assert result.iterations is not None
    assert set(result.iterations["num_seqs"].to_pylist()) == {1}
    assert result.config["deployment"]["scheduler"]["policy"] == f"{file}:one_by_one"
    again = fastsim.simulate(Deployment.load(result.config["deployment"]), TWELVE)
    assert again.requests.equals(result.requests)
    arguments = ["simulate", "--set", f"scheduler.policy={file}:one_by_one", "--requests", "5", "--json"]
    code = f"""
import sys
from fastsim.cli import cli
cli.main({arguments!r}, standalone_mode=False)
(module,) = [module for name, module in sys.modules.items() if name.startswith("fastsim_user_")]
assert not hasattr(module._run, "stats") or (module._run.stats.cache_hits and not module._run.stats.cache_misses)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '"requests": 5' in done.stdout


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("missing.py:f", "scheduler.policy: .*missing.py does not exist"),
        ("mine.py:two_by_two", "mine.py has no 'two_by_two' .valid: one_by_one"),
        ("broken.py:f", "broken.py cannot be run: ZeroDivisionError: division by zero"),
    ],
)
def test_a_file_without_the_policy(policy: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(FILE)
    Path("broken.py").write_text("1 / 0")
    with pytest.raises(PolicyError, match=message):
        fastsim.simulate(Deployment.load(None, [f"scheduler.policy={policy}"]), TWELVE)


def test_the_same_on_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    requests = load("chat", rate=40.0, num_requests=400, seed=5)
    wanted = Deployment.load(None, ["num_replicas=3", "scheduler.max_num_seqs=8"])
    results = []
    for cores in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        results.append(fastsim.simulate(wanted, requests, scheduler=shortest_prompt_first))
    assert results[0].requests.equals(results[1].requests)
    usual = fastsim.simulate(Deployment.load(None, ["num_replicas=3", "scheduler.max_num_seqs=8"]), requests)
    assert results[0].column("ttft").mean() < usual.column("ttft").mean()
