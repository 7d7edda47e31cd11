"""Source affine: the time of a batch is a sum of given terms, exact in ticks, for every policy and without any data."""

import math
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError
from fastsim.predictors.build import build_cost
from fastsim.predictors.explain import explain
from fastsim.predictors.replicates import replicates
from fastsim.predictors.times.iteration import Iteration, typical
from fastsim.workload import Workload

TICK = 2.0**-20  # s, so that all times are exact
TERMS = {"constant_ns": 2_000_100, "per_token_ns": 1500, "per_sequence_ns": 20_000, "per_context_token_ns": 3}


def deployment(policy: str = "sarathi", *overrides: str, **terms: Any) -> Deployment:
    affine = TERMS | terms
    given = {"model": "meta-llama/Meta-Llama-3-8B", "device": "h100", "max_model_len": 8192}
    scheduler = {"policy": policy}
    return Deployment.load(
        given | {"scheduler": scheduler, "predictor": {"source": "affine", "affine": affine}}, overrides
    )


@pytest.mark.parametrize("policy", ["vllm", "sarathi"])
@pytest.mark.parametrize("stages", [1, 2])
def test_one_request_takes_whole_ticks(policy: str, stages: int) -> None:
    """A prompt of 100 tokens, then decodes with 101, 102, ... tokens of context."""
    workload = Workload(np.zeros(1), np.array([100]), np.array([40]))
    result = fastsim.simulate(
        deployment(policy, f"pipeline_parallel_size={stages}", tick_s=TICK), workload, iterations=True
    )
    assert result.iterations is not None
    rows = result.iterations.to_pylist()
    chunk = [2_000_100 + 1500 * 100 + 20_000 + 3 * 100]
    ns = chunk + [2_000_100 + 1500 + 20_000 + 3 * (100 + step) for step in range(1, 40)]
    expected = [one // 1000 for one in ns for _ in range(stages)]
    assert [(row["end"] - row["start"]) / TICK for row in rows] == expected
    assert result.requests["finished_at"].to_pylist() == [sum(expected) * TICK]
    assert result.config["predictor"] == {"source": "affine", "compose": "affine", "affine": terms(tick_s=TICK)}


def terms(**given: Any) -> dict[str, Any]:
    names = ("constant_ns", "per_token_ns", "per_sequence_ns", "per_context_token_ns")
    more = ("per_prefill_token_ns", "per_decode_ns", "per_attention_pair_ns")
    return dict.fromkeys((*names, *more), 0.0) | {"by_tokens_ns": None, "tick_s": None} | TERMS | given


def test_without_ticks_the_sum_is_not_cut() -> None:
    workload = Workload(np.zeros(1), np.array([100]), np.array([2]))
    result = fastsim.simulate(deployment(per_prefill_token_ns=7, per_decode_ns=11), workload)
    first, second = 2_170_400 + 7 * 100, 2_021_600 + 3 * 101 + 11
    assert result.requests["first_token_at"].to_pylist() == [first * 1e-9]
    assert result.requests["finished_at"].to_pylist() == [first * 1e-9 + second * 1e-9]


@pytest.mark.parametrize("policy", ["vllm_v1", "sarathi"])
def test_a_prompt_takes_its_pairs_and_batches_what_their_tokens_take_besides(policy: str) -> None:
    """A prompt of 100 tokens in chunks of 64 and 36, then decodes that take one token each."""
    size = "max_num_batched_tokens" if policy == "vllm_v1" else "chunk_size"
    workload = Workload(np.zeros(1), np.array([100]), np.array([20]))
    by_tokens = [[1, 500_000], [3, 700_000], [50, 0]]
    one = deployment(
        policy, f"scheduler.{size}=64", "scheduler.max_num_seqs=8", per_attention_pair_ns=50, by_tokens_ns=by_tokens
    )
    result = fastsim.simulate(one, workload, iterations=True)
    assert result.iterations is not None
    seconds = [row["end"] - row["start"] for row in result.iterations.to_pylist()]
    base = [2_000_100 + 1500 * n + 20_000 + 3 * before for n, before in [(64, 64), (36, 100)]]
    prompt = [base[0] + 50 * (64 * 65 // 2), base[1] + 50 * (36 * 64 + 36 * 37 // 2) + 700_000 * 14 / 47]
    decodes = [2_000_100 + 1500 + 20_000 + 3 * (100 + step) + 500_000 for step in range(1, 20)]
    assert seconds == pytest.approx([ns * 1e-9 for ns in (*prompt, *decodes)], rel=1e-9)
    assert fastsim.Deployment.load(result.config["deployment"]).predictor == one.predictor


def test_every_summary_is_whole_and_replicates_are_alike() -> None:
    chat = fastsim.load_workload("chat", rate=4.0, num_requests=50)
    result = fastsim.simulate(deployment(tick_s=TICK), chat, replicates=2)
    assert result.summary["utilisation"]["mfu"] > 0 and result.summary["operators"] == {}
    assert result.summary["warnings"] == []
    assert all(low == high for low, high in result.summary["replicates"]["intervals"].values())
    one = resolve(deployment())
    assert [drawn.built.provenance["replicate"]["number"] for drawn in replicates(one, 2, seed=1)] == [0, 1]


@pytest.mark.parametrize("tick", [None, TICK])
def test_an_iteration_is_explained_by_its_terms(tick: float | None) -> None:
    more = {"per_attention_pair_ns": 2, "by_tokens_ns": [[4, 900], [11, 300]]}
    one = resolve(deployment("sarathi", "pipeline_parallel_size=2", tick_s=tick, per_decode_ns=500, **more))
    found = explain(one, Iteration(((8, 4),), ((2, 10),)))
    ns = 2_000_100.0 + 1500 * 10 + 20_000 * 3 + 3 * (12 + 20) + 500 * 2
    ns += 2 * (8 * 4 + 8 * 9 // 2) + 300 + 600 / 7
    seconds = ns * 1e-9 if tick is None else ns // 1000 * TICK
    assert found["total_ms"] == pytest.approx(2 * 1e3 * seconds, rel=1e-12)
    names = [row["name"] for row in found["operators"]]
    assert names == [
        "constant",
        "per_token",
        "per_sequence",
        "per_context_token",
        "per_decode",
        "per_attention_pair",
        "by_tokens",
    ]
    assert math.fsum(row["share"] for row in found["operators"]) == pytest.approx(1)
    assert explain(one, typical(one))["shares"] == {"given": 1.0}


def test_no_measurements_are_needed() -> None:
    """No operator of this model has been measured, and nothing is read that could be."""
    cost = build_cost(resolve(deployment())).cost
    assert cost.affine.tolist() == [2_000_100, 1500, 20_000, 3, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["predictor={source: affine}"], "predictor.affine: missing; source affine needs its terms"),
        (["predictor.affine.constant_ns=-1"], "predictor.affine.constant_ns: -1 is not a number from 0 up"),
        (["predictor.affine.per_tokens_ns=1"], "unknown setting; did you mean 'predictor.affine.per_token_ns'?"),
        (["predictor.compose=vidur"], "predictor.compose: 'vidur' has no affine times (valid: fastsim)"),
        (
            ["predictor.affine={constant_ns: 5, tick_s: 1}"],
            "a batch of one token takes 5 ns, no tick, which takes 1000",
        ),
        (["predictor.affine.by_tokens_ns=[[1, 5], [1, 6]]"], "by_tokens_ns: 1 tokens do not come in ascending order"),
        (["predictor.affine.by_tokens_ns=[[1, 5, 6]]"], "predictor.affine.by_tokens_ns"),
        (["predictor.affine.by_tokens_ns=7"], "predictor.affine.by_tokens_ns: 7 is not a list of pairs [tokens, ns]"),
        (
            ["predictor.affine.by_tokens_ns=[[1, 0], [64, -3000000.0]]"],
            "a batch of 64 tokens takes -883708 ns, no time",
        ),
        (["predictor.affine={constant_ns: 0}"], "a batch of one token takes 0 ns, no time (e.g. constant_ns: 2000000)"),
    ],
)
def test_what_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(deployment("sarathi", *overrides))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_terms_of_another_source_are_said_to_change_nothing() -> None:
    one = resolve(deployment("sarathi", "predictor.source=default"))
    assert one.warnings == ("predictor.affine: changes nothing, as predictor.source is default",)
    one = resolve(deployment("sarathi", "predictor.kernels=sglang"))
    assert one.warnings == ("predictor.kernels: changes nothing, as predictor.source is affine",)
