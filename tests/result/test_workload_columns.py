"""The columns that a result takes over from its workload, and the figures of each tenant."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import fastsim
from fastsim.cli import cli
from fastsim.result.columns import WORKLOAD
from fastsim.result.compare import compare
from fastsim.result.metrics.tenants import MOST, by_tenant
from fastsim.result.result import Result

NAMES = ["interactive", "batch", "<b>batch</b>"]


def stream() -> fastsim.Workload:
    plain = fastsim.load_workload("chat", rate=8.0, num_requests=120)
    at = np.arange(120)
    return replace(
        plain,
        session_id=at // 4,
        tenant=np.array(NAMES)[at % 3],
        priority=(at % 3).astype(np.int32),
        max_tokens=plain.num_output_tokens + at % 2,
        ends_by_stop=at % 2 == 1,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fastsim.simulate(None, stream(), exclude=(1.0, 0.0)).save(folder, csv=True)
    return folder


def test_a_result_has_the_columns_of_its_workload(folder: Path) -> None:
    result, workload = Result.load(folder), stream()
    assert result.requests.column_names[-len(WORKLOAD) :] == [column.name for column in WORKLOAD]
    for column in WORKLOAD:
        field = result.requests.schema.field(column.name)
        assert field.metadata[b"meaning"].decode() == column.meaning
        np.testing.assert_array_equal(result.column(column.name), getattr(workload, column.name))
    for name in ("requests.parquet", "requests.csv"):
        again = fastsim.load_workload(folder / name)
        assert replace(again, replica_id=None).digest == workload.digest
    repeated = fastsim.simulate(folder / "config.json", folder / "requests.parquet", exclude=(1.0, 0.0))
    assert repeated.requests.equals(result.requests)
    assert repeated.config["workload"]["sha256"] == result.config["workload"]["sha256"]
    plain = fastsim.simulate(None, replace(workload, tenant=None, session_id=None, max_tokens=None, ends_by_stop=None))
    assert plain.requests.column_names[-1] == "priority"
    assert "tenants" not in plain.summary


def test_a_changed_tenant_is_noticed(folder: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    result = Result.load(folder)
    result.save(tmp_path)
    table = parquet.read_table(tmp_path / "requests.parquet")
    at = table.column_names.index("tenant")
    swapped = table.set_column(at, table.schema.field(at), table["tenant"].take(np.roll(np.arange(120), 1)))
    parquet.write_table(swapped, tmp_path / "requests.parquet")
    with pytest.raises(fastsim.errors.InputError, match="its files were changed after fastsim wrote them"):
        Result.load(tmp_path)


def test_the_figures_of_tenants_are_those_of_their_requests(folder: Path) -> None:
    result = Result.load(folder)
    arrived = result.column("arrived_at")
    kept = arrived >= arrived[0] + 1.0
    listed = result.summary["tenants"]
    assert sorted(entry["tenant"] for entry in listed) == sorted(NAMES)
    for entry in listed:
        of = result.column("tenant") == entry["tenant"]
        assert entry["requests"] == entry["finished"] == of.sum() == 40
        assert entry["output_tokens"] == result.column("num_output_tokens")[of].sum()
        assert entry["latency"]["ttft"]["p99"] == np.quantile(result.column("ttft")[of & kept], 0.99)
    assert result.summary["definitions"]["tenants"].startswith("by tenant")
    many = {name: np.ones(3 * MOST) for name in ("ttft", "tpot", "e2e", "scheduling_delay", "finished_at")}
    many |= {name: np.ones(3 * MOST, np.int32) for name in ("num_prompt_tokens", "num_output_tokens")}
    many["tenant"] = np.array([f"tenant {i}" for i in range(2 * MOST)] + [f"tenant {MOST + i}" for i in range(MOST)])
    most = by_tenant(many, None)
    assert [entry["tenant"] for entry in most] == [f"tenant {MOST + i}" for i in range(MOST)]


def test_commands_show_tenants(folder: Path, tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["result", "show", str(folder)])
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in NAMES)
    page = tmp_path / "page.html"
    assert CliRunner().invoke(cli, ["report", str(folder), "-o", str(page)]).exit_code == 0
    assert "Figures of each tenant" in page.read_text()
    assert NAMES[2] not in page.read_text()


def test_closed_loops_are_compared_request_by_request() -> None:
    lengths = {
        "kind": "uniform",
        "num_prompt_tokens": {"min": 20, "max": 900},
        "num_output_tokens": {"min": 1, "max": 60},
    }
    described = {"lengths": lengths, "concurrency": 16, "sessions": {"turns": 3, "think_time": 0.5}}
    workload = fastsim.load_workload(described)
    a, b = (fastsim.simulate(fastsim.Deployment.load(None, [f"num_replicas={n}"]), workload) for n in (2, 1))
    assert not np.array_equal(a.column("request_id"), b.column("request_id"))
    compared = compare(a, b)
    assert compared["compared"] == 1000
    assert compared["worse"]
    for request in compared["worse"]:
        rows = [result.column("request_id") == request["request_id"] for result in (a, b)]
        assert request["a"] == a.column("e2e")[rows[0]][0]
        assert request["b"] == b.column("e2e")[rows[1]][0]
