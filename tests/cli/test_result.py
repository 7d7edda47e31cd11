"""`fastsim result`, the options of `fastsim simulate` about metrics, and the catalog of metrics."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli, main
from fastsim.result.metrics.definitions import METRICS, STATISTICS
from fastsim.workload.loading import load

CHAT = load("chat", rate=4.0, num_requests=200, seed=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "chat"
    fastsim.simulate(None, CHAT).save(folder)
    return folder


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["fastsim", *arguments])
    monkeypatch.setattr("fastsim.cli._leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    return shown.err


def test_show_says_what_the_run_said(folder: Path) -> None:
    shown = CliRunner().invoke(cli, ["result", "show", str(folder)])
    assert shown.exit_code == 0, shown.output
    for words in ("TTFT", "200 requests", "Throughput", "Energy", "simulated in"):
        assert words in shown.output
    judged = CliRunner().invoke(cli, ["result", "show", str(folder), "--slo", "ttft:p90<2s", "--slo", "tbt:max<1us"])
    assert "ttft:p90<2s met" in judged.output
    assert "tbt:max<1us missed" in judged.output
    assert "0.0% of requests are below 1us by the mean of their gaps" in judged.output
    assert "Goodput     0.0% of requests are below every limit" in judged.output
    assert "the run misses 1 of 2 objectives" in judged.output
    told = json.loads(CliRunner().invoke(cli, ["result", "show", str(folder), "--json"]).output)
    stored = json.loads((folder / "summary.json").read_text())
    assert told == {name: value for name, value in stored.items() if name != "digest"}


def test_csv_is_written_beside(folder: Path) -> None:
    done = CliRunner().invoke(cli, ["result", "csv", str(folder)])
    assert done.exit_code == 0, done.output
    assert len((folder / "requests.csv").read_text().splitlines()) == 201
    assert (folder / "requests.parquet").exists()


def test_series_at_any_resolution(folder: Path, tmp_path: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    for every, number in (("1s", 1), ("500ms", 2), ("1min", 1 / 60)):
        lines = CliRunner().invoke(cli, ["result", "series", str(folder), "--every", every]).output.splitlines()
        assert lines[0] == "time,arrivals,first_tokens,completions,queue"
        assert len(lines) - 1 == math.ceil(summary["totals"]["span_s"] * number)
        arrivals = sum(float(line.split(",")[1]) for line in lines[1:-1]) / number
        assert 150 < arrivals <= 200 or len(lines) == 2
    fastsim.simulate(None, CHAT, iterations=True).save(tmp_path / "out")
    shown = CliRunner().invoke(cli, ["result", "series", str(tmp_path / "out"), "--every", "1000s"]).output
    named = dict(zip(*(line.split(",") for line in shown.splitlines()), strict=True))
    assert float(named["busy"]) == pytest.approx(summary["utilisation"]["busy"])
    tokens = float(named["prefill_tokens"]) * summary["totals"]["span_s"]
    assert tokens == pytest.approx(summary["totals"]["prompt_tokens"])


def test_objectives_and_exclusion_of_a_run() -> None:
    call = ["simulate", "data/default.yaml", "chat", "--rate", "4", "--requests", "200", "--json"]
    root = Path(__file__).resolve().parents[2]
    call[1] = str(root / call[1])
    plain = json.loads(CliRunner().invoke(cli, call).output)
    assert "goodput" not in plain
    found = json.loads(CliRunner().invoke(cli, [*call, "--slo", "ttft:p90<2s", "--exclude", "10s,5s"]).output)
    assert found["objectives"]["ttft:p90<2s"]["met"] is True
    assert found["goodput"]["share"] == 1.0
    assert 40 < found["excluded"]["requests"] < 90
    assert found["latency"]["e2e"]["mean"] != plain["latency"]["e2e"]["mean"]
    assert found["cost"] == plain["cost"]
    for name in ("objectives", "goodput.share", "excluded.requests", "latency.ttft"):
        assert found["definitions"][name]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulate", "--slo", "ttft:p90<2"], "did you mean '2s'?"),
        (["simulate", "--slo", "tttf:p90<2s"], "did you mean 'ttft'?"),
        (["simulate", "--exclude", "60"], "did you mean '60s'?"),
        (["simulate", "--exclude", "5h"], "unknown unit 'h'; valid: us, ms, s, min"),
        (["simulate", "--exclude", "1s,2s,3s"], "more than a warm-up and a cool-down"),
        (["simulate", "--exclude", "-5s"], "'-5s' is not a time"),
        (["simulate", "--exclude", "9min"], "leave nothing of the 495.3 s in which requests arrive"),
        (["simulate", "--csv"], "--csv needs a folder"),
        (["result", "show", "nowhere"], "nowhere: does not exist"),
        (["result", "show", "LICENSE"], "LICENSE: is a file, not a folder"),
        (["result", "series", "nowhere", "--every", "5"], "did you mean '5s'?"),
        (["result", "series", "nowhere", "--every", "0s"], "is not a time above 0"),
        (["result", "csv", "tests"], "tests: holds no requests.parquet"),
        (["compare", "nowhere", "nowhere"], "nowhere: does not exist"),
        (["result", "wandb", "nowhere", "--project", "x"], "nowhere: does not exist"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])
    assert words in refused(monkeypatch, capsys, *arguments)


def test_the_catalog_lists_every_metric() -> None:
    listed = json.loads(CliRunner().invoke(cli, ["catalog", "metrics", "--json"]).output)
    assert [row["name"] for row in listed] == [metric.name for metric in METRICS]
    assert all(row["meaning"] and row["kind"] for row in listed)


def test_wandb_gets_settings_and_figures(folder: Path, tmp_path: Path) -> None:
    """With the package itself, offline, in a process of its own: it leaves threads behind."""
    pytest.importorskip("wandb")
    done = subprocess.run(
        [sys.executable, "-m", "fastsim", "result", "wandb", str(folder), "--project", "trial"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "PYTHONPATH": _root()},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    assert str(run) in done.stdout
    (log,) = run.glob("*.wandb")
    held = log.read_bytes()
    for name in ("latency.ttft.p99", "cost.gpu_hours", "requests.parquet", "meta-llama/Meta-Llama-3-8B"):
        assert name.encode() in held


def test_wandb_that_is_not_there_is_asked_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert "pip install 'fastsim[wandb]'" in refused(
        monkeypatch, capsys, "result", "wandb", str(folder), "--project", "x"
    )


def _root() -> str:
    return str(Path(fastsim.__file__).resolve().parents[1])


def test_a_distribution_has_every_figure(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    for figures in summary["latency"].values():
        assert list(figures) == list(STATISTICS)
        ordered = [figures[name] for name in ("min", "p50", "p75", "p90", "p95", "p99", "p999", "max")]
        assert ordered == sorted(ordered)
