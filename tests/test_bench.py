"""Every benchmark runs, at its smallest size: asv's suites, the table of speed, and the comparison with peers."""

import inspect
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
SUITES = [path.stem for path in sorted((BENCH / "suites").glob("*.py")) if path.stem != "__init__"]


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def smallest(suite: Any) -> tuple[Any, ...]:
    params = getattr(suite, "params", ())
    if not params:
        return ()
    return tuple(one[0] for one in params) if isinstance(params[0], list | tuple) else (params[0],)


def suites(name: str) -> Iterator[tuple[Any, str]]:
    module = import_module(f"suites.{name}")
    for _, kind in inspect.getmembers(module, inspect.isclass):
        for method in vars(kind):
            if kind.__module__ == module.__name__ and method.startswith(("time_", "track_", "peakmem_")):
                yield kind, method


@pytest.mark.parametrize("name", SUITES)
def test_every_benchmark_runs_once(name: str) -> None:
    ran = 0
    for kind, method in suites(name):
        suite = kind()
        given = smallest(suite)
        suite.setup(*given)
        value = getattr(suite, method)(*given)
        assert (value is not None and value >= 0) == method.startswith("track_")
        ran += 1
    assert ran > 0


def test_loads_are_what_their_names_say() -> None:
    """Light leaves nobody waiting, saturated does, preempting restarts."""
    import fastsim

    prepare = import_module("suites.kernels").prepare
    totals = {
        name: fastsim.simulate(*prepare("vllm", 500, name)).summary for name in ("light", "saturated", "preempting")
    }
    assert totals["light"]["latency"]["scheduling_delay"]["p99"] < 0.1
    assert totals["saturated"]["latency"]["scheduling_delay"]["p99"] > 0.5
    assert totals["saturated"]["totals"]["restarts"] == 0
    assert totals["preempting"]["totals"]["restarts"] > 0
    for policy in ("orca", "lightllm", "faster_transformer", "sarathi", "sglang"):
        assert fastsim.simulate(*prepare(policy, 300, "preempting")).summary["totals"]["requests"] == 300


def test_the_table_of_speed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    speed, figures = import_module("speed"), import_module("figures")
    # A first run ever compiles, and takes too long here.
    monkeypatch.setattr(figures, "process", lambda arguments, cache=None: {"seconds": 0.5})
    speed.main(["--scale", "0.0005", "--runs", "1", "--trace", "no such file"])
    shown = capsys.readouterr().out
    assert "synthesised to the statistics" in shown
    for words in ("1 replica, sarathi", "1 replica, vllm", "4 replicas, least_outstanding", "Llama-2-7B on A100",
                  "100 replicas, round_robin", "1,000 replicas, least_outstanding", "configurations x",
                  "whole process", "first run ever", "ns per request", "steady decode",
                  "4 pipeline stages"):  # fmt: skip
        assert words in shown
    assert "peak_mib" in shown


def test_a_figure_over_its_bar_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    speed, figures = import_module("speed"), import_module("figures")
    slow = figures.Figure("slow", 1.0, lambda: {"seconds": 2.0}, vidur_s=10.0)
    large = figures.Figure("large", 1.0, lambda: {"seconds": 0.5, "peak_mib": 900.0}, most_mib=800.0, most_runs=1)
    good = figures.Figure("good", 1.0, lambda: {"seconds": 0.5})
    speed.measure([slow, large, good], 3)
    assert [len(row.taken) for row in (slow, large, good)] == [3, 1, 3]
    assert [row.kept for row in (slow, large, good)] == [False, False, True]
    speed.show([slow, large, good])
    lines = capsys.readouterr().out.splitlines()
    assert "!" in next(line for line in lines if line.startswith("slow"))
    assert "!" not in next(line for line in lines if line.startswith("good"))


def test_the_synthesised_trace_has_the_statistics_of_the_trace() -> None:
    traffic = import_module("traffic")
    drawn, about = traffic.azure(None)
    assert "synthesised" in about
    assert drawn.num_requests == 19_366
    assert drawn.num_prompt_tokens.mean() == pytest.approx(1154.7, rel=0.05)
    assert drawn.num_output_tokens.mean() == pytest.approx(211.1, rel=0.05)
    assert drawn.rate == pytest.approx(5.53, rel=0.05)


def test_files_of_requests_are_timed_and_weighed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = import_module("traces")
    assert [name for name, seconds, alone in traces.reading(500, runs=1) if seconds > 0 and alone > 0] == [
        "own.csv",
        "own.parquet",
        "azure.csv",
    ]
    command, mib = next(traces.peaks(500))
    assert command == "convert requests.parquet requests.csv" and 30 < mib < 2048
    path = tmp_path / "requests.jsonl"
    line = '{{"timestamp": {}, "input_length": {}, "output_length": 5, "hash_ids": [{}]}}\n'
    path.write_text("".join(line.format(1000 * k, 512 + k, k % 2) for k in range(60)))
    traces.main([str(path)])
    shown = capsys.readouterr().out
    assert "hits of a cache of 1,000,000 tokens 91.4 %" in shown and "'kolmogorov_smirnov'" in shown


PEER = """
import csv, pathlib, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert set(rows[0]) == {"arrived_at", "num_prefill_tokens", "num_decode_tokens"}
out = pathlib.Path(sys.argv[2]) / "run-1"
out.mkdir()
(out / "metrics.csv").write_text("took\\n" + "\\n".join(["2.0"] * len(rows)))
"""


def test_a_peer_is_run_on_the_same_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    peers = import_module("peers")
    requests, script = tmp_path / "requests.csv", tmp_path / "peer.py"
    requests.write_text("arrived_at,num_prompt_tokens,num_output_tokens\n0,100,20\n0.5,200,30\n")
    script.write_text(PEER)
    given = [str(requests), "--peer", f"{sys.executable} {script} {{requests}} {{out}}", "--runs", "1"]
    peers.main([*given, "--latencies", "**/metrics.csv", "--columns", "e2e=took"])
    shown = capsys.readouterr().out
    assert "2 requests" in shown
    assert "e2e P50: peer 2 s, fastsim 0." in shown
    assert "fastsim process: " in shown and " s CPU" in shown and "times by wall time, " in shown
    assert peers.EQUAL in shown
    assert peers.NOT_EQUAL in shown
    with pytest.raises(SystemExit, match="has no 'nothing'; it has took"):
        peers.main([*given, "--latencies", "**/metrics.csv", "--columns", "e2e=nothing"])
    with pytest.raises(SystemExit, match="exit code 3"):
        peers.main([str(requests), "--peer", f"{sys.executable} -c 'import sys; sys.exit(3)'"])
    capsys.readouterr()
    peers.main([])
    assert "No peer given" in capsys.readouterr().out


def test_schedulers_are_compared_on_the_same_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedulers = import_module("schedulers")
    rows = [f"{0.1 * n},{100 + n},{5 + n}\n" for n in range(20)]
    (tmp_path / "azure_code_2023.csv").write_text("arrived_at,num_prompt_tokens,num_output_tokens\n" + "".join(rows))
    given = ["--traces", str(tmp_path), "--only", "azure-code", "--load", "0.5", "--tokens", "4096"]
    schedulers.main([*given, "--out", str(tmp_path / "out")])
    shown = capsys.readouterr().out
    assert "20 requests" in shown
    assert [shown.count(f"\n{engine}, ") for engine in schedulers.ENGINES] == [3, 3, 4]
    page = (tmp_path / "out" / "azure-code at load 0.5.html").read_text()
    assert "sglang-0.5.23, no caching" in page


def test_configurations_are_counted_by_what_is_answered(tmp_path: Path) -> None:
    from published import HYBRIDS, OLDER

    for name, fields in (("a", OLDER["opt-6.7b"][1]), ("b", HYBRIDS["mamba-2.8b"][1]), ("c", {"model_type": "clip"})):
        (tmp_path / f"{name}_config.json").write_text(json.dumps(fields))
    found = import_module("model_configs").rows(tmp_path, "b200")
    assert [row[1] for row in found] == ["simulated", "memory", "refused"]
    assert found[0][2] == pytest.approx(6.66, rel=1e-3) and "state-space" in found[1][4] and "encoder" in found[2][4]


def test_two_commits_are_compared_in_turns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    guard = import_module("guard")
    checkout, small = BENCH.parent, "sweep.Making.time_cut[10]"
    (row,) = guard.compare(checkout, checkout, [small], 1)
    assert row[0] == small and 0 < row[1] < 10 and 0 < row[2] < 10
    assert {f"kernels.MicroBatches.track_ns[{policy}-2-64]" for policy in ("vllm", "orca")} <= {
        name for name, *_ in guard.names() if any(guard.fnmatchcase(name, guard._literal(one)) for one in guard.GUARDED)
    }
    with pytest.raises(SystemExit, match="no benchmark is called nothing"):
        next(guard.compare(checkout, checkout, ["nothing"], 1))
    monkeypatch.setattr(guard, "_checkout", lambda commit, folder: folder)
    monkeypatch.setattr(guard, "compare", lambda *_: iter([("slow", 1.0, 1.2), ("quick", 1.0, 0.5), "new: KeyError"]))
    assert guard.main(["HEAD"]) == 1 and guard.main(["HEAD", "--worse", "1.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1.200 !" in lines[1] and "!" not in lines[2] and lines[3] == "new: KeyError"


def test_only_the_rows_that_are_asked_for_are_prepared(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    speed, figures = import_module("speed"), import_module("figures")
    for name in ("sweep", "kernel", "against_sarathi"):
        monkeypatch.setattr(figures, name, lambda *_: pytest.fail("another row is prepared"))
    monkeypatch.setattr(figures, "process", lambda arguments, cache=None: {"seconds": 0.5, "core-seconds": 0.4})
    speed.main(["--only", "warm, whole process", "--runs", "1", "--scale", "0.001"])
    assert "core-seconds 0.4" in capsys.readouterr().out
