"""Python that a file names as its scheduler or router runs only when it is allowed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.errors import ConfigError

POLICY = """
from pathlib import Path

import fastsim

Path(__file__).with_name("it-ran").touch()


@fastsim.policy
def first_come(replica, chosen, tokens):
    size = 0
    for request in replica.running:
        chosen[size], tokens[size] = request, 1
        size += 1
    for request in replica.waiting:
        if size < replica.max_batch:
            chosen[size], tokens[size] = request, replica.prefill[request]
            size += 1
    return size
"""


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """A folder as it may be sent: a deployment, a result's config.json and spaces, which all name a function."""
    (tmp_path / "p.py").write_text(POLICY)
    settings = {"scheduler": {"policy": f"{tmp_path / 'p.py'}:first_come"}, "model": "llama-3-8b", "device": "h100"}
    (tmp_path / "deployment.yaml").write_text(json.dumps(settings))
    (tmp_path / "config.json").write_text(json.dumps({"deployment": settings}))
    (tmp_path / "base.yaml").write_text(json.dumps({"deployment": settings, "axes": {"num_replicas": [1, 2]}}))
    axes = {"scheduler.policy": ["vllm", f"{tmp_path / 'p.py'}:first_come"]}
    (tmp_path / "axis.yaml").write_text(json.dumps({"axes": axes}))
    (tmp_path / "zipped.yaml").write_text(json.dumps({"zip": [axes]}))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("simulate", "deployment.yaml"),
        ("simulate", "config.json"),
        ("capacity", "deployment.yaml"),
        ("fleet", "deployment.yaml", "--rate", "5"),
        ("sweep", "base.yaml", "--out", "out"),
        ("sweep", "axis.yaml", "--out", "out"),
        ("sweep", "zipped.yaml", "--out", "out"),
        ("search", "base.yaml"),
        ("search", "axis.yaml"),
    ],
    ids=" ".join,
)
def test_functions_of_a_file_that_was_sent_are_refused(
    sent: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(sent)
    done = CliRunner().invoke(cli, list(command))
    assert isinstance(done.exception, ConfigError), done.output
    said = str(done.exception)
    assert "scheduler.policy" in said and "p.py:first_come" in said and "--policies" in said
    assert command[1] in said and not (sent / "it-ran").exists() and not (sent / "out").exists()


def test_they_run_when_they_are_allowed_or_given_by_hand(sent: Path) -> None:
    few = ("--requests", "20", "--rate", "5")
    done = CliRunner().invoke(cli, ["simulate", str(sent / "config.json"), *few, "--policies"])
    assert done.exit_code == 0 and f"running {sent / 'p.py'}:first_come" in done.output
    (sent / "it-ran").unlink()
    given = f"scheduler.policy={sent / 'p.py'}:first_come"
    done = CliRunner().invoke(cli, ["simulate", str(sent / "deployment.yaml"), *few, "--set", given])
    assert done.exit_code == 0 and "fastsim: running" not in done.output
