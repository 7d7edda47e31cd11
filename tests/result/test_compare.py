"""Comparing two results: differences, their intervals, and the requests that got worse."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.errors import InputError
from fastsim.result.compare import QUANTILES, _drawn_quantiles, _edges, compare
from fastsim.result.result import Result
from fastsim.workload import Workload
from fastsim.workload.loading import load

CHAT = load("chat", rate=20.0, num_requests=1000, seed=3)


@pytest.fixture(scope="module")
def base() -> Result:
    return fastsim.simulate(None, CHAT)


def changed(result: Result, **columns: np.ndarray) -> Result:
    table = result.requests
    for name, values in columns.items():
        position = table.column_names.index(name)
        table = table.set_column(position, table.schema.field(name), pa.array(values))
    return replace(result, requests=table)


def test_a_result_does_not_differ_from_itself(base: Result) -> None:
    compared = compare(base, base)
    for figures in compared["latency"].values():
        for figure in figures.values():
            assert figure["difference"] == 0
            assert figure["interval"] == [0, 0]
    assert all(figure["difference"] in (0, None) for figure in compared["figures"].values())
    assert compared["worse"] == []
    assert compared["compared"] == compared["requests"] == 1000


def test_pairing_makes_a_shift_certain(base: Result) -> None:
    """If all requests take 10 ms longer, the mean does so in every draw."""
    compared = compare(base, changed(base, e2e=base.column("e2e") + 0.01), top=3)
    mean = compared["latency"]["e2e"]["mean"]
    assert mean["difference"] == pytest.approx(0.01)
    assert mean["interval"] == pytest.approx([0.01, 0.01])
    assert compared["latency"]["ttft"]["mean"]["interval"] == [0, 0]
    assert len(compared["worse"]) == 3


def test_parts_explain_the_difference(base: Result) -> None:
    """With smaller batches, the differences of the parts of e2e add up to the difference of e2e."""
    compared = compare(base, fastsim.simulate(Deployment.load(None, ["scheduler.max_num_seqs=16"]), CHAT))
    parts = compared["breakdown"]
    assert sum(part["difference"] for part in parts.values()) == pytest.approx(
        compared["latency"]["e2e"]["mean"]["difference"]
    )
    assert parts["queue_wait"]["interval"][0] > 0
    assert parts["queue_wait"]["difference"] == pytest.approx(
        compared["latency"]["scheduling_delay"]["mean"]["difference"]
    )
    assert compared["worse"][0]["part"] == "queue_wait"


def test_intervals_of_the_mean_are_those_of_blocks(base: Result) -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0.1, 0.5, 1000)
    compared = compare(base, changed(base, e2e=base.column("e2e") + noise))["latency"]["e2e"]["mean"]
    low, high = compared["interval"]
    wanted = 1.96 * noise.reshape(200, 5).mean(axis=1).std() / np.sqrt(200)
    assert (high - low) / 2 == pytest.approx(wanted, rel=0.15)
    assert low < noise.mean() < high


def test_quantiles_of_a_draw_are_those_of_its_values() -> None:
    rng = np.random.default_rng(2)
    values, blocks = rng.exponential(size=300), np.arange(300) * 20 // 300
    drawn = rng.multinomial(20, np.full(20, 1 / 20), 40).astype(float)
    quantiles = _drawn_quantiles(values, blocks, drawn, _edges(values, values))
    for row, times in zip(quantiles, drawn.astype(int), strict=True):
        repeated = np.repeat(values, times[blocks])
        wanted = np.quantile(repeated, list(QUANTILES.values()), method="inverted_cdf")
        np.testing.assert_array_equal(row, wanted)


def test_many_values_are_looked_up_by_rank() -> None:
    values = np.random.default_rng(2).exponential(size=50_000)
    edges = _edges(values, values)
    assert len(edges) <= 4096
    quantiles = _drawn_quantiles(values, np.zeros(50_000, int), np.ones((1, 1)), edges)[0]
    ranks = (values[:, None] <= quantiles).mean(axis=0)
    np.testing.assert_allclose(ranks, list(QUANTILES.values()), atol=5e-4)


def test_the_requests_that_got_worse_come_worst_first(base: Result) -> None:
    slower = base.column("e2e").copy()
    slower[[7, 400, 23]] += [1.0, 3.0, 2.0]
    slower[9] -= 5
    worse = compare(base, changed(base, e2e=slower))["worse"]
    assert [row["request_id"] for row in worse] == [400, 23, 7]
    assert worse[0]["difference"] == pytest.approx(3.0)
    assert worse[0]["num_prompt_tokens"] == CHAT.num_prompt_tokens[400]


def test_other_arrivals_are_noted_and_other_requests_refused(base: Result) -> None:
    later = Workload(CHAT.arrived_at * 2, CHAT.num_prompt_tokens, CHAT.num_output_tokens, None, "x")
    left_out = fastsim.simulate(None, CHAT, exclude=(1.0, 0.0))
    assert "even those that a result excludes" in compare(base, left_out)["notes"][0]
    assert "arrival times differ" in compare(base, fastsim.simulate(None, later))["notes"][0]
    fewer = fastsim.simulate(None, load("chat", rate=20.0, num_requests=10, seed=3))
    with pytest.raises(InputError, match=r"A has 1,000 requests and B 10; compare results of the same workload"):
        compare(base, fewer)
    prompts = CHAT.num_prompt_tokens.copy()
    prompts[5] += 1
    other = fastsim.simulate(None, Workload(CHAT.arrived_at, prompts, CHAT.num_output_tokens, None, "x"))
    with pytest.raises(InputError, match="request 5: num_prompt_tokens is"):
        compare(base, other)


def test_requests_that_did_not_finish_are_left_out(base: Result) -> None:
    late = base.column("e2e").copy()
    late[:10] = np.nan
    assert compare(base, changed(base, e2e=late))["compared"] == 990
    unmeasured = changed(base, **dict.fromkeys(("e2e", "ttft", "tpot", "scheduling_delay"), np.full(1000, np.nan)))
    compared = compare(base, unmeasured)
    assert compared["latency"]["ttft"]["p99"] == {"a": None, "b": None, "difference": None, "interval": None}
    json.dumps(compared, allow_nan=False)


def test_the_command_prints_a_table_or_json(base: Result, tmp_path: Path) -> None:
    smaller = Deployment.load(None, ["scheduler.max_num_batched_tokens=512"])
    fastsim.simulate(smaller, CHAT).save(tmp_path / "a")
    base.save(tmp_path / "b")
    call = ["compare", str(tmp_path / "a"), str(tmp_path / "b")]
    table = CliRunner().invoke(cli, call)
    assert table.exit_code == 0, table.output
    for words in (
        "1,000 of 1,000 requests",
        "95 % interval",
        "TTFT P99",
        "slower in B",
        "Throughput, requests/s",
    ):
        assert words in table.output
    compared = json.loads(CliRunner().invoke(cli, [*call, "--json", "--top", "2"]).output)
    assert len(compared["worse"]) == 2
    low, high = compared["latency"]["tpot"]["mean"]["interval"]
    assert low < compared["latency"]["tpot"]["mean"]["difference"] < high
    judged = json.loads(CliRunner().invoke(cli, [*call, "--json", "--slo", "tbt:p99<10ms"]).output)
    assert judged["figures"]["goodput.share"]["difference"] < 0
    same = CliRunner().invoke(cli, [*call[:2], call[1]])
    assert "No request is slower in B." in same.output
