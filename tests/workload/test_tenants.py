"""Columns of tenants and priorities: they are kept by files, and refused where they are not valid."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streams import file

from fastsim.errors import WorkloadError
from fastsim.workload import Workload
from fastsim.workload.loading import load
from fastsim.workload.write import save


def small(**more: Any) -> Workload:
    return Workload(np.arange(3.0), np.full(3, 5), np.full(3, 2), **more)


def test_files_keep_tenants_and_priorities(tmp_path: Path) -> None:
    names = np.array(["batch", 'a "quoted", name', "007: nan"])
    stream = small(tenant=names, priority=np.array([2, -1, 2], np.int32))
    for suffix in ("csv", "parquet", "jsonl"):
        save(stream, tmp_path / f"w.{suffix}")
        back = load(tmp_path / f"w.{suffix}")
        assert back.digest == stream.digest
        assert back.tenant is not None and back.tenant.tolist() == names.tolist()
    taken = stream.take(np.array([0, 2]))
    assert taken.priority is not None and taken.priority.tolist() == [2, 2]
    assert taken.notes == () and "not simulated yet" in stream.notes[0]
    shorter = small(tenant=np.array(["a", "b", "c"])).head(2).digest
    assert shorter == small(tenant=np.array(["a", "b", "a longer name"])).head(2).digest != small().head(2).digest


def test_refused_columns(tmp_path: Path) -> None:
    header = "arrived_at,num_prompt_tokens,num_output_tokens,"
    with pytest.raises(
        WorkloadError, match=r"data row 2: priority: 1\.5 is not a priority, of which lower ones go fir"
    ):
        load(file(tmp_path, f"{header}priority\n0,5,5,1\n1,5,5,1.5\n"))
    with pytest.raises(WorkloadError, match="data row 1: priority: 'high' is not a number"):
        load(file(tmp_path, f"{header}priority\n0,5,5,high\n"))
    with pytest.raises(WorkloadError, match=r"data row 2: tenant: 'xxxx.* is not a name of at most 100 printable"):
        load(file(tmp_path, f"{header}tenant\n0,5,5,a\n1,5,5,{'x' * 101}\n"))
    empty = load(file(tmp_path, f"{header}tenant\n0,5,5,a\n1,5,5,\n"))
    assert empty.tenant is not None and empty.tenant.tolist() == ["a", ""]
    with pytest.raises(WorkloadError, match="tenant is of type int64, not names"):
        small(tenant=np.arange(3))
