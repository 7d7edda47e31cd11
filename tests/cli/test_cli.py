"""The command line, in-process and as a process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from fastsim.cli import COMMANDS, cli, main, run

ROOT = Path(__file__).resolve().parents[2]


def call(*arguments: str, stdin: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fastsim", *arguments],
        capture_output=True,
        text=True,
        input=stdin,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def refused(*arguments: str) -> str:
    """The one sentence of a call with bad input."""
    done = call(*arguments)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_help_names_every_command() -> None:
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert name in shown.output
        assert CliRunner().invoke(cli, [name, "--help"]).exit_code == 0


def test_simulate_needs_no_argument() -> None:
    done = call("simulate")
    assert done.returncode == 0, done.stderr
    for word in ("TTFT", "TBT", "TPOT", "E2E", "Scheduling delay", "requests/s", "restarts", "peak KV", "$"):
        assert word in done.stdout
    assert done.stderr == ""


def test_simulate_writes_its_files(tmp_path: Path) -> None:
    workload = tmp_path / "requests.csv"
    workload.write_text("arrived_at,num_prompt_tokens,num_output_tokens\n0,100,20\n0.5,200,30\n")
    out = tmp_path / "out"
    done = call("simulate", "data/default.yaml", str(workload), "--out", str(out), "--iterations", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["requests"] == 2
    assert json.loads((out / "summary.json").read_text())["totals"] == json.loads(done.stdout)["totals"]
    assert pq.read_table(out / "requests.parquet")["num_output_tokens"].to_pylist() == [20, 30]
    assert pq.read_table(out / "iterations.parquet").num_rows == 50
    repeated = tmp_path / "again"
    again = call("simulate", str(out / "config.json"), str(out / "requests.parquet"), "--out", str(repeated))
    assert again.returncode == 0, again.stderr
    assert pq.read_table(repeated / "requests.parquet").equals(pq.read_table(out / "requests.parquet"))


def test_settings_from_standard_input_and_overrides() -> None:
    deployment = "model: meta-llama/Llama-2-7b-hf\ndevice: a100\n"
    done = call("simulate", "-", "chat", "--requests", "50", "--set", "num_replicas=2", "--json", stdin=deployment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["cost"]["gpus"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulat"], ["simulat", "simulate"]),
        (["simulate", "--set", "modl=x"], ["modl", "model"]),
        (["simulate", "--set", "model=llama-3-9b"], ["llama-3-9b"]),
        (["simulate", "--set", "device=h1000"], ["h1000", "h100"]),
        (["simulate", "--set", "scheduler.policy=sarahti"], ["sarahti", "sarathi"]),
        (["simulate", "--set", "scheduler.max_num_seqs=0"], ["scheduler.max_num_seqs", "0", "128"]),
        (["simulate", "--set", "tensor_parallel_size=3"], ["tensor_parallel_size", "3"]),
        (["simulate", "--set", "pipeline_parallel_size=33"], ["pipeline_parallel_size", "33"]),
        (["simulate", "--set", "model=meta-llama/Meta-Llama-3-70B"], ["GiB", "tensor_parallel_size"]),
        (["simulate", "--set", "predictor.source=tables:nowhere"], ["nowhere"]),
        (["simulate", "nowhere.yaml"], ["nowhere.yaml"]),
        (["simulate", "data/default.yaml", "nowhere.csv"], ["nowhere.csv"]),
        (["simulate", "data/default.yaml", "chatt"], ["chatt", "chat"]),
        (["simulate", "--rate", "-1"], ["-1"]),
        (["simulate", "--requests", "0"], ["0"]),
        (["simulate", "--out", "LICENSE", "--requests", "5"], ["LICENSE", "folder"]),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(arguments: list[str], words: list[str]) -> None:
    sentence = refused(*arguments)
    for word in words:
        assert word in sentence


def test_an_unknown_option_is_bad_input() -> None:
    done = call("simulate", "--ouT", "x")
    assert done.returncode == 2
    assert "--ouT" in done.stderr
    assert "Traceback" not in done.stderr


def test_catalog_lists_what_exists() -> None:
    for kind in ("models", "checkpoints", "devices", "nodes", "policies", "routers", "predictors", "metrics"):
        table = CliRunner().invoke(cli, ["catalog", kind])
        assert table.exit_code == 0, table.output
        listed = json.loads(CliRunner().invoke(cli, ["catalog", kind, "--json"]).output)
        assert listed
        assert all(row["name"] in table.output for row in listed)


def test_catalog_shows_the_modules_of_a_model() -> None:
    shown = CliRunner().invoke(cli, ["catalog", "model", "deepseek-v3"])
    rows = {line.split()[0]: line.split() for line in shown.output.splitlines() if line.startswith(("m", "a", "l"))}
    assert rows["moe_experts"][1:6] == ["fp8_block", "8.002", "8", "58", "3-60"]
    assert rows["lm_head"][1:5] == ["bf16", "16", "16", "-"] and "671 billion parameters" in shown.output
    known = json.loads(CliRunner().invoke(cli, ["catalog", "model", "deepseek-v3", "--json"]).output)
    assert known["model"]["quantization"] == "fp8_block" and known["kv_bytes_per_token"] == 61 * 576 * 2
    assert known["bytes"] == round(sum(module["bytes"] for module in known["modules"]))
    for wrong in (["catalog", "model"], ["catalog", "models", "deepseek-v3"], ["catalog", "model", "no such"]):
        assert call(*wrong).returncode == 2


def test_a_closed_pipe_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m fastsim catalog models --json | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "["
    assert done.stderr == ""


def test_main_prints_errors(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fastsim", "simulate", "--set", "device=h1000"])
    monkeypatch.setattr("fastsim.cli._leave", sys.exit)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("fastsim: ")


def test_lengths_and_durations_are_asked_for_by_options(capsys: pytest.CaptureFixture[str]) -> None:
    """As many requests as arrive in the time, all of the same lengths; what contradicts itself is refused."""
    assert (
        run(["simulate", "--input-len", "100", "--output-len", "10", "--duration", "1min", "--rate", "3", "--json"])
        == 0
    )
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert 140 < totals["requests"] < 220
    assert totals["prompt_tokens"] == 100 * totals["requests"] and totals["output_tokens"] == 10 * totals["requests"]
    for wrong, sentence in {
        "chat --input-len 10 --output-len 3": "lengths of its own",
        "--input-len 10": "--output-len: missing",
        "chat --duration 5": "has no unit; did you mean '5s'",
        "chat --duration 0s": "not a time of more than 0 s",
        "chat --duration 5s --requests 3": "exclude each other",
        "chat --duration 5s --users 3": "give --requests",
        "chat --duration 0.01s": "the first request arrives after",
        "chat --check": "needs an objective",
    }.items():
        assert run(["simulate", *wrong.split()]) == 2
        assert sentence in capsys.readouterr().err


def test_a_missed_objective_fails_only_where_it_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["simulate", "chat", "--requests", "50", "--seed", "3", "--slo", "ttft:p99<1ms", "--slo", "e2e:p99<9min"]
    assert run(asked) == 0
    capsys.readouterr()
    assert run([*asked, "--check"]) == 1
    assert capsys.readouterr().err == "fastsim: missed ttft:p99<1ms\n"
