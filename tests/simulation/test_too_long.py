"""Requests that are longer than a deployment takes: refused, dropped or clipped, said, and the same when replayed."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError, WorkloadError
from fastsim.planning.capacity import capacity
from fastsim.planning.fleet import fleets
from fastsim.planning.search import search
from fastsim.result.result import Result
from fastsim.workload import BlockHashes, Workload
from fastsim.workload.loading import load
from fastsim.workload.origin import Origin
from fastsim.workload.too_long import within

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,8150,109
2023-11-16 18:15:51.2224670,14050,39
2023-11-16 18:15:52.3904750,91,0
2023-11-16 18:15:53.3904750,91,16
"""
LONG = Workload(
    np.array([0.0, 1.0, 2.0, 3.0]),
    np.array([90, 100, 99, 40]),
    np.array([10, 1, 50, 500]),
    np.array([0, 1, 0, 1], np.int32),
    block_hashes=BlockHashes.of([[1, 2, 3], [1], [1, 5, 6, 7, 8, 9], [1, 2, 3]]),
)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "azure.csv"
    path.write_text(AZURE)
    return path


def test_dropped() -> None:
    kept = within(LONG, 100, "drop")
    assert kept.arrived_at.tolist() == [0.0]
    assert kept.origin == Origin(dropped=3, max_model_len=100)
    kept = within(LONG, 149, "drop")
    assert kept.replica_id is not None
    assert kept.replica_id.tolist() == [0, 1, 0]
    assert kept.block_hashes is not None
    assert [kept.block_hashes[request].tolist() for request in range(3)] == [[1, 2, 3], [1], [1, 5, 6, 7, 8, 9]]
    assert within(LONG, 540, "drop") is LONG
    with pytest.raises(WorkloadError, match="all 4 requests have more tokens than max_model_len 9"):
        within(LONG, 9, "drop")


def test_clipped() -> None:
    """Outputs become fewer, down to one, and then the prompt shorter; blocks that are no longer full have no hash."""
    clipped = within(replace(LONG, ends_by_stop=np.ones(4, bool)), 100, "clip")
    assert clipped.ends_by_stop is not None
    assert clipped.ends_by_stop.tolist() == [True, False, False, False]
    assert clipped.num_prompt_tokens.tolist() == [90, 99, 99, 40]
    assert clipped.num_output_tokens.tolist() == [10, 1, 1, 60]
    assert clipped.origin == Origin(clipped=3, max_model_len=100)
    assert clipped.block_hashes is not None
    assert clipped.block_hashes.counts.tolist() == [3, 1, 6, 3]
    clipped = within(LONG, 20, "clip")
    assert clipped.block_hashes is not None
    assert [clipped.block_hashes[request].tolist() for request in range(4)] == [[1]] * 4
    with pytest.raises(WorkloadError, match="max_model_len 1 leaves no prompt"):
        within(LONG, 1, "clip")


def test_refused(azure: Path) -> None:
    assert within(LONG, 100, "refuse") is LONG
    with pytest.raises(ConfigError, match="too_long: 'dropp' is unknown; did you mean 'drop'"):
        within(LONG, 100, "dropp")
    with pytest.raises(
        WorkloadError,
        match=r"and 2 of 4 requests are too long; drop or clip .* drop\), or simulate a model made for 14089",
    ):
        fastsim.simulate(None, azure)
    with pytest.raises(WorkloadError, match=r"; drop or clip .*, or set max_model_len=418$"):
        fastsim.simulate(Deployment.load(None, ["max_model_len=400"]), load(azure, num_requests=1))


def test_a_workload_may_be_given_alone(azure: Path) -> None:
    for arguments in ([str(azure)], ["--workload", str(azure)]):
        said = CliRunner().invoke(cli, ["simulate", *arguments, "--too-long", "drop", "--json"])
        assert json.loads(said.stdout)["totals"]["requests"] == 2
    assert "100 requests of code" in CliRunner().invoke(cli, ["simulate", "code", "--requests", "100"]).stdout
    said = CliRunner().invoke(cli, ["simulate", str(azure), "--workload", "chat"])
    assert said.exit_code == 2
    assert "two workloads" in said.stderr


@pytest.mark.parametrize(("too_long", "requests"), [("drop", 2), ("clip", 4)])
def test_a_replay_is_the_same(tmp_path: Path, azure: Path, too_long: str, requests: int) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    said = CliRunner().invoke(cli, ["simulate", str(azure), "--too-long", too_long, "--out", str(first)])
    assert said.exit_code == 0
    assert "1 request without output is left out" in said.stderr
    assert f"2 requests with more tokens than max_model_len 8,192 are {too_long}ped" in said.stderr
    given = [str(first / "config.json"), str(first / "requests.parquet")]
    assert CliRunner().invoke(cli, ["simulate", *given, "--out", str(again)]).exit_code == 0
    results = [Result.load(folder) for folder in (first, again)]
    for name in results[0].requests.column_names:
        np.testing.assert_array_equal(results[0].column(name), results[1].column(name))
    assert results[0].requests.num_rows == requests
    summaries = [{**result.summary, "timing": None} for result in results]
    assert summaries[0] == summaries[1]
    assert len(summaries[0]["warnings"]) == 2
    configs = [result.config for result in results]
    for config in configs:
        config["workload"]["name"] = None
    assert configs[0] == configs[1]
    origin = configs[0]["workload"]["origin"]
    assert (origin["without_output"], origin["dropped"], origin["clipped"]) == (1, 4 - requests, requests - 2)


def test_origins_of_changed_tables_do_not_count(tmp_path: Path, azure: Path) -> None:
    """A table of requests that was changed after the simulation, or that carries nonsense, is a file like any other."""
    fastsim.simulate(None, azure, too_long="drop").save(tmp_path)
    path = tmp_path / "requests.parquet"
    table = pq.read_table(path)
    assert (load(path).origin or Origin()).dropped == 2
    pq.write_table(table.slice(0, 1), path)
    assert (load(path).origin or Origin()).dropped == 0
    config = json.loads(table.schema.metadata[b"fastsim"])
    nonsense: list[Any] = [3, [], {"workload": 3}, {"workload": {"sha256": 3, "origin": config["workload"]["origin"]}}]
    for key, value in (
        ("dropped", -1),
        ("dropped", True),
        ("mean_gap", float("nan")),
        ("layout", "x" * 200),
        ("new", 1),
    ):
        nonsense.append({"workload": {**config["workload"], "origin": {**config["workload"]["origin"], key: value}}})
    for values in nonsense:
        pq.write_table(table.replace_schema_metadata({"fastsim": json.dumps(values)}), path)
        assert (load(path).origin or Origin()).dropped == 0


def test_many(azure: Path) -> None:
    stream = load(azure)
    jobs = [(Deployment.load(None, [f"max_model_len={length}"]), stream) for length in (8192, 500, 20)]
    runs = fastsim.simulate_many(jobs, too_long="drop")
    assert [run.summary and run.summary["totals"]["requests"] for run in runs] == [2, 2, None]
    assert "all 4 requests" in str(runs[2].error)
    alone = fastsim.simulate(jobs[1][0], stream, too_long="drop", detail=False).summary
    assert runs[1].summary is not None
    assert {**runs[1].summary, "timing": None} == {**alone, "timing": None}


def test_sweeps_and_searches(tmp_path: Path, azure: Path) -> None:
    space: dict[str, Any] = {
        "workload": {"source": str(azure), "too_long": "drop"},
        "axes": {"max_model_len": [20, 500, 16384]},
    }
    done = fastsim.sweep(space, tmp_path / "out")
    assert (done.configurations, done.failed) == (3, 1)
    rows = sorted(pq.read_table(tmp_path / "out").to_pylist(), key=lambda row: row["max_model_len"])
    assert [row["totals.requests"] for row in rows] == [None, 2, 4]
    assert "more than max_model_len 20" in rows[0]["error"]
    assert any("2 requests" in note for note in done.notes)
    del space["axes"]["max_model_len"][0]
    found = search(space, objectives=["ttft:p90<2s"])
    assert sorted(candidate.unit.num_requests for candidate in found.candidates) == [2, 4]
    assert all(candidate.unit.rate == pytest.approx(1.0) for candidate in found.candidates)
    assert any("2 requests" in note for note in found.notes)
    for wrong in ({"too_long": "cut"}, {"unit": 3}):
        with pytest.raises(ConfigError, match="is unknown; valid: "):
            fastsim.sweep({**space, "workload": {"source": str(azure), **wrong}}, tmp_path / "none")


def test_the_command_line_sets_the_keys_of_a_space(tmp_path: Path, azure: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(json.dumps({"workload": str(azure), "axes": {"scheduler.max_num_seqs": [8]}}))
    arguments = ["sweep", str(space), "--out", str(tmp_path / "out"), "--too-long", "clip"]
    said = CliRunner().invoke(cli, arguments)
    assert said.exit_code == 0
    assert "2 requests with more tokens than max_model_len 8,192 are clipped to it" in said.stderr
    assert pq.read_table(tmp_path / "out")["error"].to_pylist() == [None]
    assert isinstance(CliRunner().invoke(cli, [*arguments[:-1], "cut"]).exception, ConfigError)
    assert isinstance(
        CliRunner().invoke(cli, [*arguments[:3], str(tmp_path / "new"), "--unit", "ms"]).exception, WorkloadError
    )


def test_capacities_and_fleets(azure: Path) -> None:
    """Runs that are as long as a plan needs leave out, or clip, the same share of the requests."""
    found = capacity(None, azure, too_long="drop", replicates=1)
    dropped = "requests with more tokens than max_model_len 8,192 are dropped"
    assert any(note.endswith(dropped) for note in found.notes)
    short = Deployment.load(None, ["max_model_len=2048"])
    drawn = capacity(short, "chat", num_requests=200, too_long="drop", replicates=1)
    assert any("more tokens than max_model_len 2,048 are dropped" in note for note in drawn.notes)
    assert drawn.summary is not None
    assert drawn.summary["totals"]["requests"] == drawn.num_requests
    made, behind = fleets(0.5, None, str(azure), devices=["h100"], num_requests=4, too_long="clip")
    assert made[0].num_replicas == 1
    for candidate in behind.candidates:
        clipped = candidate.source.draw(4, candidate.resolved)
        assert clipped.num_requests == 4
        assert (clipped.num_prompt_tokens + clipped.num_output_tokens).max() == candidate.resolved.max_model_len
