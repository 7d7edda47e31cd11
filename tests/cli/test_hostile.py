"""Inputs that were made to break something, one of each kind: each is refused in a sentence, or shown as text."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastsim.cli import run

CSV = "arrived_at,num_prompt_tokens,num_output_tokens\n0,10,3\n1,10,3\n"
DEEP = "[" * 100 + "]" * 100
ALIASES = "a: &a0 [x]\n" + "".join(f"b{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(11))
GPU = "memory_gib: 80\nbandwidth_gb_s: 3000\ntflops: {bf16: 900}\nnum_sms: 100\n"


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Return the sentence with which a command refuses its input."""
    capsys.readouterr()
    assert run([*map(str, arguments)]) == 2
    out, said = capsys.readouterr()
    assert not out
    assert said.startswith("fastsim: ")
    assert said.count("\n") == 1
    assert "\x1b" not in said
    return said[len("fastsim: ") : -1]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.yaml", f"model: {DEEP}\ndevice: h100\n", "nested too deeply"),
        ("d.yaml", f"{ALIASES}device: h100\n", "more than 1,000,000 values"),
        ("d.yaml", f"model: x\nseed: 0x{'f' * 3600}\n", "seed: a whole number of 14,400 bits"),
        ("d.toml", f'model = "x"\nseed = 0x{"f" * 3600}\n', "seed: a whole number of 14,400 bits"),
        ("d.json", '{"model": "x", "seed": ' + "9" * 400 + "}", "seed: a whole number of 1,329 bits"),
        ("d.yaml", "1.5: 2\nmodel: x\n", "1.5: a key that is not text"),
        ("d.yaml", 'model: "a\\nb"\ndevice: h100\n', r"model: 'a\nb' is not a name"),
        ("d.yaml", f"model: llama-3-8b\ndevice: {'x' * 5000}\n", "device: 'xxx"),
    ],
)
def test_deployments(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    said = refused(capsys, "launch", tmp_path / name)
    assert said.startswith(str(tmp_path / name))
    assert words in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"axes": {1.5: [1]}}, "axes.1.5: a key that is not text"),
        ({"workload": {"source": 3}}, "workload.source: 3 is no workload"),
        ({"workload": {"lengths": {"kind": 1}}}, "space.yaml: workload: lengths.kind: 1 is unknown"),
        ({"axes": {"num_replicas": {"from": 0, "to": 1e300, "step": 1e-300}}}, "an axis may have 100,000"),
        ({"axes": {"num_replicas": {"from": 1, "to": 10**400, "step": 1}}}, "a whole number of 1,329 bits"),
        ({"axes": {"scheduler.policy": ["gone.py:f"]}}, "gone.py: no such file"),
        ({"where": [f"{'9' * 400} / 3 < num_gpus"]}, "cannot be computed"),
        ({"where": [f"num_gpus % 1.5 < {'9' * 400} % 1.5"]}, "cannot be computed"),
    ],
)
def test_spaces(tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: str) -> None:
    space = {"axes": {"num_replicas": [1]}, "workload": {"source": "chat", "num_requests": 5}, **changes}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    assert words in refused(capsys, "sweep", tmp_path / "space.yaml", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("budget", "price", "words"),
    [("$40/h", "", "has no price_per_hour"), (f"${'9' * 400}", "price_per_hour: 1", "must be above 0 up to 1e9")],
)
def test_budgets(tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: str, price: str, words: str) -> None:
    (tmp_path / "gpu.yaml").write_text(f"name: mine\n{GPU}predictor: h100_sxm\n{price}\n")
    deployment = {"model": "llama-3-8b", "device": str(tmp_path / "gpu.yaml"), "node": "pcie_gen4"}
    (tmp_path / "space.yaml").write_text(
        yaml.safe_dump({"deployment": deployment, "axes": {"scheduler.chunk_size": [256]}})
    )
    assert words in refused(capsys, "search", tmp_path / "space.yaml", "--budget", budget)


def test_files_that_are_no_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    said = "not a regular file but a pipe, socket or device"
    for command in (["launch", "pipe.yaml"], ["launch", "zero.yaml"], ["trace", "describe", "pipe.csv"]):
        assert said in refused(capsys, *command[:-1], tmp_path / command[-1])
    assert "pipe, socket or device" in refused(capsys, "trace", "convert", "chat", tmp_path / "pipe.csv")
    assert "File name too long" in refused(capsys, "result", "show", "x" * 5000)


def test_tables_of_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.csv").write_bytes(CSV.encode() + b"2,10,3,\xff\xfe\n")
    assert "not a text file in UTF-8" in refused(capsys, "trace", "describe", tmp_path / "w.csv")
    (tmp_path / "w.csv").write_text(CSV + "2,0x10,3\n")
    assert "num_prompt_tokens: '0x10' is not a number" in refused(capsys, "trace", "describe", tmp_path / "w.csv")


def test_a_policy_file_that_exits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.py").write_text("import sys\nsys.exit(3)\n")
    said = refused(capsys, "simulate", "--set", f"scheduler.policy={tmp_path / 'p.py'}:f")
    assert "p.py cannot be run: SystemExit: 3" in said


def test_names_are_shown_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("w[/x].csv", "w[v2].csv", ":smile:.csv", "\x1b]0;owned\a.csv"):
        for file in (tmp_path / name, tmp_path / f"out-{name}"):
            file.parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CSV)
        assert run(["trace", "describe", str(tmp_path / name)]) == 0
        assert run(["trace", "convert", str(tmp_path / name), str(tmp_path / f"out-{name}")]) == 0
        out, said = capsys.readouterr()
        assert "\x1b" not in out + said
        assert name.replace("\x1b", r"\x1b").replace("\a", r"\x07") in out
    assert r"\x1b[31mgone.csv: no such file" in refused(capsys, "trace", "describe", "\x1b[31mgone.csv")


def test_no_name_ends_the_comment_of_a_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pod = "mine\\n---\\nkind: Pod"
    (tmp_path / "gpu.yaml").write_text(f'name: "{pod}"\n{GPU}')
    deployment = {"model": "llama-3-8b", "device": str(tmp_path / "gpu.yaml"), "node": "pcie_gen4"}
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(deployment))
    assert "gpu.yaml:1: name: " in refused(capsys, "launch", tmp_path / "d.yaml", "--kubernetes")


@pytest.mark.parametrize(
    "arguments",
    [
        ("timeline", "x", "--every"),
        ("compare", "x", "x", "--top"),
        ("profile", "--minutes", "1", "--seed"),
        ("trace", "synthesise", "chat", "--seed"),
        ("simulate", "--requests"),
        ("capacity", "--replicates"),
        ("fleet", "--rate", "1", "--requests"),
    ],
)
def test_numbers_of_400_digits(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    assert run([*arguments, "9" * 400]) == 2
    said = capsys.readouterr().err
    assert "99 is not " in said or "a whole number of 1,329 bits" in said
