"""One round of the soak, and what its checks refuse."""

import random
import shutil
from pathlib import Path

import pytest
import soak
import victims

import fastsim


def test_a_disturbed_sweep_loses_nothing(tmp_path: Path) -> None:
    figures, ends = soak.soak(tmp_path, minutes=0, rounds=1, configurations=60, seed=6)
    assert figures["rounds"] == 1
    assert figures["rows checked"] >= 60
    assert sum(ends.values()) >= 2


def test_the_soak_refuses_rows_that_are_doubled_changed_or_foreign(tmp_path: Path) -> None:
    out = tmp_path / "out"
    fastsim.sweep({"workload": {"source": "chat", "num_requests": 50}, "axes": {"seed": [1, 2]}}, out)
    expected = soak.rows_of(out)
    assert soak.check(out, expected) == 2
    digest = next(iter(expected))
    with pytest.raises(victims.Lost, match=f"row {digest} is "):
        soak.check(out, {**expected, digest: expected[digest].replace("1", "2", 1)})
    with pytest.raises(victims.Lost, match=f"row {digest} is .*, not None"):
        soak.check(out, {other: row for other, row in expected.items() if other != digest})
    shutil.copy(out / "part-00000.parquet", out / "part-00001.parquet")
    with pytest.raises(victims.Lost, match="2 of 4 rows are in the table twice"):
        soak.check(out, expected)


FAILING = """
from fastsim.sweeps import store

def add(*given):
    raise KeyError

store.Dataset.add = add
"""


def test_the_soak_refuses_a_client_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    soak.make_cache(tmp_path)
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow" / "sitecustomize.py").write_text(FAILING)
    (tmp_path / "space.json").write_text('{"workload": {"source": "chat", "num_requests": 50}, "axes": {"seed": [1]}}')
    with pytest.raises(victims.Lost, match=r"a client ended with 1 .*a fault of fastsim"):
        soak.attempt(victims.Victims(tmp_path, tmp_path, "threads", True, random.Random(0)), [])
