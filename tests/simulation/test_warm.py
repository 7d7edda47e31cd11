"""`fastsim warm` compiles kernels and builds tables before a first run, and lists each with its time."""

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from fastsim.cli import cli
from fastsim.deployment import schedulers
from fastsim.simulation import warm
from fastsim.simulation.warm import Warmed

POLICIES = tuple(schedulers.POLICIES)
ROOT = Path(__file__).resolve().parents[2]


def test_everything_is_in_the_cache_the_second_time() -> None:
    for policy in POLICIES:
        warm.compile_kernel(policy)  # compiles the kernels that no other test has compiled
    warm.build_default_tables()
    warmed = list(warm.warm(POLICIES[:2]))
    assert {entry.name for entry in warmed} == {*(f"kernel {policy}" for policy in POLICIES[:2]), "tables"}
    assert warmed[-1].name == "tables"
    assert not any(entry.made for entry in warmed)
    assert all(entry.seconds > 0 for entry in warmed)


def test_tables_are_made_where_there_are_none(tmp_path: Path) -> None:
    code = "from fastsim.simulation.warm import build_default_tables as build; print(build().made, build().made)"
    environment = {**os.environ, "FASTSIM_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_the_command_prints_how_long_each_took(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(warm, "warm", lambda: iter([Warmed("kernel vllm", 12.345, True), Warmed("tables", 0.1, False)]))
    shown = CliRunner().invoke(cli, ["warm"])
    assert shown.exit_code == 0
    assert "kernel vllm                  12.35 s  made" in shown.output
    assert "tables                        0.10 s  found in the cache" in shown.output
