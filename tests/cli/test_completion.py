"""`fastsim completion`, and what a shell gets to complete."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable

import pytest
from click.shell_completion import CompletionItem
from click.testing import CliRunner

from fastsim.cli import cli, completion, run


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


def offered(kind: Callable[..., Iterable[CompletionItem | str]], typed: str) -> list[str]:
    """What is offered by name; a file, which the shell completes, is <file>."""
    given = kind(None, None, typed)
    return [one if isinstance(one, str) else "<file>" if one.type == "file" else one.value for one in given]


def test_arguments_are_completed_with_presets_gpus_models_and_files() -> None:
    assert completed("fastsim", "simulate", "ch") == ["chat", "ch"]
    assert completed("fastsim", "fleet", "--gpu", "h10")[:2] == ["h100", "h100_pcie"]
    assert offered(completion.workloads, "co") == ["code", "<file>"]
    assert offered(completion.devices, "mi3") == ["mi300x", "mi325x", "mi355x", "<file>"]
    assert "meta-llama/Llama-3.1-8B" in offered(completion.models, "llama-3.1-8")
    assert offered(completion.prices, "h100=2,mi30") == ["h100=2,mi300x="]
    assert offered(completion.topics, "swe") == ["sweeps"]


def test_completing_loads_neither_arrays_nor_kernels() -> None:
    code = (
        "import sys; from fastsim.cli import completion as c\n"
        "for one in (c.settings, c.workloads, c.devices, c.models, c.topics): one(None, None, 'model=')\n"
        "print([name for name in ('numba', 'numpy', 'pyarrow', 'pydantic') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    assert f"_FASTSIM_COMPLETE={shell}_complete" in CliRunner().invoke(cli, ["completion", shell]).stdout


def test_other_shells_are_refused() -> None:
    assert run(["completion", "csh"]) == 2
