"""A curve has the figures of simulations at its loads, its capacity is that of ``capacity``, and its knee the best."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.errors import ConfigError
from fastsim.planning.curve import curve
from fastsim.planning.load_curve import Curve
from fastsim.planning.stream import Source, at_rate

SLO = ["ttft:p90<1s", "tbt:p99<80ms"]


@pytest.fixture(scope="module")
def found() -> Curve:
    return curve(None, "chat", SLO, points=8, num_requests=2000)


def test_points_are_simulations(found: Curve) -> None:
    resolved = fastsim.resolve(fastsim.Deployment.load(None))
    loads = [point.load for point in found.points]
    assert loads == sorted(loads) and 8 <= len(loads) <= 9
    assert loads[-1] == pytest.approx(1.05 * found.ceiling)
    for point in (found.points[0], found.points[3]):
        requests = at_rate(Source("chat", 0).draw(point.num_requests, resolved), point.load)
        summary = fastsim.simulate(None, requests, objectives=SLO).summary
        assert point.figures["latency.ttft.p90"] == summary["latency"]["ttft"]["p90"]
        assert point.figures["throughput.output_tokens_per_s"] == summary["throughput"]["output_tokens_per_s"]
        assert point.goodput == summary["goodput"]["share"]
        assert point.met and point.drift == 0.0
        assert point.dollars_per_million_requests == pytest.approx(4.25 / 3600 / point.load * 1e6)
        assert point.span > 100
    last = found.points[-1]
    assert not last.met and "a queue that grows" in last.missed
    assert 0.02 < last.drift < 0.3  # more than it can finish


def test_its_capacity_is_that_of_capacity(found: Curve) -> None:
    alone = fastsim.capacity(None, "chat", SLO, num_requests=2000)
    assert found.capacity == alone.rate
    assert found.limited_by == alone.limited_by
    for point in found.points:
        if not 0.99 < point.load / found.capacity < 1.03:
            assert point.met == (point.load <= found.capacity)
    assert [point.met for point in found.points if point.load == found.capacity] == [True]


def test_the_knee_has_the_highest_power(found: Curve) -> None:
    power = {point.load: point.rate / (point.figures["latency.e2e.mean"] or 1) for point in found.points}
    assert power[found.knee] == max(power.values())
    assert found.points[0].load < found.knee < found.ceiling


def test_users(tmp_path: Path) -> None:
    loop = curve(None, "chat", ["tbt:p99<40ms"], users=True, points=4, num_requests=500)
    assert loop.users and loop.capacity == int(loop.capacity) > 1
    assert loop.points[0].load == 1
    rates = [point.rate for point in loop.points]
    assert rates == sorted(rates)
    assert [point.met for point in loop.points if point.load == loop.capacity] == [True]


def test_the_command_draws_several_deployments(tmp_path: Path) -> None:
    files = []
    for device in ("a100", "h100"):
        (tmp_path / f"on_{device}.yaml").write_text(f"model: meta-llama/Meta-Llama-3-8B\ndevice: {device}\n")
        files.append(str(tmp_path / f"on_{device}.yaml"))
    asked = ["curve", *files, "--at", "4", "--at", "8", "--requests", "500", "--slo", "ttft:p90<1s"]
    ran = CliRunner().invoke(cli, [*asked, "--out", str(tmp_path / "out")])
    assert ran.exit_code == 0, ran.output
    assert ran.output.count("Knee") == 2 and "capacity" in ran.output and "on_a100, 1 GPU" in ran.output
    written = json.loads((tmp_path / "out" / "curve.json").read_text())["curves"]
    rows = pq.read_table(tmp_path / "out" / "curve.parquet").to_pylist()
    assert {row["name"] for row in rows} == {"on_a100", "on_h100"}
    assert len(rows) == sum(len(each["points"]) for each in written) == 6
    assert {row["rate"] for row in rows} >= {4.0, 8.0}
    html = (tmp_path / "out" / "report.html").read_text()
    for part in ("Latency against load", "Capacity, on_h100", "Knee, on_a100", "breaks first", "Speed", "Cost"):
        assert part in html
    as_json = json.loads(CliRunner().invoke(cli, [*asked[:2], *asked[3:], "--json"]).stdout)
    assert as_json["curves"][0]["points"] == written[0]["points"]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"points": 2}, "points: 2 is not a whole number from 3 to 200"),
        ({"loads": [0.0]}, "loads: 0 is not requests per second above 0"),
        ({"loads": [2.5], "users": True}, "loads: 2.5 is not a whole number of users from 1"),
        ({"workload": {"lengths": {"kind": "fixed"}, "concurrency": 4}, "users": False}, "a closed loop has a number"),
    ],
)
def test_bad_input_is_refused_in_a_sentence(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        curve(**fields)
