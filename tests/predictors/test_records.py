"""The declared table, a profile in it, and forests trained on one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastsim.errors import TableError
from fastsim.predictors.chip import Chip
from fastsim.predictors.families import FAMILIES, features
from fastsim.predictors.forests import cache
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.measurements import profile
from fastsim.predictors.measurements.records import SCHEMA, SHAPE_COLUMNS, Records, checked, from_table

CHIP = Chip(100.0, 1000.0, 10)


def some(family: str = "gemm", precision: str = "bf16") -> Records:
    axis = [1, 16, 64, 256, 1024, 2048, 4096, 8192]
    shape = np.array([(m, n, k) for m in axis for n in axis for k in axis], dtype=float)
    _, terms = features("gemm", shape, CHIP)
    ms = 0.003 + 1.3 * terms["roofline"] * (1 + 0.2 * np.sin(np.arange(len(shape))))
    return Records(family, "mine", precision, ("fastsim 1",), shape, ms, "run 7")


def table_of(all_records: Sequence[Records]) -> pa.Table:
    """The declared table of records of several families."""
    tables = []
    for records in all_records:
        rows = len(records.ms)
        framework, _, version = records.frameworks[0].partition(" ")
        text = {
            "family": records.family,
            "device": records.device,
            "precision": records.precision,
            "framework": framework,
            "version": version,
            "provenance": records.provenance,
        }
        columns: dict[str, Any] = {name: pa.array([value] * rows, pa.string()) for name, value in text.items()}
        shape = dict(zip(FAMILIES[records.family].columns, records.shape.T, strict=True))
        for name in SHAPE_COLUMNS:
            columns[name] = (
                pa.array(shape[name].astype(np.int64)) if name in shape else pa.nulls(rows, SCHEMA.field(name).type)
            )
        columns["ms"] = pa.array(records.ms)
        tables.append(pa.table([columns[field.name] for field in SCHEMA], schema=SCHEMA))
    return pa.concat_tables(tables)


def test_records_survive_the_table() -> None:
    fp8 = some(precision="fp8")
    table = table_of([some(), fp8])
    assert table["batch"].null_count == table.num_rows
    first, second = from_table(table, "here")
    assert (first.family, first.device, first.precision, second.precision) == ("gemm", "mine", "bf16", "fp8")
    np.testing.assert_array_equal(first.shape, checked(some()).shape)
    np.testing.assert_array_equal(first.ms, checked(some()).ms)
    assert first.frameworks == ("fastsim 1",)


def test_repeated_measurements_count_as_their_geometric_mean() -> None:
    shape = np.array([[2.0, 8, 8], [1.0, 8, 8], [2.0, 8, 8]])
    records = checked(Records("gemm", "mine", "bf16", ("x 1",), shape, np.array([1.0, 5.0, 4.0]), "run"))
    assert records.shape[:, 0].tolist() == [1, 2] and records.ms.tolist() == [5.0, pytest.approx(2.0)]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ms", 0.0, "ms: 0.0 at m 1, n 1, k 1 is not a time"),
        ("ms", float("nan"), "ms: nan at m 1"),
        ("n", 0, "n: 0 is not a positive integer"),
        ("family", "gem", "family: 'gem' is not one of gemm"),
        ("precision", "fp7", "precision: 'fp7' is not one of bf16"),
        ("k", None, "k: empty in 1 rows of gemm"),
    ],
)
def test_impossible_rows_are_refused(column: str, value: object, message: str) -> None:
    table = table_of([some()])
    at = table.column_names.index(column)
    values = [value, *table[column].to_pylist()[1:]]
    table = table.set_column(at, column, pa.array(values, table.schema.field(column).type))
    with pytest.raises(TableError, match=message):
        from_table(table, "here")


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no Parquet files there"):
        profile.read(tmp_path, "mine")
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(TableError, match="cannot be read as Parquet"):
        profile.read(tmp_path, "mine")
    pq.write_table(table_of([some()]).drop(["device"]), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="column 'device' is missing"):
        profile.read(tmp_path, "mine")
    pq.write_table(table_of([some()]), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="no rows for device 'other'; it has mine"):
        profile.read(tmp_path, "other")
    pq.write_table(table_of([some()]), tmp_path / "b.parquet")
    (both,), (one,) = profile.read(tmp_path, "mine"), [checked(some())]  # the same rows in several files
    np.testing.assert_array_equal(both.shape, one.shape)
    np.testing.assert_allclose(both.ms, one.ms)


def test_a_profile_becomes_forests_that_know_its_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "CACHE_FOLDER", tmp_path / "cache" / "kernels" / "x")
    folder = tmp_path / "mine"
    folder.mkdir()
    pq.write_table(table_of([some()]), folder / "gemm.parquet")
    with pytest.warns(UserWarning, match="training forests of mine"):
        root = cache.root(f"profile:{folder}", "mine", CHIP)
    forest = shipped.load("mine", "gemm", "bf16", CHIP, root)
    known = checked(some())
    np.testing.assert_array_equal(forest.ms(known.shape), known.ms)
    between = np.array([[300.0, 3000, 3000]])
    (low,), (high,) = forest.interval(between)
    _, terms = features("gemm", between, CHIP)
    assert low < 0.003 + 1.3 * terms["roofline"][0] < high and forest.outside(2 * known.shape[-1:]).all()
    assert cache.root(f"profile:{folder}", "mine", CHIP) == root  # no second training, no warning
    assert shipped.precisions("mine", "gemm", root) == ["bf16"]
    pq.write_table(table_of([some()]).slice(1), folder / "gemm.parquet")
    with pytest.warns(UserWarning, match="training"):
        assert cache.root(f"profile:{folder}", "mine", CHIP) != root
    assert len(list(cache.folder().iterdir())) == 2  # nothing temporary is left
