"""`fastsim completion`, and what a shell gets to complete."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fastsim.cli import cli, run


def completed(*words: str) -> list[str]:
    """What bash is offered after these words; the last one is not complete."""
    given = {"_FASTSIM_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['fastsim']; from fastsim.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **given}, capture_output=True, text=True)
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_options_models_and_devices_are_completed() -> None:
    assert completed("fastsim", "cap") == ["capacity"]
    assert "--input-len" in completed("fastsim", "simulate", "--in")
    assert completed("fastsim", "simulate", "--set", "dev") == ["device="]
    assert "device=h100" in completed("fastsim", "simulate", "--set", "device=h1")
    assert "model=meta-llama/Llama-3.1-8B" in completed("fastsim", "simulate", "--set", "model=meta-llama/Llama-3.1")
    assert "engine=sglang-0.5.23" in completed("fastsim", "simulate", "--set", "engine=sg")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    assert f"_FASTSIM_COMPLETE={shell}_complete" in CliRunner().invoke(cli, ["completion", shell]).stdout


def test_other_shells_are_refused() -> None:
    assert run(["completion", "csh"]) == 2
