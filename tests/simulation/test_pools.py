"""Deployments with pools: replicas of different kinds behind one router, from a file to a result."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.errors import InputError
from fastsim.simulation.probe import Prober
from fastsim.workload.loading import load

CHAT = load("chat", rate=8.0, num_requests=250, seed=3)
TERMS = {"source": "affine", "affine": {"constant_ns": 4_000_000, "per_token_ns": 9000}}
SLOW = {"source": "affine", "affine": {"constant_ns": 9_000_000, "per_token_ns": 30_000}}
TWO: list[dict[str, Any]] = [
    {"name": "fast", "num_replicas": 2},
    {
        "name": "slow",
        "num_replicas": 3,
        "device": "a100",
        "tensor_parallel_size": 2,
        "predictor": SLOW,
        "scheduler": {"max_num_seqs": 16},
    },
]


def described(pools: list[dict[str, Any]] = TWO, **more: Any) -> Deployment:
    one = {"model": "llama-3-8b", "device": "h100", "predictor": TERMS, "pools": pools}
    return Deployment.load({**one, "router": {"policy": "least_outstanding"}, **more})


def test_pools_of_one_kind_are_the_same_replicas_without_pools() -> None:
    alike: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "num_replicas": 2}]
    one = fastsim.simulate(described([], num_replicas=3), CHAT)
    two = fastsim.simulate(described(alike), CHAT)
    expected, got = one.columns(), two.columns()
    assert set(got) == {*expected, "pool"}
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values, err_msg=name)
    assert got["pool"].tolist() == [["a", "b", "b"][r] for r in got["replica_id"]]
    for section in ("latency", "throughput", "totals", "breakdown", "series", "replicas"):
        assert two.summary[section] == one.summary[section], section
    for section in ("utilisation", "cost"):  # sums over pools are rounded
        rounded = {name: pytest.approx(value) for name, value in one.summary[section].items()}
        assert two.summary[section] == rounded, section


def test_each_pool_has_its_own_gpus_memory_and_times() -> None:
    result = fastsim.simulate(described(), CHAT)
    fast, slow = result.summary["pools"]
    assert (fast["gpus"], slow["gpus"], result.summary["cost"]["gpus"]) == (2, 6, 8)
    assert fast["requests"] + slow["requests"] == 250 and min(fast["requests"], slow["requests"]) > 0
    assert fast["kv_blocks"] != slow["kv_blocks"]
    assert result.summary["cost"]["dollars"] == fast["dollars"] + slow["dollars"]
    kinds = fastsim.resolve(described()).kinds
    assert [kind.memory.num_blocks for kind in kinds] == [fast["kv_blocks"], slow["kv_blocks"]]
    columns = result.columns()
    own = columns["pool"] == "slow"
    # Nothing else runs in an iteration of a request that is alone: nine milliseconds and what its tokens take.
    least = 9e-3 + 30e-6 * columns["num_prompt_tokens"][own]
    assert (columns["ttft"][own] >= least - 1e-12).all()
    assert columns["replica_id"][own].min() == 2


def test_a_run_repeats_from_its_config(tmp_path: Path) -> None:
    one = fastsim.simulate(described(router={"policy": "random"}), CHAT)
    again = fastsim.simulate(Deployment.load(one.config["deployment"]), CHAT)
    np.testing.assert_array_equal(one.columns()["finished_at"], again.columns()["finished_at"])
    assert one.config["deployment"] == again.config["deployment"]
    one.save(tmp_path / "run")
    loaded = fastsim.Result.load(tmp_path / "run")
    assert loaded.requests["pool"].to_pylist() == one.requests["pool"].to_pylist()


@pytest.mark.parametrize("policy", ["least_outstanding", "round_robin", "random", "least_kv"])
def test_prompts_go_to_the_pool_that_takes_their_length(policy: str) -> None:
    pools = [{**TWO[0], "max_prompt_tokens": 400}, TWO[1]]
    columns = fastsim.simulate(described(pools, router={"policy": policy, "pools": "prompt_length"}), CHAT).columns()
    short = columns["num_prompt_tokens"] <= 400
    assert 0 < short.sum() < 250
    np.testing.assert_array_equal(columns["pool"] == "fast", short)


def test_the_cheapest_pool_with_room_is_asked_first() -> None:
    pools = [{**TWO[1], "name": "dear"}, {**TWO[0], "name": "cheap", "max_outstanding": 2}]
    given = described(pools, router={"policy": "least_outstanding", "pools": "cost"})
    columns = fastsim.simulate(given, CHAT).columns()
    counted = {}
    for name in ("cheap", "dear"):
        own = columns["pool"] == name
        counted[name] = int(own.sum())
        for r in np.unique(columns["replica_id"][own]):
            here = columns["replica_id"] == r
            arrived, finished = columns["arrived_at"][here], columns["finished_at"][here]
            present = [int((finished[:i] > arrived[i]).sum()) for i in range(len(arrived))]
            if name == "cheap":
                assert max(present) < 2
    assert min(counted.values()) > 0
    all_cheap = fastsim.simulate(described(pools, router=given.router.model_dump()), CHAT.head(1)).columns()
    assert all_cheap["pool"].tolist() == ["cheap"]


def test_a_heavier_replica_takes_more_requests() -> None:
    def shares(weight: float) -> float:
        pools: list[dict[str, Any]] = [{"name": "a", "weight": weight}, {"name": "b"}]
        return float((fastsim.simulate(described(pools), CHAT).columns()["pool"] == "a").mean())

    assert 0.4 < shares(1.0) < 0.6 < shares(3.0)


def test_a_probe_of_pools_equals_the_run() -> None:
    resolved = fastsim.resolve(described())
    from fastsim.predictors.build import build_cost

    unit = load("chat", rate=1.0, num_requests=250, seed=3)
    probed = Prober(resolved, build_cost(resolved).costs, unit).at(8.0, [])
    assert probed.simulated == 250
    (run,) = fastsim.simulate_many([(described(), CHAT)])
    assert run.summary is not None
    assert run.summary["latency"] == fastsim.simulate(described(), CHAT).summary["latency"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_replicas": 2}, "num_replicas: 2 is given besides pools"),
        ({"pools": [{"name": "a"}, {"name": "a"}]}, "pools[1].name: 'a' is the name of another pool"),
        ({"pools": [{"name": "a", "role": "both"}]}, "pools[0].role: 'both' is unknown"),
        ({"pools": [{"num_replicas": 2}]}, "pools[0].name: missing"),
        ({"pools": [{"name": "a"}, {"name": "b", "device": "h1000"}]}, "pools[1]: device: 'h1000' is unknown"),
        (
            {"pools": [{"name": "a"}, {"name": "b", "scheduler": {"block_size": 32}}]},
            "pools[1].scheduler.block_size: 32 differs from 16 of pool a",
        ),
        (
            {"pools": [{"name": "a"}, {"name": "b", "scheduler": {"policy": "sarathi"}}]},
            "pools[1].scheduler.policy: sarathi differs from vllm_v1 of pool a",
        ),
        (
            {"router": {"policy": "random", "pools": "prompt_length"}},
            "pools[0].max_prompt_tokens: missing; router.pools prompt_length reads it",
        ),
        ({"router": {"policy": "random", "pools": "cost"}}, "router.policy: random does not count the requests"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        given = {"pools": [{"name": "a"}, {"name": "b"}], **changes}
        fastsim.simulate(described(**given), CHAT)
    assert str(caught.value).startswith(sentence), caught.value
    assert "\n" not in str(caught.value)


def test_a_pool_that_cannot_hold_a_request_is_named() -> None:
    pools: list[dict[str, Any]] = [{"name": "large"}, {"name": "small", "scheduler": {"num_blocks": 4}}]
    with pytest.raises(InputError, match=r"a replica can give only 4 \(pool small\)"):
        fastsim.simulate(described(pools), CHAT)
