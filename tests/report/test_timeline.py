"""Timelines: the rules of the Trace Event Format, and arrows that go only where the request was."""

import gzip
import json
import math
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from reference import core as reference
from reference.cost import cost_stage_seconds
from strategies import Case, cases

import fastsim
from fastsim.cli import cli
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError, InputError, OutputError
from fastsim.report.timeline import flows
from fastsim.report.timeline.timeline import timeline

# Phase and the fields that it must have, besides name: the Trace Event Format's document, by section.
FIELDS = {
    "X": {"pid", "tid", "ts", "dur", "args", "cat"},
    "M": {"pid", "args"},
    "C": {"pid", "ts", "args"},
    "b": {"pid", "ts", "id", "cat"},
    "e": {"pid", "ts", "id", "cat"},
    "s": {"pid", "tid", "ts", "id", "cat"},
    "t": {"pid", "tid", "ts", "id", "cat"},
    "f": {"pid", "tid", "ts", "id", "cat", "bp"},
}
DEPLOYMENTS = {
    "plain": [],
    "pipeline": ["pipeline_parallel_size=2", "num_replicas=2"],
    "preempting": ["scheduler.policy=vllm", "scheduler.num_blocks=300", "scheduler.max_num_seqs=64"],
}

Event = dict[str, Any]


@pytest.fixture(scope="module", params=DEPLOYMENTS)
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs") / request.param
    deployment = fastsim.Deployment.load(None, DEPLOYMENTS[request.param])
    workload = fastsim.load_workload("chat", rate=20.0, num_requests=150)
    fastsim.simulate(deployment, workload, iterations=True).save(folder)
    return folder


def load(path: Path) -> list[Event]:
    whole = json.loads(gzip.decompress(path.read_bytes()))
    assert whole["otherData"]["about"].startswith("fastsim timeline")
    events: list[Event] = whole["traceEvents"]
    return events


def check(events: list[Event]) -> None:
    """All rules of the format that concern these phases."""
    tracks, counters, arrows, spans = (defaultdict(list) for _ in range(4))
    for event in events:
        phase = event["ph"]
        assert {"name", *FIELDS[phase]} <= set(event), event
        assert all(math.isfinite(event[key]) and event[key] >= 0 for key in ("ts", "dur") if key in event)
        match phase:
            case "X":
                tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
            case "C":
                assert all(isinstance(value, int) and value >= 0 for value in event["args"].values())
                counters[event["pid"], event["name"]].append(event["ts"])
            case "s" | "t" | "f":
                arrows[event["id"]].append(event)
            case "b" | "e":
                spans[event["cat"], event["id"]].append(event)
    for slices in tracks.values():
        slices.sort()
        assert all(after[0] >= before[1] - 1e-4 for before, after in pairwise(slices))
    for times in counters.values():
        assert all(before < after for before, after in pairwise(times))
    for steps in arrows.values():
        steps.sort(key=lambda event: event["ts"])
        assert [event["ph"] for event in steps] == ["s", *"t" * (len(steps) - 2), "f"]
        for event in steps:
            places = [begin for begin, end in tracks[event["pid"], event["tid"]] if begin <= event["ts"] <= end]
            assert len(places) == 1
    for events_of_one in spans.values():
        open_ones: list[str] = []
        for event in events_of_one:
            if event["ph"] == "b":
                open_ones.append(event["name"])
            else:
                assert open_ones.pop() == event["name"]
        assert not open_ones


def test_all_of_a_run(saved: Path, tmp_path: Path) -> None:
    told = timeline(saved, tmp_path / "t.json.gz")
    events, result = load(tmp_path / "t.json.gz"), fastsim.Result.load(saved)
    check(events)
    slices = [event for event in events if event["ph"] == "X"]
    assert result.iterations is not None
    assert len(slices) == told.num_batches == result.iterations.num_rows
    assert sum(event["args"]["tokens"] for event in slices) == int(result.iterations["num_tokens"].to_numpy().sum())
    for event in slices:
        assert sum(event["args"]["operators (ms)"].values()) == pytest.approx(event["dur"] / 1e3, rel=2e-3)
    requests = {event["args"]["request"] for event in events if event["ph"] == "b" and event["name"] == "request"}
    assert requests == set(range(150))
    assert {event["id"] for event in events if event["ph"] == "f"} == requests
    for name in ("queue", "running"):
        for replica in range(result.config["deployment"]["num_replicas"]):
            values = [
                e["args"]["requests"] for e in events if e["ph"] == "C" and (e["name"], e["pid"]) == (name, replica + 1)
            ]
            assert values[-1] == 0 < max(values, default=0) or name == "queue"


def test_operators_are_those_of_explain(tmp_path: Path) -> None:
    workload = {"lengths": {"kind": "fixed", "num_prompt_tokens": 300, "num_output_tokens": 5}, "num_requests": 1}
    workload["gaps"] = {"kind": "static", "rate": 1.0}
    fastsim.simulate(None, workload, iterations=True).save(tmp_path / "run")
    timeline(tmp_path / "run", tmp_path / "t.json.gz")
    first = next(event for event in load(tmp_path / "t.json.gz") if event["ph"] == "X")["args"]["operators (ms)"]
    answer = CliRunner().invoke(cli, ["explain", "--prefill", "300@0", "--json"])
    explained = {row["name"]: row["ms"] for row in json.loads(answer.stdout)["operators"]}
    attention = sum(ms for name, ms in explained.items() if name.endswith("_prefill"))
    assert first["attention"] == pytest.approx(attention, rel=2e-3)
    same = set(first) & set(explained)
    assert {"mlp_up_proj", "attn_pre_proj", "lm_head"} <= same
    for name in same - {"lm_head"}:
        assert first[name] == pytest.approx(explained[name], rel=2e-3)


APART = {
    "model": "llama-3-8b",
    "device": "h100",
    "max_model_len": 8192,
    "router": {"policy": "least_outstanding"},
    "pools": [
        {"name": "prompts", "role": "prefill", "num_replicas": 2},
        {"name": "tokens", "role": "decode", "device": "h200"},
    ],
    "kv_transfer": {"link_gb_s": 5, "min_prompt_tokens": 200},
}


def test_transfers_are_slices_and_arrows_from_prefill_to_decode(tmp_path: Path) -> None:
    workload = fastsim.load_workload("chat", rate=20.0, num_requests=150)
    fastsim.simulate(Deployment.load(APART), workload, iterations=True).save(tmp_path / "run")
    timeline(tmp_path / "run", tmp_path / "t.json.gz")
    events, result = load(tmp_path / "t.json.gz"), fastsim.Result.load(tmp_path / "run")
    check(events)
    column = result.columns()
    split = np.flatnonzero(column["prefill_replica_id"] >= 0)
    assert 0 < len(split) < 150
    names = [event["args"]["name"] for event in events if event["ph"] == "M" and event["name"] == "process_name"]
    assert names == ["replica 0 (prompts)", "replica 1 (prompts)", "replica 2 (tokens)"]
    moved = {event["id"]: event for event in events if event["ph"] == "b" and event.get("cat") == "transfer"}
    ends = {event["id"]: event["ts"] for event in events if event["ph"] == "e" and event.get("cat") == "transfer"}
    assert set(moved) == set(split.tolist())
    arrows = {event["id"]: event for event in events if event["ph"] == "s"}
    for request in split.tolist():
        event = moved[request]
        assert event["pid"] == column["prefill_replica_id"][request] + 1 == arrows[request]["pid"]
        assert event["args"]["to replica"] == column["replica_id"][request]
        assert ends[request] - event["ts"] == pytest.approx(1e6 * column["transfer"][request], abs=0.002)
        order = [column[name][request] for name in ("scheduled_at", "prefilled_at", "transfer_at", "first_token_at")]
        assert order == sorted(order) and arrows[request]["ts"] < 1e6 * order[1] <= event["ts"] + 0.002
    for event in events:
        if event["ph"] == "X" and event["pid"] < 3:
            assert event["args"]["decodes"] == 0
        if event["ph"] == "X":
            assert sum(event["args"]["operators (ms)"].values()) == pytest.approx(event["dur"] / 1e3, rel=2e-3)
    for replica in range(3):
        for name in ("queue", "running"):
            values = [
                e["args"]["requests"] for e in events if (e["ph"], e["name"], e["pid"]) == ("C", name, replica + 1)
            ]
            assert values[-1] == 0


def test_a_window(saved: Path, tmp_path: Path) -> None:
    told = timeline(saved, tmp_path / "t.json.gz", begin=2.0, end=4.0)
    events = load(tmp_path / "t.json.gz")
    check(events)
    slices = [event for event in events if event["ph"] == "X"]
    assert 0 < len(slices) == told.num_batches
    assert all(event["ts"] <= 4e6 and event["ts"] + event["dur"] >= 2e6 for event in slices)
    assert all(2e6 <= event["ts"] <= 4e6 for event in events if event["ph"] == "C")
    assert 0 < told.num_requests < 150


def test_one_in_so_many(saved: Path, tmp_path: Path) -> None:
    whole, told = timeline(saved, tmp_path / "a.json.gz"), timeline(saved, tmp_path / "b.json.gz", every=10)
    events = load(tmp_path / "b.json.gz")
    check(events)
    assert told.num_requests == 15
    assert told.num_batches < whole.num_batches / 2
    assert "one in 10" in told.note
    assert {event["id"] for event in events if event["ph"] == "s"} <= set(range(0, 150, 10))


def test_what_a_preempted_request_shows(tmp_path: Path) -> None:
    deployment = fastsim.Deployment.load(None, DEPLOYMENTS["preempting"])
    result = fastsim.simulate(deployment, fastsim.load_workload("chat", rate=20.0, num_requests=150), iterations=True)
    result.save(tmp_path / "run")
    timeline(tmp_path / "run", tmp_path / "t.json.gz")
    restarts = result.column("num_restarts")
    assert restarts.max() > 0
    shown = {e["id"]: e["args"] for e in load(tmp_path / "t.json.gz") if e["ph"] == "b" and e["name"] == "request"}
    assert [shown[i]["restarts"] for i in range(150)] == restarts.tolist()
    assert all(shown[i]["parts of it (ms)"]["preemption"] > 0 for i in np.flatnonzero(restarts))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases())
def test_arrows_go_only_where_the_request_was(case: Case) -> None:
    requests, described, cost = case
    outcome = reference.simulate(requests, described, cost_stage_seconds(cost))
    rows = sorted(outcome.iterations, key=lambda row: (row.start, row.replica_id, row.stage_id))
    iterations = {
        name: np.array([getattr(row, name) for row in rows], np.int32 if name.endswith("id") else np.float64)
        for name in ("replica_id", "stage_id", "start", "end")
    }
    names = ("replica_id", "scheduled_at", "first_token_at", "finished_at")
    columns = {name: np.array([getattr(request, name) for request in outcome.requests]) for name in names}
    columns["num_restarts"] = np.array([request.num_restarts for request in outcome.requests])
    columns["preempted_time"] = columns["finished_at"] - [request.started_at for request in outcome.requests]
    columns["preempted_time"] -= [request.execution_time for request in outcome.requests]
    if not rows:
        return
    found = flows.steps(columns, iterations, flows.batches(iterations), np.ones(len(requests), bool))
    for request, place in zip(found.request.tolist(), found.row.tolist(), strict=True):
        was = [batch.spells[rows[place].stage_id] for batch in outcome.requests[request].batches]
        assert (rows[place].start, rows[place].end) in was
    alone = [r.id for r in outcome.requests if len(r.batches) * described.num_stages > 1 and r.is_finished]
    begun = set(found.request.tolist())
    assert described.num_stages > 1 or set(alone) <= begun


def test_a_replica_that_serves_nothing(tmp_path: Path) -> None:
    stream = tmp_path / "pinned.csv"
    stream.write_text("arrived_at,num_prompt_tokens,num_output_tokens,replica_id\n0,50,5,0\n0.1,50,5,2\n")
    deployment = fastsim.Deployment.load(None, ["num_replicas=3", "router.policy=pinned"])
    fastsim.simulate(deployment, stream, iterations=True).save(tmp_path / "run")
    timeline(tmp_path / "run", tmp_path / "t.json.gz")
    events = load(tmp_path / "t.json.gz")
    check(events)
    assert {event["pid"] for event in events if event["ph"] != "M"} == {1, 3}


def test_bad_input(tmp_path: Path) -> None:
    fastsim.simulate(None, fastsim.load_workload("chat", num_requests=5)).save(tmp_path / "plain")
    with pytest.raises(InputError, match=r"holds no iterations.parquet.*simulate with --iterations"):
        timeline(tmp_path / "plain", tmp_path / "t.json.gz")
    fastsim.simulate(None, fastsim.load_workload("chat", num_requests=5), iterations=True).save(tmp_path / "run")
    for begin, end in ((3.0, 2.0), (1e6, None), (None, -1.0)):
        with pytest.raises(ConfigError, match=r"no batch lies between .*; the run lasts from"):
            timeline(tmp_path / "run", tmp_path / "t.json.gz", begin, end)
    with pytest.raises(OutputError, match="is a folder; name a file"):
        timeline(tmp_path / "run", tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        timeline(tmp_path / "none", tmp_path / "t.json.gz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plain", "run"]
    answer = CliRunner().invoke(cli, ["timeline", str(tmp_path / "run"), "--every", "0"])
    assert answer.exit_code == 2


def test_the_same_again_is_the_same_file(tmp_path: Path) -> None:
    fastsim.simulate(None, fastsim.load_workload("chat", num_requests=5), iterations=True).save(tmp_path / "run")
    for name in ("a", "b"):
        timeline(tmp_path / "run", tmp_path / f"{name}.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    timeline(tmp_path / "run", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text())["traceEvents"] == load(tmp_path / "a.json.gz")
