"""Prefill and decode on different replicas, from a file to a result."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.errors import InputError
from fastsim.predictors.build import build_cost
from fastsim.result.columns import BREAKDOWN
from fastsim.simulation.probe import Prober
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.loading import load

CHAT = load("chat", rate=8.0, num_requests=200, seed=3)
TERMS = {"source": "affine", "affine": {"constant_ns": 4_000_000, "per_token_ns": 20_000}}
TWO: list[dict[str, Any]] = [
    {"name": "first", "role": "prefill", "num_replicas": 2},
    {"name": "second", "role": "decode", "num_replicas": 2},
]
LINK: dict[str, Any] = {"link_gb_s": 10, "latency_us": 20}


def described(pools: list[dict[str, Any]] = TWO, link: dict[str, Any] | None = LINK, **more: Any) -> Deployment:
    one = {"model": "llama-3-8b", "device": "h100", "predictor": TERMS, "pools": pools, "kv_transfer": link}
    return Deployment.load({**one, **more})


def test_a_request_is_prefilled_in_one_pool_and_decoded_in_the_other() -> None:
    result = fastsim.simulate(described(), CHAT)
    columns = result.columns()
    assert set(columns["prefill_replica_id"].tolist()) == {0, 1}
    assert set(columns["replica_id"].tolist()) == {2, 3}
    assert (columns["pool"] == "second").all()
    parts = [columns[column.name] for column in BREAKDOWN] + [columns["transfer_wait"], columns["transfer"]]
    np.testing.assert_allclose(np.sum(parts, axis=0), columns["e2e"], rtol=0, atol=1e-9)
    assert all((part >= -1e-12).all() for part in parts)
    # A link of 10 GB/s alone moves 16 tokens of 128 KiB each in 0.21 ms; no transfer is faster.
    blocks = -(-columns["num_prompt_tokens"] // 16)
    least = blocks * 16 * 131072 / 10e9 + 20e-6
    assert (columns["transfer"] >= least - 1e-9).all()
    assert np.isclose(columns["transfer"], least, atol=1e-9).any()
    first, second = result.summary["pools"]
    prompts, outputs = int(columns["num_prompt_tokens"].sum()), int(columns["num_output_tokens"].sum())
    assert first["tokens"] == prompts and second["tokens"] == outputs  # the prompt's last token is computed twice
    assert first["requests"] == second["requests"] == 200


def test_a_slower_link_takes_longer_and_layers_may_leave_before_the_prefill_ends() -> None:
    def transfers(**changes: Any) -> float:
        return float(fastsim.simulate(described(link={**LINK, **changes}), CHAT).column("transfer").mean())

    assert transfers(layerwise=True) < transfers() < transfers(link_gb_s=2)


def test_short_prompts_stay_where_they_decode() -> None:
    columns = fastsim.simulate(described(link={**LINK, "min_prompt_tokens": 300}), CHAT).columns()
    stays = columns["num_prompt_tokens"] < 300
    assert 0 < stays.sum() < 200
    assert (columns["prefill_replica_id"][stays] == -1).all() and (columns["prefill_replica_id"][~stays] >= 0).all()
    assert (columns["transfer"][stays] == 0).all() and (columns["transfer"][~stays] > 0).all()


def test_where_memory_to_decode_is_short_prefills_wait_with_their_blocks() -> None:
    pools = [TWO[0], {**TWO[1], "num_replicas": 1, "scheduler": {"num_blocks": 300}}]
    result = fastsim.simulate(described(pools), load("chat", rate=30.0, num_requests=120, seed=3))
    first, second = result.summary["pools"]
    assert second["peak_kv"] > 0.9
    assert result.summary["breakdown"]["mean"]["transfer_wait"] > 1.0
    roomy = fastsim.simulate(described(TWO), load("chat", rate=30.0, num_requests=120, seed=3)).summary
    assert first["peak_kv"] > 2 * roomy["pools"][0]["peak_kv"]


def test_prefixes_are_found_on_both_sides() -> None:
    number, shared = 120, 20  # blocks that every other prompt begins with
    hashes = [[100 * (i % 2) + place for place in range(shared)] for i in range(number)]
    lengths = np.full(number, 400), np.full(number, 20)
    turns = Workload(np.arange(number) / 4.0, *lengths, block_hashes=BlockHashes.of(hashes))
    plain = fastsim.simulate(described(scheduler={"enable_prefix_caching": False}), turns)
    cached = fastsim.simulate(described(), turns)
    assert cached.column("num_cached_tokens").max() == 320
    assert cached.column("transfer").mean() < 0.5 * plain.column("transfer").mean()


def test_sessions_closed_loops_many_runs_and_probes() -> None:
    users = CHAT.with_users(6)
    columns = fastsim.simulate(described(), users).columns()
    assert np.isfinite(columns["finished_at"]).all()
    (run,) = fastsim.simulate_many([(described(), CHAT)])
    assert run.summary is not None
    assert run.summary["latency"] == fastsim.simulate(described(), CHAT).summary["latency"]
    resolved = fastsim.resolve(described())
    unit = load("chat", rate=1.0, num_requests=200, seed=3)
    prober = Prober(resolved, build_cost(resolved).costs, unit)
    assert prober.at(8.0, []).simulated == 200
    assert prober.throughput() > 0


def test_a_run_repeats_from_its_config(tmp_path: Path) -> None:
    one = fastsim.simulate(described(router={"policy": "least_outstanding"}), CHAT)
    again = fastsim.simulate(Deployment.load(one.config["deployment"]), CHAT)
    np.testing.assert_array_equal(one.column("finished_at"), again.column("finished_at"))
    one.save(tmp_path / "run")
    assert fastsim.Result.load(tmp_path / "run").requests["prefill_replica_id"].null_count == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"pools": TWO[:1]}, "pools[0].role: prefill has no partner; add a pool of role decode"),
        ({"pools": TWO[1:]}, "pools[0].role: decode has no partner; add a pool of role prefill"),
        ({"pools": TWO[::-1]}, "pools: those of role prefill come first"),
        ({"pools": [*TWO, {"name": "third"}]}, "pools[2].role: mixed stands beside prefill and decode"),
        ({"link": None}, "kv_transfer: missing; KV goes from prefill to decode over a link"),
        ({"link": {"link_gb_s": 0}}, "kv_transfer.link_gb_s: 0 is not a number above 0"),
        ({"link": {"latency_us": 5}}, "kv_transfer.link_gb_s: missing"),
        ({"pools": []}, "kv_transfer: KV goes from pools of role prefill to those of role decode"),
        ({"pools": [{"name": "a"}]}, "kv_transfer: no pool has role prefill or decode"),
        ({"router": {"policy": "random"}}, "router.policy: random is not simulated with prefill and decode apart"),
        ({"scheduler": {"scheduling_policy": "priority"}}, "pools[0].scheduler.scheduling_policy: priority is not"),
        ({"pools": [TWO[0], {**TWO[1], "kv_cache_dtype": "fp8"}]}, "pools[1].kv_cache_dtype: fp8 is not that of pool"),
        (
            {"pools": [TWO[0], {**TWO[1], "scheduler": {"num_blocks": 8}}]},
            "chat: request 0: prompt and output need",
        ),
        ({"pools": [{**TWO[0], "scheduler": {"num_blocks": 3}}, TWO[1]]}, "chat: request 0: the prompt needs"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        fastsim.simulate(described(**changes), CHAT)
    assert str(caught.value).startswith(sentence), caught.value
    assert "\n" not in str(caught.value)
