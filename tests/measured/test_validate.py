"""A simulated run that is written as if it was measured is predicted without an error, in every layout; real runs are
compared by the same figures; bad input ends in one sentence."""

import gzip
import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from measured_layouts import bench, guidellm, own, recorder, serving_sim

import fastsim
from fastsim.cli import run
from fastsim.errors import ConfigError, WorkloadError
from fastsim.measured.counts import Times, counts
from fastsim.measured.read import read
from fastsim.measured.replay import validate
from fastsim.measured.statistics import Pair, likeness
from fastsim.measured.tolerance import parse
from fastsim.report.validation import render
from fastsim.result.result import Result

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "data" / "vllm_cpu"
GROUNDTRUTH = ROOT.parent / "shared" / "groundtruth"
DEPLOYMENT = fastsim.Deployment.load(RECORDED / "deployment.yaml")
USERS = 6
OPEN, CLOSED = "open", "closed"


@pytest.fixture(scope="module")
def results() -> Mapping[str, Result]:
    """The same requests at a rate, and sent by users who wait."""
    rng = np.random.default_rng(1)
    number = 60
    lengths = rng.integers(20, 400, number), rng.integers(1, 60, number)
    stream = fastsim.Workload(np.cumsum(rng.exponential(0.15, number)), *lengths)
    return {
        OPEN: fastsim.simulate(DEPLOYMENT, stream),
        CLOSED: fastsim.simulate(DEPLOYMENT, stream.with_users(USERS)),
    }


def saved(result: Result, folder: Path) -> Path:
    result.save(folder / "run")
    return folder / "run"


LAYOUTS: dict[str, tuple[str, Callable[[Result, Path], Path]]] = {
    "vllm bench": (OPEN, lambda result, folder: bench(result, folder / "bench.json", request_rate=7.0)),
    "compressed": (
        OPEN,
        lambda result, folder: bench(result, folder / "r.json.gz", latencies=list(result.column("e2e"))),
    ),
    "a line of JSON": (OPEN, lambda result, folder: bench(result, folder / "r.jsonl")),
    "users of vllm bench": (
        CLOSED,
        lambda result, folder: bench(result, folder / "b.json", request_rate="inf", max_concurrency=USERS),
    ),
    "users without times": (
        CLOSED,
        lambda result, folder: bench(result, folder / "b.json", times=False, request_rate="inf", max_concurrency=USERS),
    ),
    "GuideLLM, old": (OPEN, lambda result, folder: guidellm(result, folder / "benchmarks.json", old=True)),
    "GuideLLM, new": (OPEN, lambda result, folder: guidellm(result, folder / "benchmarks.json", old=False)),
    "streams of GuideLLM": (
        CLOSED,
        lambda result, folder: guidellm(
            result, folder / "g.json", old=False, strategy={"type_": "concurrent", "streams": USERS}
        ),
    ),
    "own latencies": (
        OPEN,
        lambda result, folder: own(result, folder / "requests.csv", ("ttft", "e2e", "scheduled_at")),
    ),
    "own moments": (OPEN, lambda result, folder: own(result, folder / "r.parquet", ("first_token_at", "finished_at"))),
    "own rates": (OPEN, lambda result, folder: own(result, folder / "r.csv", ("ttft", "tpot"))),
    "a result": (OPEN, saved),
    "recorder": (OPEN, lambda result, folder: recorder(result, folder / "run")),
    "users of a recorder": (CLOSED, lambda result, folder: recorder(result, folder / "run", USERS)),
    "LLMServingSim": (OPEN, lambda result, folder: serving_sim(result, folder / "run.csv")),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_was_simulated_is_predicted_without_an_error(
    name: str, results: Mapping[str, Result], tmp_path: Path
) -> None:
    kind, write = LAYOUTS[name]
    found = validate(read(write(results[kind], tmp_path)), DEPLOYMENT)
    assert found.measured.failed == (1 if "GuideLLM" in name else 0)
    for metric in ("ttft", "tpot", "e2e"):
        assert set(found.latency[metric]) == {"mean", "p50", "p90", "p99"}
        assert all(abs(pair.error or 0.0) < 1e-6 for pair in found.latency[metric].values()), metric
        one = found.by_request[metric]
        assert one.correlation == pytest.approx(1) and one.mean_absolute_error < 1e-7
    if name == "users without times":
        assert "nothing to show over time" in render(found)
        assert not found.throughput and not found.over_time
        return
    assert all(abs(pair.error or 0.0) < 1e-6 for pair in found.throughput.values()) and len(found.throughput) == 2
    assert all(one.mean_absolute_difference < 0.02 for one in found.over_time.values())
    assert found.over_time["in_flight"].measured.max() > 1
    if name in ("own latencies", "recorder", "a result", "LLMServingSim"):
        assert list(found.over_time) == ["running", "waiting", "in_flight"]
    if "itl" in found.latency:
        assert found.latency["itl"]["mean"].error == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize(("name", "expected"), [("LLMServingSim", 0.0), ("own latencies", 7.0)])
def test_only_times_of_clients_have_a_front_end(
    name: str, expected: float, results: Mapping[str, Result], tmp_path: Path
) -> None:
    kind, write = LAYOUTS[name]
    engine = fastsim.Deployment.load(DEPLOYMENT, ["predictor={}"])
    found = validate(read(write(results[kind], tmp_path)), engine)
    assert found.result.config["deployment"]["front_end_ms"] == expected


def test_a_slower_deployment_is_that_much_slower(results: Mapping[str, Result], tmp_path: Path) -> None:
    """A closed loop whose every step takes twice as long: latencies double, and throughput halves."""
    terms = {name: 2 * value for name, value in DEPLOYMENT.predictor.affine.model_dump(exclude_none=True).items()}  # type: ignore[union-attr]
    slower = fastsim.Deployment.load(DEPLOYMENT, [f"predictor.affine={json.dumps(terms)}"])
    found = validate(read(LAYOUTS["users of a recorder"][1](results[CLOSED], tmp_path)), slower)
    assert {name: round(pair.error or 0.0, 6) for name, pair in found.means().items()} == {
        "TTFT mean": 1.0,
        "TPOT mean": 1.0,
        "E2E mean": 1.0,
        "output throughput": -0.5,
        "request throughput": -0.5,
    }
    assert found.by_request["e2e"].mean_absolute_share == pytest.approx(1)


def test_failed_requests_are_left_out_and_counted(results: Mapping[str, Result], tmp_path: Path) -> None:
    path = bench(results[OPEN], tmp_path / "bench.json")
    document = json.loads(path.read_text())
    document["errors"][3], document["output_lens"][5], document["itls"][5] = "Timeout", 0, []
    path.write_text(json.dumps(document))
    found = read(path)
    assert found.failed == 2 and found.workload.num_requests == 58
    kept = [row for row in range(60) if row not in (3, 5)]
    assert found.ttft.tolist() == [document["ttfts"][row] for row in kept]
    assert "2 requests that failed are left out" in validate(found, DEPLOYMENT).notes


def test_prompts_share_the_prefixes_that_were_recorded(results: Mapping[str, Result], tmp_path: Path) -> None:
    folder = recorder(results[OPEN], tmp_path / "run")
    table = pq.read_table(folder / "requests.parquet")
    groups = ["a" if row % 2 else "b" for row in range(60)]
    table = table.append_column("prefix_group", [groups]).append_column("prefix_tokens", [[18] * 60])
    pq.write_table(table, folder / "requests.parquet")
    hashes = read(folder).workload.block_hashes
    assert hashes is not None and len(hashes[0]) == 1
    assert hashes[0] == hashes[2] != hashes[1]
    (folder / "config.json").unlink()
    lost = read(folder)
    assert lost.workload.block_hashes is None and any("prefixes" in note for note in lost.notes)


def test_requests_are_sent_as_the_file_or_the_user_says(results: Mapping[str, Result], tmp_path: Path) -> None:
    path = bench(results[OPEN], tmp_path / "bench.json", times=False, request_rate=7.0, burstiness=2.0)
    drawn = read(path)
    assert drawn.workload.arrived_at[-1] == pytest.approx(60 / 7) and "burstiness of 2" in drawn.notes[0]
    assert read(path, rate=3.0).workload.arrived_at[-1] == pytest.approx(60 / 3)
    assert read(path, users=4).workload.max_concurrency == 4
    held = read(bench(results[OPEN], tmp_path / "held.json", request_rate=7.0, max_concurrency=3))
    assert held.workload.max_concurrency == 3 and not held.workload.is_loop
    at_once = read(bench(results[OPEN], tmp_path / "once.json", times=False, request_rate="inf"))
    assert not at_once.workload.arrived_at.any() and "at once" in at_once.notes[0]
    alone = guidellm(results[OPEN], tmp_path / "g.json", old=True, strategy={"type_": "synchronous"})
    assert read(alone).workload.max_concurrency == 1


def test_counts_over_time_are_those_of_intervals() -> None:
    measured = Times(np.array([0.0, 2.0]), np.array([1.0, 2.0]), np.array([4.0, 10.0]))
    found = counts(measured, Times(np.array([0.0, 2.0]), None, np.array([5.0, 10.0])))
    assert list(found) == ["in_flight"]
    assert found["in_flight"].measured.mean() == pytest.approx((4 + 8) / 10)
    assert found["in_flight"].mean_absolute_difference == pytest.approx(1 / 10)
    both = counts(measured, measured)
    assert both["running"].measured.mean() == pytest.approx((3 + 8) / 10)
    assert both["waiting"].measured.mean() == pytest.approx(1 / 10, abs=2e-3)


def test_errors_are_signed_and_likeness_is_by_request() -> None:
    assert Pair(2.0, 3.0).error == 0.5 and Pair(2.0, 3.0).as_dict()["absolute_error"] == 1.0
    assert Pair(0.0, 0.0).error == 0.0 and Pair(0.0, 1.0).error is None
    one = likeness(np.array([1.0, 2.0, np.nan]), np.array([1.5, 2.0, 3.0]))
    assert one is not None and one.mean_absolute_error == 0.25 and one.mean_absolute_share == 0.25
    assert one.correlation == pytest.approx(1)
    constant = likeness(np.ones(3), np.arange(3.0))
    assert constant is not None and constant.correlation is None


def test_a_recorded_run_is_within_its_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(["validate", str(RECORDED), "--within", "10%", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "Every mean latency and throughput is within 10 %" in shown
    assert {path.name for path in out.iterdir()} == {"validation.json", "by_request.parquet", "report.html"}
    figures = json.loads((out / "validation.json").read_text())
    mean = figures["latency"]["ttft"]["mean"]
    document = json.loads(gzip.decompress((RECORDED / "bench.json.gz").read_bytes()))
    assert mean["measured"] == pytest.approx(np.mean(document["ttfts"]))
    assert mean["error"] == pytest.approx(mean["predicted"] / mean["measured"] - 1)
    gaps = np.concatenate([np.array(each) for each in document["itls"]])
    assert figures["latency"]["itl"]["p99"]["measured"] == pytest.approx(np.percentile(gaps, 99))
    table = pq.read_table(out / "by_request.parquet")
    assert table["measured_ttft"].to_pylist() == document["ttfts"]
    assert pa.compute.mean(table["predicted_ttft"]).as_py() == pytest.approx(mean["predicted"])
    html = (out / "report.html").read_text()
    for part in ("Request by request", "Over time", "measured TTFT", "In flight", "TTFT mean", "1267"):
        assert part in html


def test_what_is_further_off_than_the_limit_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    slower = "predictor.affine.constant_ns=9000000"
    assert run(["validate", str(RECORDED), "--set", slower, "--within", "15%", "--json"]) == 1
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert not found["within"]["met"]
    assert re.search(r"not within 15 % of what was measured: .*TPOT mean \+\d\d\.\d%.*E2E mean", shown.err)
    assert "throughput" not in shown.err  # which the arrivals fix
    assert [name.rpartition(" ")[0] for name in found["within"]["missed"]][-1] == "E2E mean"


def test_a_command_is_a_deployment(results: Mapping[str, Result], tmp_path: Path) -> None:
    path = str(own(results[OPEN], tmp_path / "r.csv", ("ttft", "e2e")))
    command = "vllm serve meta-llama/Llama-3.1-8B --max-num-seqs 64"
    assert run(["validate", path, "--deployment", command, "--json", "--out", str(tmp_path / "out")]) == 0
    config = json.loads((tmp_path / "out" / "validation.json").read_text())["config"]["deployment"]
    assert config["model"] == "meta-llama/Llama-3.1-8B" and config["scheduler"]["max_num_seqs"] == 64


def test_a_result_is_replayed_on_its_own_deployment(
    results: Mapping[str, Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", str(saved(results[OPEN], tmp_path)), "--within", "0.0001%"]) == 0
    assert "within 0.0001 %" in capsys.readouterr().out


def test_a_file_without_first_tokens_says_so(results: Mapping[str, Result], tmp_path: Path) -> None:
    found = validate(read(own(results[OPEN], tmp_path / "r.csv", ("e2e",))), DEPLOYMENT)
    assert list(found.latency) == list(found.by_request) == ["e2e"]
    assert "TTFT and TPOT are not measured" in found.notes
    assert list(found.means()) == ["E2E mean", "output throughput", "request throughput"]
    assert "predicted E2E" in render(found)


def text(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


GOOD: dict[str, Any] = {
    "input_lens": [10, 20],
    "output_lens": [2, 3],
    "ttfts": [0.1, 0.2],
    "itls": [[0.1], [0.1, 0.1]],
    "start_times": [5.0, 6.0],
}
HEAD = "arrived_at,num_prompt_tokens,num_output_tokens"
REFUSED: list[tuple[str, Any, str]] = [
    ("a.json", b"", "empty; a result of a benchmark is expected"),
    ("a.csv", b"", "empty; a header and a row per request"),
    ("a.json", text(GOOD)[:-9], "the file is truncated"),
    ("a.json.gz", gzip.compress(text(GOOD))[:-9], "a truncated gzip file"),
    ("a.json.gz", text(GOOD), "not a gzip file in spite of its name"),
    ("a.json", b"\xff\xfe\x00", "not a text file in UTF-8"),
    ("a.json", "[" * 100_000, "holds"),
    ("a.txt", text(GOOD), "the name does not end in .json"),
    ("a.json", {"x": 1}, "keys 'x' are of no known layout; known are JSON of `vllm bench serve"),
    ("a.json", [1, 2], "[1, 2] is of no known layout"),
    ("a.json", {"request_throughput": 2.0}, "run the benchmark with --save-result --save-detailed"),
    ("a.json", {name: [] for name in GOOD}, "no requests, so that there is nothing to compare"),
    ("a.json", {**GOOD, "errors": ["x", "y"]}, "all 2 requests failed"),
    ("a.json", {**GOOD, "output_lens": [0, 0]}, "all 2 requests failed"),
    ("a.json", {**GOOD, "input_lens": [10, 0]}, "data row 2: input_lens: 0.0 is not a whole number of tokens"),
    ("a.json", {**GOOD, "input_lens": [10, "x"]}, "request 2: input_lens: 'x' is not a number"),
    ("a.json", {**GOOD, "ttfts": [0.1]}, "ttfts has 1 values and input_lens 2"),
    ("a.json", {**GOOD, "ttfts": [-0.1, 0.2]}, "ttft: -0.1 is not a time in seconds from 0"),
    (
        "a.json",
        {**GOOD, "itls": [[0.1, 1e11, -1e11], [0.1]]},
        "a time between two tokens: 1e+11 is not",
    ),
    ("a.json", {**GOOD, "itls": [[0.3, -0.1], [0.1]]}, "a time between two tokens: -0.1 is not a time in seconds"),
    ("a.json", {**GOOD, "duration": -2.0}, "duration: -2 is not a time in seconds from 0"),
    ("a.json", {**GOOD, "ttfts": [1e300, 0.2]}, "ttft: 1e+300 is not a time in seconds from 0 to 1e+10"),
    ("a.json", {**GOOD, "itls": [1, 2]}, "itls: 1 is not a list"),
    ("a.json", {**GOOD, "itls": []}, "has no itls"),
    ("a.json", {**GOOD, "start_times": [1.0, None]}, "request 2 has no time of arrival"),
    ("a.json", {**GOOD, "start_times": None}, "has no arrival times"),
    ("a.json", {**GOOD, "request_rate": "fast"}, "request_rate: 'fast' is neither"),
    ("a.json", {**GOOD, "max_concurrency": 0}, "max_concurrency: 0 is not a whole number"),
    ("a.json", {**GOOD, "input_lens": [10, 5000]}, "max_model_len"),
    ("g.json", {"benchmarks": [{"requests": {"errored": [{}, {}]}}]}, "all 2 requests failed"),
    ("g.json", {"benchmarks": [{}, {}]}, "2 benchmarks; keep the one"),
    ("g.json", {"benchmarks": [{"requests": {"successful": [3]}}]}, "request 1: is not an object"),
    ("a.csv", f"{HEAD}\n0,5,5\n".encode(), "has no measured times; give columns ttft"),
    ("a.csv", f"{HEAD},ttft,e2e\n".encode(), "no requests, only a header"),
    ("a.csv", f"{HEAD},ttft,e2e\n0,5,5,x,1\n".encode(), "data row 1: ttft: 'x' is not a number"),
    ("a.csv", f"{HEAD},ttft,e2e\n0,5,5,2,1\n".encode(), "TTFT 2 s is more than E2E 1 s"),
    ("a.csv", f"{HEAD},ttft,e2e\n0,5,5,,\n".encode(), "has no measured times"),
    ("a.csv", f"{HEAD},ttft,ttft\n0,5,5,1,1\n".encode(), "column ttft is there 2 times; keep one"),
    ("a.csv", b"\xff\xfea,b\n1,2\n", "not a text file in UTF-8"),
    ("a.jsonl", text(GOOD) + b"\n" + text(GOOD), "2 results of a benchmark; write each into a file of its own"),
    ("a.csv", b"a,b\n1,2\n", "columns 'a', 'b' are of no known layout"),
    ("a.parquet", b"PAR1", "cannot be read as parquet"),
]


@pytest.mark.parametrize(("name", "content", "said"), REFUSED)
def test_bad_input_ends_in_a_sentence(
    name: str, content: Any, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else text(content))
    shutil.copy(RECORDED / "deployment.yaml", tmp_path)
    if said == "holds":
        said = "not valid JSON: nested too deeply"
    out = tmp_path / "out"
    assert run(["validate", str(tmp_path / name), "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and "Traceback" not in shown.err and not shown.out
    assert shown.err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize("least", [0.0, 5e-324, 1e-300])
def test_times_that_are_next_to_nothing_have_no_error(least: float, tmp_path: Path) -> None:
    document = {**GOOD, "ttfts": [least] * 2, "itls": [[least], [least]], "start_times": [5.0] * 2}
    (tmp_path / "a.json").write_bytes(text(document))
    shutil.copy(RECORDED / "deployment.yaml", tmp_path)
    out = tmp_path / "out"
    assert run(["validate", str(tmp_path / "a.json"), "--out", str(out)]) == 0
    written = json.loads((out / "validation.json").read_text())
    assert written["latency"]["ttft"]["mean"]["error"] is None and not written["throughput"]


OPTIONS = [
    (("--within", "5"), "--within: '5' is not an error in per cent"),
    (("--within", "-5%"), "--within: '-5%' is not an error"),
    (("--within", "nan%"), "is not an error in per cent from 0% to 10,000% (e.g. 5%)"),
    (("--users", "0"), "--users: 0 is not a whole number from 1"),
    (("--rate", "-1"), "--rate: -1.0 is not requests per second"),
    (("--rate", "1", "--users", "2"), "exclude each other"),
    (("--deployment", "none.yaml"), "none.yaml"),
    (("--deployment", "run me"), "no command of vLLM or SGLang"),
    (("--set", "scheduler.max_num_seqs=0"), "max_num_seqs"),
]


@pytest.mark.parametrize(("options", "said"), OPTIONS)
def test_options_that_are_not_valid(options: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", str(RECORDED), *options]) == 2
    shown = capsys.readouterr()
    assert said in shown.err and shown.err.count("\n") == 1 and not shown.out


def test_a_folder_must_say_which_run_and_what_served_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WorkloadError, match="no such file or folder"):
        read(tmp_path / "none")
    with pytest.raises(WorkloadError, match="holds no measured run"):
        read(tmp_path)
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_bytes(text(GOOD))
    with pytest.raises(WorkloadError, match=r"several files \(a.json, b.json\)"):
        read(tmp_path)
    assert run(["validate", str(tmp_path / "a.json")]) == 2
    assert "--deployment: is not given, and" in capsys.readouterr().err


@pytest.mark.parametrize(("written", "share"), [("5%", 0.05), (" 0.5 % ", 0.005), ("0%", 0.0), (".5%", 0.005)])
def test_limits_are_in_per_cent(written: str, share: float) -> None:
    assert parse(written) == pytest.approx(share)
    with pytest.raises(ConfigError):
        parse(written.replace("%", ""))


def test_the_recordings_of_engines_are_read() -> None:
    """Client and recorder agree about every request, closed loops are closed loops, and prefixes are shared."""
    if not GROUNDTRUTH.exists():
        pytest.skip("needs the measured runs")
    for folder in sorted((GROUNDTRUTH / "vllm_cpu").glob("*/requests.parquet")):
        recorded, client = read(folder.parent), read(folder.with_name("bench.json.gz"))
        assert recorded.workload.num_requests == client.workload.num_requests
        assert np.abs(recorded.ttft - client.ttft).max() < 1e-6 and np.abs(recorded.e2e - client.e2e).max() < 1e-4
        assert recorded.workload.max_concurrency == client.workload.max_concurrency
        assert recorded.workload.is_loop == client.workload.is_loop == ("closed" in folder.parent.name)
        assert (recorded.workload.block_hashes is not None) == ("shared" in folder.parent.name)
    for path in sorted((GROUNDTRUTH / "vllm_0_19_runs").glob("*_meta.json")):
        run_of = read(path.with_name(path.name.replace("_meta.json", ".csv")))
        assert run_of.workload.num_requests == 300 and run_of.workload.block_hashes is not None
