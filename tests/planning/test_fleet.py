"""A fleet serves what was asked for, and one replica fewer does not."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import of_pools, resolve
from fastsim.errors import CatalogError, ConfigError, InputError
from fastsim.planning.fleet import SIZES, fleets, layouts, rate_of
from fastsim.planning.mixes import Mix, cheapest_mix
from fastsim.planning.stream import Source
from fastsim.planning.trials import CONFIRM, CONFIRMING, Trials
from fastsim.result.metrics.objectives import DEFAULTS, met, parse_all
from fastsim.workload.loading import load as load_workload
from fastsim.workload.write import save


def test_a_fleet_is_as_large_as_it_must_be() -> None:
    made, _ = fleets(60.0, devices=["h100", "a100"], num_requests=3000, replicates=3)
    assert [one.device for one in made] == ["h100", "a100"]
    for one in made:
        whole = Deployment.load(one.deployment)
        assert one.gpus == one.num_replicas * (one.tensor_parallel_size or 0)
        assert one.dollars_per_million_requests == pytest.approx(one.dollars_per_hour / 3600 / 60 * 1e6)
        assert one.span > 200 and one.num_requests > 60 * 200
        # It holds in a longer run of other requests, and the traffic may grow by the margin.
        trials = Trials(resolve(whole), Source("chat", 0), DEFAULTS)
        assert trials.at(60.0, 5 * one.num_requests, draw=77).met
        assert one.margin >= 0.01
        assert trials.at(60.0 * (1 + one.margin), one.num_requests).met
        assert one.margin_is_least or not trials.at(60.0 * (1 + one.margin) * 1.02, one.num_requests).met
        assert one.chance in (0, 1 / 3, 2 / 3, 1)
        assert 0.9 < one.goodput <= 1
        fewer = trials.with_replicas(resolve(whole.model_copy(update={"num_replicas": one.num_replicas - 1})))
        assert not fewer.at(60.0, 5 * one.num_requests, draw=77).met
        assert one.tight.startswith(f"{one.num_replicas - 1} miss")


def test_a_fleet_for_a_burst_is_not_one_for_good() -> None:
    """1,000 requests at 100 a second are over in 10 s, before any queue has grown."""
    made, _ = fleets(100.0, devices=["h100"], num_requests=1000, replicates=0)
    whole = Deployment.load(made[0].deployment)
    requests = load_workload("chat", rate=100.0, num_requests=40_000, seed=5)
    summary = fastsim.simulate(whole, requests, objectives=DEFAULTS, detail=False).summary
    assert summary["goodput"]["share"] > 0.95
    assert all(met(objective, summary) for objective in DEFAULTS)


def test_rates_of_users() -> None:
    assert rate_of(None, 3000, 2.0) == 100.0
    assert rate_of(5.0, None, None) == 5.0
    refused = ((None, None, None), (1.0, 1, 1.0), (0.0, None, None), (None, -4, 1.0), (None, 4, 0.0), (None, 4, None))
    for rate, users, per_user in refused:
        with pytest.raises(ConfigError):
            rate_of(rate, users, per_user)


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(CatalogError, match="device: 'h10' is unknown; valid: a100"):
        fleets(5.0, devices=["h10"])


def test_the_command() -> None:
    arguments = [
        "fleet",
        "--users",
        "600",
        "--per-user",
        "1",
        "--gpu",
        "h100",
        "--requests",
        "1000",
        "--replicates",
        "1",
    ]
    ran = CliRunner().invoke(cli, arguments)
    assert ran.exit_code == 0, ran.output
    assert "10 requests/s (600 users at 1 per minute each)" in ran.output
    made = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    assert made["fleets"][0]["num_replicas"] == 1
    hopeless = CliRunner().invoke(cli, [*arguments, "--slo", "tbt:p50<1ms"])
    assert hopeless.exit_code == 0
    assert "h100: no number of replicas meets tbt:p50<1ms" in hopeless.stdout
    assert "1 replica held in" in ran.output


def test_users_who_wait_are_served_by_enough_replicas(tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.write_text(
        "lengths: {kind: fixed, num_prompt_tokens: 512, num_output_tokens: 64}\n"
        "gaps: {kind: closed_loop, concurrency: 8}\n"
    )
    arguments = [
        "fleet",
        "--workload",
        str(loop),
        "--gpu",
        "h100",
        "--requests",
        "1000",
        "--slo",
        "e2e:p90<1s",
        "--json",
    ]
    ran = CliRunner().invoke(cli, [*arguments, "--users", "100"])
    assert ran.exit_code == 0, ran.output
    (made,) = json.loads(ran.stdout)["fleets"]
    whole = Deployment.load(made["deployment"])
    users = fastsim.load_workload(loop, num_requests=1000).with_users(100)
    assert fastsim.simulate(whole, users).summary["latency"]["e2e"]["p90"] < 1
    refused = CliRunner().invoke(cli, [*arguments, "--rate", "5"])
    assert isinstance(refused.exception, ConfigError)
    assert "a closed loop has no rate; give the whole number of its users" in str(refused.exception)
    # Requests of a file are sent by users too, whatever their times.
    requests = tmp_path / "requests.csv"
    save(replace(users, arrived_at=np.arange(1000.0), think_time=None, max_concurrency=None), requests)
    of_file = [str(requests) if argument == str(loop) else argument for argument in arguments]
    (again,) = json.loads(CliRunner().invoke(cli, [*of_file, "--users", "100"]).stdout)["fleets"]
    assert again == made


def test_users_that_are_refused(tmp_path: Path) -> None:
    requests = tmp_path / "requests.csv"
    header = "arrived_at,num_prompt_tokens,num_output_tokens,session_id\n"
    requests.write_text(header + "".join(f"{second},512,64,{second // 2}\n" for second in range(20)))
    for given, said in (
        (
            ["--users", "2"],
            "requests.csv: users: 2 cannot wait for answers, as each turn of its sessions arrives at a ti",
        ),
        (["--users", "2.5"], "users: 2.5 is not a whole number of users from 1 (e.g. 3000)"),
        (["--users", "0"], "users: 0 is not a whole number of users from 1 (e.g. 3000)"),
        (["--rate", "2", "--per-user", "2"], "per-user: the requests a minute belong to users"),
        (["--users", "2", "--rate", "3"], "fleet: give either a rate or a number of users"),
    ):
        ran = CliRunner().invoke(cli, ["fleet", "--gpu", "h100", "--workload", str(requests), *given])
        assert isinstance(ran.exception, InputError)
        assert said in str(ran.exception)


TERMS = {"constant_ns": 4_000_000, "per_prefill_token_ns": 20_000, "per_sequence_ns": 30_000}
POOLED = {
    "model": "meta-llama/Llama-3.1-8B",
    "device": "h100",
    "max_model_len": 8192,
    "predictor": {"source": "affine", "affine": TERMS},
    "router": {"policy": "least_outstanding"},
}


def _mix(pools: list[dict[str, object]], rate: float, objectives: list[str], **more: object) -> Mix:
    deployment = Deployment.load({**POOLED, "pools": pools, **more})
    return cheapest_mix(rate, deployment, "chat", objectives, num_requests=1000, replicates=2)


def test_the_cheapest_mix_is_that_of_trying_all() -> None:
    pools: list[dict[str, object]] = [
        {"name": "fast", "device": "h200"},
        {"name": "slow", "device": "l40s", "weight": 0.5},
    ]
    slow = {**TERMS, "constant_ns": 9_000_000, "per_prefill_token_ns": 60_000}
    pools[1]["predictor"] = {"source": "affine", "affine": slow}
    objectives = ["ttft:p90<1s", "tpot:p90<30ms"]
    mix = _mix(pools, 120.0, objectives)
    assert mix.fleet is not None and mix.missed == ""
    given = resolve(Deployment.load({**POOLED, "pools": pools}))
    assert mix.fleet.dollars_per_hour == resolve(Deployment.load(mix.fleet.deployment)).dollars_per_hour
    assert mix.fleet.chance in (0, 0.5, 1) and mix.fleet.margin >= 0.01
    number, prices = mix.fleet.num_requests, [kind.dollars_per_hour or 0.0 for kind in given.kinds]
    for fast in range(6):
        for few in range(8):
            cost = fast * prices[0] + few * prices[1]
            if fast + few and cost < mix.fleet.dollars_per_hour - 1e-6:
                trials = Trials(
                    of_pools(given, [fast, few]), Source("chat", 0, num_requests=1000), parse_all(objectives)
                )
                shorter = trials.at(120.0 * 1.01, number).met
                assert not shorter or not trials.at(120.0 * 1.01, CONFIRM * number, CONFIRMING).met, (fast, few)
    assert all(f" {name}" in mix.fleet.tight for name in mix.fleet.pools)


def test_a_mix_of_prefill_and_decode_keeps_one_of_each(tmp_path: Path) -> None:
    pools: list[dict[str, object]] = [{"name": "prompts", "role": "prefill"}, {"name": "tokens", "role": "decode"}]
    link = {"kv_transfer": {"link_gb_s": 50}}
    mix = _mix(pools, 60.0, ["ttft:p90<1s", "tpot:p90<20ms"], **link)
    assert (
        mix.fleet is not None and min(mix.fleet.pools.values()) >= 1 and list(mix.fleet.pools) == ["prompts", "tokens"]
    )
    none = _mix(pools, 20.0, ["tpot:p90<1ms"], **link)
    assert none.fleet is None and none.missed == "many times 1 prompts + 1 tokens miss tpot:p90<1ms"
    path = tmp_path / "apart.yaml"
    path.write_text(json.dumps({**POOLED, "pools": pools, **link}))
    few = ("--requests", "1000", "--replicates", "0")
    shown = CliRunner().invoke(cli, ["fleet", str(path), "--rate", "20", *few], catch_exceptions=False)
    assert " prompts + " in shown.stdout and "at 1 % more; " in shown.stdout
    for words, said in (
        (["--rate", "20", "--gpu", "h100"], "--gpu h100: the pools of the deployment have GPUs of their own"),
        (["--users", "20"], "pools: mixes of them are tried at a rate"),
    ):
        refused = CliRunner().invoke(cli, ["fleet", str(path), *words])
        assert isinstance(refused.exception, ConfigError) and str(refused.exception).startswith(said)


def test_layouts_of_models_with_experts_are_tried() -> None:
    assert layouts(Deployment(model="llama-3-8b", device="h100").model_dump()) == [(n, 1, False) for n in SIZES]
    tried = layouts(Deployment(model="Qwen/Qwen3-30B-A3B", device="h100").model_dump())
    assert len(tried) == len(set(tried)) == 13 and {tensor * ranks for tensor, ranks, _ in tried} == set(SIZES)
    wanted = {"enable_expert_parallel": True, "moe_skew": 0.5}
    base = {**POOLED, "model": "Qwen/Qwen3-30B-A3B", **wanted}
    made, found = fleets(20.0, Deployment.load(base), devices=["h100"], num_requests=300, replicates=0)
    rows = [
        (row["tensor_parallel_size"], row["data_parallel_size"], row["enable_expert_parallel"]) for row in found.rows
    ]
    assert sorted(rows) == sorted(tried)
    whole = resolve(Deployment.load(made[0].deployment))
    assert (whole.data_parallel_size, whole.num_gpus) == (made[0].data_parallel_size, made[0].gpus)
