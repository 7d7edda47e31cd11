"""The verdict on deployments that are each made short of one thing, or of nothing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.result.metrics.objectives import parse_all
from fastsim.result.result import Result
from fastsim.workload import Workload
from fastsim.workload.loading import load


def judged(
    rate: float, prompt: int, output: int, number: int = 600, objectives: tuple[str, ...] = (), **fields: Any
) -> dict[str, Any]:
    """Return the verdict on Llama-3-8B on one H100, where equal requests arrive in a Poisson process."""
    overrides = [f"{name.replace('__', '.')}={value}" for name, value in fields.items()]
    arrived = np.random.default_rng(0).exponential(1 / rate, number).cumsum()
    alike = Workload(arrived, np.full(number, prompt), np.full(number, output), None, "alike")
    result = fastsim.simulate(Deployment.load(None, overrides), alike, objectives=objectives)
    verdict: dict[str, Any] = result.summary["verdict"]
    begin = "Not saturated" if verdict["short_of"] == "nothing" else f"Short of {verdict['short_of']}"
    assert verdict["sentence"].startswith(f"{begin}: ") and verdict["sentence"].endswith(".")
    return verdict


def test_of_nothing() -> None:
    verdict = judged(rate=2, prompt=500, output=100)
    assert verdict["sentence"] == "Not saturated: the fullest limit, KV blocks, is at 0 %."
    assert verdict["short_of"] == "nothing"
    assert 0.5 < verdict["margin"] <= 1


def test_of_batch_slots() -> None:
    verdict = judged(rate=10, prompt=100, output=200, scheduler__max_num_seqs=4)
    assert verdict["short_of"] == "batch slots"
    assert verdict["margin"] == -verdict["backlog"] < -0.05
    assert verdict["use"]["slots"] > 0.9
    assert "max_num_seqs" in verdict["sentence"]


def test_of_tokens_in_a_batch() -> None:
    verdict = judged(rate=8, prompt=2000, output=4, scheduler__max_num_batched_tokens=32)
    assert verdict["short_of"] == "batch slots"
    assert "tokens per batch" in verdict["sentence"]


def test_of_kv_memory() -> None:
    verdict = judged(rate=10, prompt=1000, output=200, scheduler__num_blocks=500)
    assert verdict["short_of"] == "KV memory"
    assert verdict["use"]["kv"] > 0.8


def test_of_the_limit_that_makes_first_batches_late() -> None:
    """Requests with long outputs wait for a small share of their time, but longer than the objective allows."""

    def under(objective: str) -> dict[str, Any]:
        return judged(3, 1000, 800, number=200, scheduler__num_blocks=2225, objectives=(objective,))

    late = under("scheduling_delay:p99<100ms")
    assert late["waiting"] < 0.1 and late["backlog"] < 0.05
    assert late["short_of"] == "KV memory"
    assert under("scheduling_delay:p99<60s")["short_of"] == "nothing"


def test_of_compute() -> None:
    """Bursts of prompts are processed before the end, at a high share of the peak FLOPs."""
    verdict = judged(rate=15, prompt=2000, output=2, scheduler__max_num_batched_tokens=4096)
    assert verdict["short_of"] == "compute"
    assert verdict["backlog"] < 0.05


def test_of_replicas() -> None:
    """At twice the rate, no scheduler setting lets one GPU of this kind keep up."""
    verdict = judged(rate=30, prompt=2000, output=2, scheduler__max_num_batched_tokens=4096)
    assert verdict["short_of"] == "replicas"
    assert verdict["margin"] < -0.05


def test_of_bandwidth() -> None:
    """Nothing waits, but a token takes as long as reading the weights does."""
    verdict = judged(rate=1, prompt=200, output=300, number=100, objectives=("tbt:p50<4ms",))
    assert verdict["short_of"] == "bandwidth"
    assert "tbt" in verdict["sentence"]
    assert judged(rate=1, prompt=200, output=300, number=100)["short_of"] == "nothing"


def test_of_compute_where_prompts_make_gaps() -> None:
    """Batches of prompts only, as vLLM v0 forms them, delay decodes from time to time."""
    verdict = judged(3, 3000, 300, number=200, scheduler__policy="vllm", objectives=("tbt:p99<50ms",))
    assert verdict["short_of"] == "compute"
    assert verdict["uneven"] > 3
    assert verdict["prompts"] < verdict["decoding"]


def test_a_stored_result_is_judged_anew(tmp_path: Path) -> None:
    fastsim.simulate(None, load("chat", num_requests=100)).save(tmp_path / "out")
    result = Result.load(tmp_path / "out")
    assert result.summary["verdict"]["short_of"] == "nothing"
    result.judge(parse_all(["tbt:p50<4ms"]))
    assert result.summary["verdict"]["short_of"] == "bandwidth"
    result.judge(parse_all(["tbt:p50<40ms"]))
    assert result.summary["verdict"]["short_of"] == "nothing"


@pytest.mark.parametrize("number", [1, 2])
def test_of_very_few_requests(number: int) -> None:
    assert judged(rate=1, prompt=10, output=1, number=number)["short_of"] == "nothing"
