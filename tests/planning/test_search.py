"""A search finds what simulating every candidate in full finds, the same on any number of threads, and resumes."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError, InputError
from fastsim.planning import sensitivity
from fastsim.planning.budget import parse_budget
from fastsim.planning.candidates import candidates
from fastsim.planning.capacity import capacity
from fastsim.planning.ranking import pareto
from fastsim.planning.rungs import rungs
from fastsim.planning.search import SearchResult, search
from fastsim.planning.sensitivity import name_of
from fastsim.planning.workers import Evaluators
from fastsim.simulation.run import simulate

ROOT = Path(__file__).resolve().parents[2]
SPACE: dict[str, Any] = {
    "deployment": {"model": "meta-llama/Llama-2-7b-hf", "device": "a100", "max_model_len": 4096},
    "workload": {"source": "chat", "num_requests": 8000},
    "axes": {
        "device": ["a100", "h100"],
        "tensor_parallel_size": [1, 2],
        "scheduler.max_num_seqs": [32, 256],
        "scheduler.policy": ["vllm", "sarathi"],
    },
}


@pytest.fixture(scope="module")
def found() -> SearchResult:
    return search(SPACE, 2, threads=2)


def test_the_winner_is_the_same_when_all_candidates_are_simulated_in_full(found: SearchResult) -> None:
    full = {
        one.digest: capacity(one.resolved.deployment, "chat", num_requests=8000).rate / one.dollars_per_hour
        for one in found.candidates
    }
    assert len(full) == 16
    best = max(full.values())
    assert full[found.rows[0]["digest"]] > 0.98 * best
    assert found.rows[0]["qps_per_dollar"] == pytest.approx(best, rel=0.02)
    assert [row["held"] for row in found.rows[:2]] == [True, True]
    for row in found.rows:
        within = 0.02 if row["held"] else 0.1 if row["rung"] == 4 else 0.35
        assert row["qps_per_dollar"] == pytest.approx(full[row["digest"]], rel=within)
        assert row["rung"] < 4 or row["capacity"] < row["ceiling"]


def test_a_deployment_has_the_replicas_that_the_budget_pays_for(found: SearchResult) -> None:
    assert {row["gpus"] for row in found.rows} == {2}
    assert {row["num_replicas"] for row in found.rows} == {1, 2}
    in_dollars = search(SPACE, "$9/h", num_requests=300)
    assert {(row["device"], row["gpus"]) for row in in_dollars.rows} == {("a100", 4), ("h100", 2)}


def test_users_are_found_as_capacity_finds_them(tmp_path: Path) -> None:
    space = {"workload": {"source": "chat", "rate": 3}, "axes": {"device": ["a100", "h100"]}}
    found = search(space, 2, ["tbt:p99<20ms"], num_requests=2500, users=True)
    for one, row in zip(found.candidates, found.rows, strict=True):
        alone = capacity(one.resolved.deployment, "chat", ["tbt:p99<20ms"], num_requests=2500, users=True)
        assert row["users"] == pytest.approx(alone.users, rel=0.02)
        assert row["capacity"] == pytest.approx(alone.rate, rel=0.02)
        assert row["rung"] == 1 and row["held"]
    assert found.rows[0]["qps_per_dollar"] > found.rows[1]["qps_per_dollar"]
    assert (
        f"at {found.rows[0]['users']} users, who are served {found.rows[0]['capacity']:.4g} requests/s"
        in found.limits[0]
    )
    for arguments, said in (
        (["--rank", "cost", "--rate", "5"], "users: they wait for their answers, so they have no rate"),
        (["--sensitivity"], "--sensitivity varies the objectives of rates"),
    ):
        (tmp_path / "space.yaml").write_text(json.dumps(space))
        ran = CliRunner().invoke(cli, ["search", str(tmp_path / "space.yaml"), "--users", *arguments])
        assert said in ran.output or said in str(ran.exception)
    shown = CliRunner().invoke(
        cli, ["search", str(tmp_path / "space.yaml"), "--users", "--requests", "300", "--out", str(tmp_path / "out")]
    )
    assert shown.exit_code == 0
    assert "users" in shown.output
    winner = json.loads((tmp_path / "out" / "search.json").read_text())["winner"]
    assert f"of {winner['users']:,} users" in (tmp_path / "out" / "report.html").read_text()


def test_losers_cost_little(found: SearchResult) -> None:
    second = [row for row in found.rows if row["rung"] >= 2]
    assert 8 <= len(second) < 16
    assert [one.num_requests for one in rungs(8000, 0.01)] == [1000, 1000, 2000, 8000]
    assert [one.num_requests for one in rungs(16_000, 0.01)] == [1000, 1000, 4000, 16_000]
    assert len(rungs(1500, 0.01)) == 1


def test_the_same_on_any_number_of_threads(found: SearchResult) -> None:
    again = search(SPACE, 2, threads=1)
    assert again.rows == found.rows
    assert (again.num_runs, again.num_simulated) == (found.num_runs, found.num_simulated)


def test_the_same_on_a_cluster() -> None:
    from fastsim.sweeps.cluster import local

    few = {**SPACE, "axes": {"device": ["a100", "h100"], "scheduler.max_num_seqs": [32, 128]}}
    with local(2) as client:
        there = search(few, 2, num_requests=2500, client=client)
    assert there.rows == search(few, 2, num_requests=2500).rows


KILLED = """
import json, os, signal, sys
from fastsim.planning.journal import Journal
from fastsim.planning.search import search

add, count = Journal.add, 0

def counted(self, key, outcome):
    global count
    add(self, key, outcome)
    count += 1
    if count == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)

Journal.add = counted
search(json.loads(sys.argv[1]), 2, out=sys.argv[2], threads=2)
"""


@pytest.mark.parametrize("number", [1, 11, 18])
def test_a_search_that_was_killed_computes_only_what_is_missing(
    found: SearchResult, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = [json.dumps(SPACE), str(tmp_path), str(number)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *given], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    computed: list[str] = []
    each = Evaluators.each

    def counted(self: Evaluators, tasks: dict[str, Any]) -> Any:
        computed.extend(tasks)
        return each(self, tasks)

    monkeypatch.setattr(Evaluators, "each", counted)
    again = search(SPACE, 2, out=tmp_path)
    assert again.rows == found.rows
    assert (again.num_runs, again.num_simulated) == (found.num_runs, found.num_simulated)
    resumed = len(computed)
    computed.clear()
    assert search(SPACE, 2, out=tmp_path).rows == found.rows
    assert not computed
    search(SPACE, 2)
    assert resumed == len(computed) - number
    with pytest.raises(InputError, match=r"holds another search \(objectives differ\)"):
        search(SPACE, 2, ["ttft:p90<1s"], out=tmp_path)


def test_ranking_by_cost_and_latency_at_a_rate(found: SearchResult) -> None:
    cost = search(SPACE, 2, rank="cost", rate=20.0, num_requests=1200)
    for row in cost.rows:
        replica = row["capacity"] / row["num_replicas"]
        price = row["dollars_per_hour"] / row["num_replicas"]
        assert row["dollars_per_hour_at_rate"] == pytest.approx(np.ceil(20.0 / replica) * price)
    assert cost.rows[0]["score"] == max(row["score"] for row in cost.rows if row["rung"] == cost.rows[0]["rung"])
    latency = search(SPACE, 2, rank="latency", rate=20.0, num_requests=1200)
    assert latency.rows[0]["capacity"] == 20.0
    assert latency.rows[0]["latency.e2e.mean"] == min(row["latency.e2e.mean"] for row in latency.rows if row["score"])
    watts = search(SPACE, 2, rank="qps_per_watt", num_requests=1200).rows[0]
    assert watts["qps_per_watt"] == pytest.approx(watts["capacity"] / (2 * {"a100": 400, "h100": 700}[watts["device"]]))


def test_replicas_in_the_space_share_what_one_replica_shows() -> None:
    axes = {"num_replicas": [1, 2, 4], "scheduler.max_num_seqs": [32, 64]}
    shared = search({**SPACE, "axes": axes}, 2)
    assert {row["num_replicas"] for row in shared.rows} == {1, 2}
    assert shared.dropped == {"budget": 2}
    full = [capacity(one.resolved.deployment, "chat", num_requests=8000) for one in shared.candidates]
    assert [row["capacity"] for row in shared.rows] == pytest.approx([one.rate for one in full], rel=0.035)


def test_settings_that_change_nothing_make_no_configuration() -> None:
    axes = {"scheduler.chunk_size": [256, 512, 1024, 2048], "router.policy": ["round_robin", "random"]}
    found = search({"workload": {"source": "chat"}, "axes": axes}, objectives=["ttft:p90<1s"], num_requests=300)
    assert len(found.rows) == 1
    assert sum(found.dropped.values()) == 7
    said = " ".join(found.notes)
    assert "scheduler.chunk_size changes nothing with policy vllm_v1; router.policy changes nothing with one" in said
    sarathi = {
        "engine": None,
        "scheduler": {"policy": "sarathi"},
        "model": "meta-llama/Meta-Llama-3-8B",
        "device": "h100",
    }
    space = {"deployment": sarathi, "workload": {"source": "chat"}, "axes": {"scheduler.chunk_size": [256, 1024]}}
    assert len(candidates(space, None, 300, 300)[0]) == 2


def test_layouts_of_experts_that_an_engine_accepts() -> None:
    """Ranks are not offered with pipeline stages, nor more of them than divide the experts; EP needs two GPUs."""
    deployment: dict[str, Any] = {"model": "Qwen/Qwen3-30B-A3B", "device": "h100", "max_model_len": 8192}
    space = {
        "deployment": deployment,
        "workload": {"source": "chat", "num_requests": 300},
        "axes": {
            "tensor_parallel_size": [1, 2],
            "pipeline_parallel_size": [1, 2],
            "data_parallel_size": [1, 3, 4],
            "enable_expert_parallel": [False, True],
        },
        "where": "num_gpus <= 4",
    }
    found = search(space, 4, threads=2)
    keys = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "enable_expert_parallel")
    layouts = sorted(tuple(row[key] for key in keys) for row in found.rows)
    alone = [(1, 1, 1, False), (1, 1, 3, False), (1, 1, 4, False), (1, 1, 4, True), (1, 2, 1, False)]
    assert layouts == [*alone, *((2, stages, 1, experts) for stages in (1, 2) for experts in (False, True))]
    assert found.dropped["data_parallel_size"] == 1  # 3 ranks divide no 128 experts
    assert all(row["gpus"] == (3 if row["data_parallel_size"] == 3 else 4) and row["score"] > 0 for row in found.rows)
    said = "enable_expert_parallel changes nothing where one GPU has all experts"
    assert any(note.startswith(said) for note in found.notes)
    wide = next(row for row in found.rows if row["data_parallel_size"] > 1 and row["enable_expert_parallel"])
    assert " DP 4 EP " in name_of(wide)
    sharing = {"enable_expert_parallel": True, "all2all_backend": "deepep", "moe_imbalance": 1.5}
    plain, shared = (
        simulate(Deployment.load({**deployment, **more}), "chat", rate=5, num_requests=50) for more in ({}, sharing)
    )
    assert plain.requests.equals(shared.requests)


def test_ratios_of_prefill_and_decode_replicas() -> None:
    """A budget pays for pools in their ratio, which is scaled from the smallest; numbers that vary stay as they are."""
    pools = [{"name": "prompts", "role": "prefill", "num_replicas": 2}, {"name": "tokens", "role": "decode"}]
    terms = {"constant_ns": 4_000_000, "per_prefill_token_ns": 20_000, "per_sequence_ns": 30_000}
    deployment = {
        "model": "meta-llama/Llama-3.1-8B",
        "device": "h100",
        "max_model_len": 8192,
        "pools": pools,
        "kv_transfer": {"link_gb_s": 50},
        "predictor": {"source": "affine", "affine": terms},
    }
    space = {"deployment": deployment, "workload": {"source": "chat", "num_requests": 2500}}
    scaled = search({**space, "axes": {"scheduler.max_num_seqs": [64, 128]}}, 6, ["ttft:p90<1s"], threads=2)
    unread = {**space, "axes": {"scheduler.chunk_size": [64, 128]}}
    assert len(candidates(unread, None, None, 300)[0]) == 1  # which vllm_v1 has not, in no pool
    one, two = "pools.prompts.num_replicas", "pools.tokens.num_replicas"
    assert {(row["gpus"], row["num_replicas"], row[one], row[two]) for row in scaled.rows} == {(6, 6, 4, 2)}
    axes = {one: [1, 2, 3], two: [1, 2, 3]}
    found = search({**space, "axes": axes}, 4, ["ttft:p90<1s", "tpot:p90<20ms"], threads=2)
    assert {(row[one], row[two]) for row in found.rows} == {(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (3, 1)}
    assert found.dropped["budget"] == 3
    best = found.rows[0]
    assert name_of(best).startswith(f"{best[one]} prompts + {best[two]} tokens: h100 TP 1 PP 1 vllm_v1")
    for one_of, row in zip(found.candidates[:2], found.rows, strict=False):
        alone = capacity(one_of.resolved.deployment, "chat", found.objectives, num_requests=2500)
        assert row["capacity"] == pytest.approx(alone.rate, rel=0.02)


def test_a_configuration_that_cannot_run_is_a_row_with_its_error() -> None:
    axes = {"scheduler.num_blocks": [30, 4000]}
    rows = search({**SPACE, "axes": axes}, num_requests=300).rows
    assert [row["error"] is None for row in rows] == [True, False]
    assert "KV blocks" in rows[1]["error"]
    assert rows[1]["score"] == 0.0


def test_objectives_that_no_configuration_meets() -> None:
    hopeless = search(SPACE, 2, ["tbt:p50<1ms"], num_requests=200)
    assert {row["score"] for row in hopeless.rows} == {0.0}
    assert hopeless.notes == ("no configuration meets tbt:p50<1ms at any rate",)
    assert sensitivity.sensitivity(hopeless) == []


def test_the_pareto_front_is_the_rows_that_no_other_row_beats() -> None:
    rng = np.random.default_rng(0)
    rows = [
        dict(zip(("capacity", "gpus", "latency.ttft.p90"), map(float, rng.integers(0, 9, 3)), strict=True))
        for _ in range(200)
    ]
    rows[7].pop("gpus")
    for metrics in (("capacity", "gpus"), ("capacity", "gpus", "latency.ttft.p90")):
        front = pareto(rows, metrics)

        def beats(one: dict[str, float], other: dict[str, float], metrics: tuple[str, ...] = metrics) -> bool:
            signs = [1 if name == "capacity" else -1 for name in metrics]
            gains = [s * (one[name] - other[name]) for s, name in zip(signs, metrics, strict=True)]
            return min(gains) >= 0 and max(gains) > 0

        there = [row for row in rows if all(name in row for name in metrics)]
        assert sorted(front) == [
            place
            for place, row in enumerate(rows)
            if all(name in row for name in metrics) and not any(beats(other, row) for other in there)
        ]
    with pytest.raises(ConfigError, match="pareto: no figure 'capacitiy'; did you mean 'capacity'"):
        pareto(rows, ("capacitiy", "gpus"))


def test_relaxing_an_objective_never_costs_and_tightening_never_helps(found: SearchResult) -> None:
    varied = sensitivity.sensitivity(found, (0.2, 3.0))
    assert [one.objective for one in varied] == [str(one) for one in found.objectives for _ in range(2)]
    for one in varied:
        tighter = one.changed in ("scheduling_delay:p99<1s", "ttft:p90<400ms", "tbt:p99<40ms")
        assert one.after <= one.before * 1.02 if tighter else one.after >= one.before * 0.98
        assert one.before == varied[0].before
    in_full = [
        capacity(one.resolved.deployment, one.unit, ["scheduling_delay:p99<5s", "ttft:p90<2s", "tbt:p99<40ms"]).rate
        / one.dollars_per_hour
        for one in found.candidates
    ]
    tight = next(one for one in varied if one.changed == "tbt:p99<40ms")
    assert tight.after == pytest.approx(max(in_full), rel=0.1)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"budget": 0}, "budget: 0 must be above 0 up to 1e9"),
        ({"budget": "-3"}, "budget: '-3' is neither GPUs nor dollars"),
        ({"budget": "2.5"}, "budget: '2.5' must be above 0 up to 1e9, and whole if it counts GPUs"),
        ({"budget": "lots"}, "budget: 'lots' is neither"),
        ({"budget": "$1/h"}, r"no configuration costs at most \$1 an hour"),
        ({"rank": "speed"}, "rank: 'speed' is unknown; "),
        ({"rank": "cost"}, "rank: 'cost' needs a rate"),
        ({"rank": "cost", "rate": 0.0}, "rate: 0.0 is not requests per second above 0"),
        ({"objectives": ["tbt:p99"]}, "is not metric:statistic<limit"),
        ({"space": {**SPACE, "axis": {}}}, "axis: unknown key; did you mean 'axes'"),
        ({"space": {**SPACE, "axes": {"workload.rate": [1, 2]}}}, "a search finds the rate of each deployment itself"),
        ({"space": {**SPACE, "workload": {"gaps": {"kind": "static"}, "lengths": {}}}}, "lengths: kind is missing"),
        ({"tolerance": 2.0}, "tolerance: 2 is not a fraction"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        search(**{"space": SPACE, **fields})


def test_budgets() -> None:
    assert [str(parse_budget(text)) for text in ("16", "16 GPUs", 8, "$40/h", "40$/h", "$9")] == [
        *("16 GPUs", "16 GPUs", "8 GPUs"),
        *("$40 an hour", "$40 an hour", "$9 an hour"),
    ]
    assert parse_budget(None) is None


def test_the_command_writes_table_page_and_winner(tmp_path: Path) -> None:
    space, out = tmp_path / "space.json", tmp_path / "found"
    space.write_text(json.dumps(SPACE))
    arguments = ["search", str(space), "--budget", "4", "--requests", "400", "--out", str(out)]
    ran = CliRunner().invoke(cli, arguments)
    assert ran.exit_code == 0, ran.output
    assert "configurations meet scheduling_delay:p99<5s" in ran.output
    table = pq.read_table(out / "configurations.parquet").to_pylist()
    answer = json.loads((out / "search.json").read_text())
    assert len(table) == 16
    html = (out / "report.html").read_text()
    for part in (
        "Pareto front",
        "Latency against load",
        "Cost against objectives",
        "form the Pareto front",
        table[0]["device"],
    ):
        assert part in html
    assert answer["winner"]["digest"] == table[0]["digest"]
    launched = CliRunner().invoke(cli, ["launch", str(out)])
    assert launched.exit_code == 0
    assert f"--max-num-seqs {table[0]['scheduler.max_num_seqs']}" in launched.stdout
    resumed = CliRunner().invoke(cli, arguments)
    assert resumed.exit_code == 0
    assert json.loads((out / "search.json").read_text())["winner"] == answer["winner"]
    for pareto_of in ("capacity", "capacity,gpu", "a,b,c,d"):
        refused = CliRunner().invoke(cli, ["search", str(space), "--pareto", pareto_of])
        assert isinstance(refused.exception, ConfigError)
