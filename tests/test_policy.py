"""Policies and routers of the user's, against twins in plain Python, and what is said when they are wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import kernel_runs
import numba
import numpy as np
import pytest
import reference
import reference_policies
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from reference_policies import Members
from reference_state import Replica, Request
from strategies import Case, cases

import fastsim
from fastsim.deployment import Deployment
from fastsim.errors import PolicyError, StuckError
from fastsim.kernels import route
from fastsim.kernels.cost import COMPOSE_FASTSIM
from fastsim.policies import runner
from fastsim.policies.runner import Runner
from fastsim.workload import load

COMPILED = not numba.config.DISABLE_JIT
EXAMPLES = 300 if COMPILED else 40
QUIET = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
CHUNK = 24  # a constant of this module, which a policy may refer to


@fastsim.policy
def shortest_prompt_first(replica: Any, chosen: Any, tokens: Any) -> int:
    """One token for whoever runs, then whole prompts, the shortest first."""
    size, budget = 0, replica.max_num_batched_tokens
    for request in replica.running:
        chosen[size], tokens[size] = request, 1
        size += 1
        budget -= 1
    if replica.num_joined > 0:
        fastsim.sort_by(replica.waiting, replica.num_prompt_tokens)
    for request in replica.waiting:
        prompt = replica.prefill[request]
        if size == replica.max_batch or prompt > budget:
            break
        chosen[size], tokens[size] = request, prompt
        size += 1
        budget -= prompt
    return size


def part_left(replica: Any, request: int) -> int:
    return max(1, min(CHUNK, int(replica.prefill[request] - replica.processed[request])))


@fastsim.policy
def newest_first(replica: Any, chosen: Any, tokens: Any) -> int:
    """Chunks of prompts, the newest first; then decodes, the newest first, two of which restart now and then."""
    size = 0
    for i in range(len(replica.waiting) - 1, -1, -1):
        if size < 1:
            chosen[size], tokens[size] = replica.waiting[i], part_left(replica, replica.waiting[i])
            size += 1
    replica.notes[0] += len(replica.running) > 0
    for i in range(len(replica.running) - 1, -1, -1):
        request = replica.running[i]
        chosen[size], tokens[size] = request, part_left(replica, request)
        if replica.notes[0] % 7 == 0 and replica.memo[request] == 0:
            replica.memo[request] = 1
            tokens[size] = 0
        size += 1
    return size


@fastsim.policy
def most_memory(replicas: Any, request: Any) -> int:
    """The replica with the most free blocks, the one with the fewest requests among equals."""
    best = 0
    for r in range(replicas.num_replicas):
        ahead = replicas.free_blocks[r] - replicas.free_blocks[best]
        if ahead > 0 or (ahead == 0 and replicas.num_outstanding[r] < replicas.num_outstanding[best]):
            best = r
    return best


def placed(replica: Replica, choices: Members, time: float) -> Members:
    """The twin of what becomes of a policy's choices."""
    s, batch, restarted = replica.settings, Members(), []

    def restart(request: Request) -> None:
        prompt = max(request.prefill, request.processed)
        total = request.prefill + request.decode
        replica.running.remove(request)
        restarted.append(request)
        replica.restart(request, time)
        request.prefill, request.decode = prompt, total - prompt

    for request, tokens in choices:
        if any(request is other for other in restarted):
            continue
        if tokens == 0:
            restart(request)
            continue
        num_tokens = sum(number for _, number in batch)
        if len(batch) == s.micro_batch_size or num_tokens + tokens > s.max_num_batched_tokens:
            continue
        if any(request is other for other in replica.waiting):
            if not replica.can_admit(request) or len(replica.blocks) == s.max_num_seqs:
                continue
            replica.waiting.remove(request)
            replica.allocate(request, replica.prompt_blocks(request))
        else:
            needs = request.is_prefill_complete and request.processed > replica.blocks[request.id] * s.block_size
            while needs and replica.num_free < 1 and not any(request is other for other in restarted):
                restart(replica.running[-1])
            if any(request is other for other in restarted):
                continue
            replica.running.remove(request)
            if needs:
                replica.allocate(request, 1)
        batch.append((request, tokens))
    return batch


def form_shortest(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    choices = [(request, 1) for request in replica.running]
    budget = replica.settings.max_num_batched_tokens - len(choices)
    replica.waiting.sort(key=lambda request: (request.num_prompt_tokens, request.id))
    for request in replica.waiting:
        if len(choices) == replica.settings.micro_batch_size or request.prefill > budget:
            break
        choices.append((request, request.prefill))
        budget -= request.prefill
    return placed(replica, choices, time)


def form_newest(replica: Replica, time: float) -> Members:
    replica.running.sort(key=lambda request: request.arrived_at)
    memory = vars(replica).setdefault("remembered", {"calls": 0})
    memory["calls"] += len(replica.running) > 0
    choices = Members()
    for request in [*replica.waiting[-1:], *replica.running[::-1]]:
        part = max(1, min(CHUNK, request.prefill - request.processed))
        if len(choices) >= min(1, len(replica.waiting)) and memory["calls"] % 7 == 0 and request.id not in memory:
            memory[request.id] = True
            part = 0
        choices.append((request, part))
    return placed(replica, choices, time)


TWINS = {shortest_prompt_first: form_shortest, newest_first: form_newest}
# Whose cases have tables that hold its batches: of whole prompts, or of chunks of any length.
LIKE = {shortest_prompt_first: "vllm", newest_first: "sarathi"}


def check_equal(case: Case, kernel: Runner, slice_length: int = 1 << 40) -> reference.Outcome:
    """Compare with the twin, where that serves everybody: it calls a queue stuck that a policy may leave waiting."""
    chunks_anywhere = case.cost.compose == COMPOSE_FASTSIM or case.cost.vidur.kv_step == 1024
    assume(chunks_anywhere or kernel.scheduler is not newest_first)
    twin = reference.simulate(case.requests, case.settings, reference.cost_stage_seconds(case.cost))
    assume(set(twin.outcome) == {"done"})
    return kernel_runs.assert_equals_twin(case, slice_length, kernel=kernel)


@pytest.mark.parametrize("policy", TWINS, ids=lambda policy: policy.name)
def test_a_policy_equals_its_twin(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"cases": 0, "restarts": 0, "pipelines": 0, "out of turn": 0}
    monkeypatch.setitem(reference_policies.FORM, LIKE[policy], TWINS[policy])
    monkeypatch.setattr(runner, "ROOM", 0)  # queues have to grow

    @QUIET
    @given(cases(LIKE[policy]), st.sampled_from([1, 7, 1 << 40]))
    def check(case: Case, slice_length: int) -> None:
        twin = check_equal(case, Runner(policy, None), slice_length)
        seen["cases"] += 1
        seen["restarts"] += bool(twin.restarts)
        seen["pipelines"] += case.settings.num_stages > 1
        seen["out of turn"] += any(np.diff([request.scheduled_at for request in twin.requests]) < 0)

    check()
    print(policy.name, seen)
    assert seen["cases"] > EXAMPLES // 2
    assert min(seen.values()) > EXAMPLES // 20


@pytest.mark.parametrize("scheduler", ["vllm", "sarathi", "orca", shortest_prompt_first], ids=str)
def test_a_router_equals_its_twin(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {"cases": 0, "uneven": 0, "restarts": 0}
    name = scheduler if isinstance(scheduler, str) else LIKE[scheduler]
    if name != scheduler:
        monkeypatch.setitem(reference_policies.FORM, name, TWINS[scheduler])
    monkeypatch.setitem(kernel_runs.ROUTER, "least_outstanding", route.ASKED)

    def choose(simulation: reference.Simulation, request: Request) -> int:
        return min(simulation.replicas, key=lambda r: (-r.num_free, r.num_outstanding)).id

    monkeypatch.setattr(reference.Simulation, "choose", choose)

    @settings(QUIET, max_examples=EXAMPLES // 2)
    @given(cases(name, "least_outstanding"))
    def check(case: Case) -> None:
        twin = check_equal(case, Runner(scheduler, most_memory))
        seen["cases"] += 1
        seen["restarts"] += bool(twin.restarts)
        turns = [i % case.settings.num_replicas for i in range(len(twin.requests))]
        seen["uneven"] += [request.replica_id for request in twin.requests] != turns

    check()
    assert seen["cases"] > EXAMPLES // 4
    assert seen["uneven"] > EXAMPLES // 20


TWELVE = load("chat", rate=20.0, num_requests=12, seed=1)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=300), st.integers(0, 5))
@settings(deadline=None)
def test_sort_by(keys: list[int], swaps: int) -> None:
    order = np.random.default_rng(len(keys)).permutation(len(keys)).astype(np.int32)
    for _ in range(2):  # in any order, then nearly in order
        fastsim.sort_by(order, np.array(keys))
        assert order.tolist() == sorted(range(len(keys)), key=lambda i: (keys[i], i))
        order[:swaps] = order[:swaps][::-1].copy()


def nothing(replica: Any, chosen: Any, tokens: Any) -> None:
    return None


def half_a_replica(replicas: Any, request: Any) -> float:
    return 0.5


def twice(replica: Any, chosen: Any, tokens: Any) -> int:
    for i in range(2):
        chosen[i], tokens[i] = replica.waiting[0], 1
    return 2


def too_many_tokens(replica: Any, chosen: Any, tokens: Any) -> int:
    chosen[0], tokens[0] = replica.waiting[0], replica.prefill[replica.waiting[0]] + 1
    return 1


def not_chosen(replica: Any, chosen: Any, tokens: Any) -> int:
    return 1


def too_many(replica: Any, chosen: Any, tokens: Any) -> int:
    return len(chosen) + 1


def writes_facts(replica: Any, chosen: Any, tokens: Any) -> int:
    replica.processed[0] = 1
    return 0


def forgets_the_queue(replica: Any, chosen: Any, tokens: Any) -> int:
    replica.waiting[0] = 77
    return 0


def misspelt(replica: Any, chosen: Any, tokens: Any) -> int:
    return len(replica.wating)


def ninth_replica(replicas: Any, request: Any) -> int:
    return 9


def sorts_a_list(replica: Any, chosen: Any, tokens: Any) -> int:
    first = sorted(replica.waiting)[0] if len(replica.waiting) else 0
    return 0 * int(first)


TABLE = {"a": 1}


def reads_a_table(replica: Any, chosen: Any, tokens: Any) -> int:
    return 0 * TABLE["a"]


def late_replica(replicas: Any, request: Any) -> int:
    return 0 if request.id < 7 else 5


def late_tokens(replica: Any, chosen: Any, tokens: Any) -> int:
    size = 0
    for request in replica.waiting:
        chosen[size] = request
        tokens[size] = replica.prefill[request] + (1 if request == 11 else 0)
        size += 1
    for request in replica.running:
        chosen[size], tokens[size] = request, 1
        size += 1
    return size


def late_index(replica: Any, chosen: Any, tokens: Any) -> int:
    for request in replica.waiting:
        if request == 11:
            return int(replica.prefill[12])
        chosen[0], tokens[0] = request, replica.prefill[request]
        return 1
    return 0


def lazy(replica: Any, chosen: Any, tokens: Any) -> int:
    return 0


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        (nothing, "scheduler", "nothing: it returns None, which is not a number of requests"),
        (half_a_replica, "router", "half_a_replica: it returns 0.5, which is not a replica"),
        (twice, "scheduler", "twice: it chooses request 0 twice"),
        (too_many_tokens, "scheduler", "gives request 0 6 tokens, and 5 are left to process .valid: 1 to 5"),
        (not_chosen, "scheduler", "it chooses -1, which is no request that waits or runs here"),
        (too_many, "scheduler", "it returns 9 requests, and chosen has 8 places"),
        (writes_facts, "scheduler", r"line \d+: only chosen, tokens, memo and notes may be written to"),
        (forgets_the_queue, "scheduler", "it overwrites replica.waiting .use fastsim.sort_by"),
        (misspelt, "scheduler", r"misspelt: line \d+: AttributeError: .* has no attribute 'wating'"),
        (ninth_replica, "router", "it returns replica 9 of 3 .valid: 0 to 2"),
        (reads_a_table, "scheduler", "it refers to TABLE, a dict .valid: numbers"),
        (late_replica, "router", "late_replica: request 7: it returns replica 5 of 2 .valid: 0 to 1"),
        (late_tokens, "scheduler", r"late_tokens: it gives request 11 \d+ tokens of \d+ left"),
        (half_a_replica, "scheduler", "half_a_replica is a router .valid: a function of .replica, chosen, tokens"),
        (len, "scheduler", "<built-in function len> is not a function"),
        (lambda replica: 0, "router", "its parameters are .replica. .valid: .replica, chosen, tokens. for a scheduler"),
        (lambda replicas, request: 0, "router", "its source cannot be read .write it as a def"),
    ],
)
def test_what_is_wrong_is_said(function: Any, kind: str, message: str) -> None:
    given_as: dict[str, Any] = {kind: function}
    with pytest.raises(PolicyError, match=message):
        fastsim.simulate(Deployment.load(None, ["num_replicas=2"]), TWELVE, **given_as)


@pytest.mark.skipif(not COMPILED, reason="Numba is switched off")
def test_what_does_not_compile_is_shown() -> None:
    with pytest.raises(PolicyError, match=r"it creates an array, list.* near `first = sorted\(replica.waiting"):
        fastsim.simulate(None, TWELVE, scheduler=sorts_a_list)


def test_an_index_out_of_bounds_is_no_garbage() -> None:
    with pytest.raises(PolicyError, match=r"late_index: IndexError: .*out of bounds"):
        fastsim.simulate(None, TWELVE, scheduler=late_index)


def test_who_is_never_chosen_is_counted() -> None:
    with pytest.raises(StuckError, match=r"replica 0: lazy leaves 12 requests unserved.* the first is request 0"):
        fastsim.simulate(None, TWELVE, scheduler=lazy)


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
