"""Each mistake in a policy or router that a user writes is reported in one sentence."""

from typing import Any

import numba
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.errors import PolicyError, StuckError
from fastsim.workload.loading import load

COMPILED = not numba.config.DISABLE_JIT
TWELVE = load("chat", rate=20.0, num_requests=12, seed=1)


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
        (too_many_tokens, "scheduler", "it gives 6 tokens to request 0, which has 5 left to process .valid: 1 to 5"),
        (not_chosen, "scheduler", "it chooses request -1, which neither waits nor runs on this replica"),
        (too_many, "scheduler", "it returns 9 requests, but chosen has room for 8"),
        (writes_facts, "scheduler", r"line \d+: only chosen, tokens, memo and notes may be written to"),
        (forgets_the_queue, "scheduler", "it overwrites replica.waiting .use fastsim.sort_by"),
        (misspelt, "scheduler", r"misspelt: line \d+: AttributeError: .*wating"),
        (ninth_replica, "router", "it returns replica 9 of 3 .valid: 0 to 2"),
        (reads_a_table, "scheduler", "it refers to TABLE, a dict .valid: numbers"),
        (late_replica, "router", "late_replica: request 7: it returns replica 5 of 2 .valid: 0 to 1"),
        (late_tokens, "scheduler", r"late_tokens: it gives \d+ tokens to request 11, which has \d+ left to process"),
        (half_a_replica, "scheduler", "half_a_replica is a router .valid: a function of .replica, chosen, tokens"),
        (len, "scheduler", "<built-in function len> is not a function"),
        (lambda replica: 0, "router", "its parameters are .replica. .valid: .replica, chosen, tokens. for a scheduler"),
        (lambda replicas, request: 0, "router", "its source cannot be read .write it as a def"),
    ],
)
def test_a_mistake_is_reported(function: Any, kind: str, message: str) -> None:
    given_as: dict[str, Any] = {kind: function}
    with pytest.raises(PolicyError, match=message):
        fastsim.simulate(Deployment.load(None, ["num_replicas=2", "scheduler.policy=sarathi"]), TWELVE, **given_as)


@pytest.mark.skipif(not COMPILED, reason="Numba is switched off")
def test_a_line_that_does_not_compile_is_shown() -> None:
    with pytest.raises(PolicyError, match=r"it creates an array, list.* near `first = sorted\(replica.waiting"):
        fastsim.simulate(None, TWELVE, scheduler=sorts_a_list)


def test_an_index_out_of_bounds_is_reported() -> None:
    with pytest.raises(PolicyError, match="late_index: IndexError: "):
        fastsim.simulate(None, TWELVE, scheduler=late_index)


def test_requests_that_are_never_chosen_are_counted() -> None:
    with pytest.raises(StuckError, match=r"replica 0: lazy leaves 12 requests unserved.* the first is request 0"):
        fastsim.simulate(None, TWELVE, scheduler=lazy)
