"""What is read off a scheduling function's source, and that it is asked only where its choice may change."""

from typing import Any

import numba
import numpy as np
import pytest
from user_policies import newest_first, prompts_first, shortest_prompt_first, sorts_crowds

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.kernels.custom import leaps
from fastsim.simulation.custom.reads import Reads, reads_of
from fastsim.workload.loading import load

COMPILED = not numba.config.DISABLE_JIT
HEAD = "def f(replica, chosen, tokens):\n    size = 0\n"
RUN = "    for request in replica.running:\n        chosen[size], tokens[size] = request, 1\n        size += 1\n"
SORT = "    if replica.num_joined > 0:\n        fastsim.sort_by(replica.waiting, replica.prefill)\n"
ADMIT = "    for request in replica.waiting:\n        chosen[size], tokens[size] = request, replica.prefill[request]\n"
END = "    return size\n"
STEADY = Reads(steady=True)


def read(*parts: str, **functions: str) -> Reads:
    lines = {"fastsim": "import fastsim as fastsim", "np": "import numpy as np", "math": "import math as math"}
    return reads_of("f", {**functions, "f": "".join([HEAD, *parts, END])}, lines)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([RUN], STEADY),
        ([RUN, ADMIT], STEADY),
        ([ADMIT, RUN, "    if replica.free_blocks < replica.num_blocks // 2:\n        size -= 1\n"],
         Reads(steady=True, free_blocks=True)),
        ([RUN, "    if replica.num_joined > 3:\n        size -= 1\n"], Reads(steady=True, num_joined=True)),
        ([RUN, "    size = int(math.floor(np.sqrt(max(size, 0.0))))\n"], STEADY),
        ([RUN, "    last = replica.running[size - 1]\n    size -= replica.arrived_at[last] > 1.0\n"], STEADY),
    ],
)  # fmt: skip
def test_what_stays_the_same(parts: list[str], expected: Reads) -> None:
    assert read(*parts) == expected


@pytest.mark.parametrize(
    "part",
    [
        "    size -= replica.now > 1.0\n",
        "    size -= replica.processed[replica.running[0]] > 100\n",
        "    size -= replica.blocks[replica.running[0]] > 5\n",
        "    replica.memo[0] += 1\n",
        "    replica.notes[0] += 1\n",
        "    size -= replica.prefill[7] > 5\n",  # a request that may be on another replica, or computed by now
        "    other = replica.running[0] + 1\n    size -= replica.prefill[other] > 5\n",
        "    size -= chosen[0] > 5\n",
        "    chosen[0] += 1\n",
        "    size -= np.random.rand() > 0.5\n",
        "    view = replica\n    size -= view.now > 1.0\n",
        "    size -= replica[0] > 1.0\n",
        "    queue = replica.waiting\n    queue[0], queue[1] = queue[1], queue[0]\n",
        "    replica.waiting[0] = replica.waiting[1]\n",
        "    print(size)\n",
        "    fastsim.sort_by(replica.running, replica.prefill)\n",
        "    fastsim.sort_by(chosen, replica.prefill)\n",
        "    size -= sum(1 for request in replica.waiting) > 3\n",
        "    size += replica.waiting.argmin()\n",
        "    size += unknown(size)\n",
    ],
)
def test_what_changes_or_is_not_understood(part: str) -> None:
    assert not read(RUN, part).steady


@pytest.mark.parametrize(
    ("sort", "field"),
    [
        (SORT, "prefill"),
        (SORT.replace(" > 0", ""), "prefill"),
        ("    fastsim.sort_by(replica.waiting,\n        replica.num_output_tokens)\n", "num_output_tokens"),
        ("    if size == 0:\n        size = 0\n" + SORT, "prefill"),
    ],
)
def test_the_order_of_the_queue(sort: str, field: str) -> None:
    for more, steady in (("", True), ("    size -= replica.now > 1.0\n", False)):
        found = read(sort, RUN, ADMIT, more)
        assert (found.order, found.sorts, found.num_joined, found.steady) == (field, False, False, steady)
        assert found.sort is not None
        assert found.sort.lineno == next(i for i, line in enumerate((HEAD + sort).splitlines(), 1) if "sort_by" in line)


@pytest.mark.parametrize(
    ("parts", "sorts"),
    [
        ([ADMIT, SORT], True),  # looks at the queue before
        ([SORT, SORT, ADMIT], True),
        (["    if size == 0:\n        return 0\n", SORT, ADMIT], True),
        ([SORT.replace("> 0", "> 1"), ADMIT], True),
        ([SORT.replace("prefill", "memo"), ADMIT], True),
        ([SORT, "    queue = replica.waiting\n"], False),
    ],
)
def test_no_order_of_the_queue(parts: list[str], sorts: bool) -> None:
    found = read(*parts)
    assert (found.order, found.sorts) == ("", sorts)


def test_functions_that_a_function_calls() -> None:
    call, part = "    size = g(replica, chosen, size)\n", "def g(view, {}, n):\n    {}\n    return n\n"
    assert read(call, g=part.format("out", "n += view.num_joined; out[n] = view.waiting[0]")).steady
    assert not read(call, g=part.format("out", "n += view.now > 1.0")).steady
    assert not read(call, g=part.format("out", "n += out[0]")).steady
    assert not read(call, g=part.format("out", "other = view")).steady
    assert not read("    size = g(replica.waiting, chosen, size)\n", g=part.format("out", "view[0] = 1")).steady


@pytest.mark.skipif(COMPILED, reason="calls are counted where functions are interpreted")
@pytest.mark.parametrize("policy", [shortest_prompt_first, prompts_first, sorts_crowds, newest_first], ids=str)
def test_a_leap_changes_nothing(policy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are the same when the function is asked before every iteration."""
    runs = []
    run_alone = leaps._run_alone

    def counted(*arguments: Any) -> int:
        runs.append(1)
        return run_alone(*arguments)

    monkeypatch.setattr(leaps, "_run_alone", counted)
    named = Deployment.load(None, ["scheduler.policy=sarathi", "scheduler.max_num_seqs=8", "scheduler.num_blocks=300"])
    requests = load("chat", rate=8.0, num_requests=60, seed=3)
    results = []
    for reads in (reads_of, lambda *_: Reads()):
        monkeypatch.setattr("fastsim.simulation.custom.source.reads_of", reads)
        results.append(fastsim.simulate(named, requests, scheduler=policy, iterations=True))
    leaping, stepping = results
    # One that sorts whenever several have joined is asked again as long as several wait.
    most = {newest_first: 0.0, sorts_crowds: 0.9}.get(policy, 0.25)
    assert len(runs) <= stepping.summary["totals"]["iterations"] * most
    assert leaping.iterations is not None and stepping.iterations is not None
    assert leaping.iterations.equals(stepping.iterations)
    for name in ("scheduled_at", "first_token_at", "finished_at"):
        np.testing.assert_array_equal(leaping.column(name), stepping.column(name))
