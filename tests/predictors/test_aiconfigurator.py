"""Rows of aiconfigurator-core: which are read, how they are pooled, and what is refused."""

import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastsim.errors import CatalogError, TableError
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests import forest
from fastsim.predictors.measurements import aiconfigurator, curves

AIC = importlib.util.find_spec("aiconfigurator_core") is not None
needs_aic = pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TableError, match=r'pip install "fastsim\[aic\]"'):
        aiconfigurator.read("h100_sxm", "gemm")


@needs_aic
def test_another_version_or_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: tmp_path)
    with pytest.raises(TableError, match="should hold this table"):
        aiconfigurator.read("h100_sxm", "decode_attention")
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(TableError, match=r"9\.9 is installed, 0\.12\.0 is known"):
        aiconfigurator.data_folder()


def gemm_table(root: Path, framework: str, version: str, rows: dict[tuple[int, int, int], float]) -> None:
    folder = root / "h100_sxm" / "gemm" / framework / version
    folder.mkdir(parents=True)
    columns: dict[str, list[Any]] = {name: [shape[i] for shape in rows] for i, name in enumerate("mnk")}
    columns |= {"gemm_dtype": ["bfloat16"] * len(rows), "latency": list(rows.values())}
    pq.write_table(pa.table(columns), folder / "gemm_perf.parquet")


def test_two_frameworks_are_pooled_and_a_lone_shape_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: tmp_path)
    gemm_table(tmp_path, "vllm", "0.24.0", {(1, 64, 64): 4.0, (2, 64, 64): 4.0})
    gemm_table(tmp_path, "sglang", "0.5.14", {(1, 64, 64): 1.0, (3, 64, 64): 1.0})
    records = aiconfigurator.read("h100_sxm", "gemm")
    assert records.shape[:, 0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(records.ms, [2.0, 2.0, 2.0])
    assert records.frameworks == ("vllm 0.24.0", "sglang 0.5.14")


def test_impossible_times_and_columns_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiconfigurator, "data_folder", lambda: tmp_path)
    for framework, version in (("vllm", "0.24.0"), ("sglang", "0.5.14")):
        gemm_table(tmp_path, framework, version, {(1, 64, 64): 1.0, (2, 64, 128): float("nan")})
    with pytest.raises(TableError, match="nan at m 2, n 64, k 128 is not a time"):
        aiconfigurator.read("h100_sxm", "gemm")
    path = tmp_path / "h100_sxm" / "gemm" / "vllm" / "0.24.0" / "gemm_perf.parquet"
    pq.write_table(pq.read_table(path).drop(["k"]), path)
    with pytest.raises(TableError, match="column 'k' is missing"):
        aiconfigurator.read("h100_sxm", "gemm")


@needs_aic
def test_every_system_has_the_families_it_is_shipped_with() -> None:
    for name in aiconfigurator.SYSTEMS:
        for family in ("gemm", "decode_attention", "moe", "mla_decode"):
            assert "bf16" in aiconfigurator.precisions(name, family), (name, family)
    assert aiconfigurator.precisions("b200_sxm", "gemm") == ["bf16", "fp8", "fp8_block", "nvfp4"]
    assert aiconfigurator.precisions("a100_sxm", "gemm") == ["bf16", "int8", "int8_wo", "int4_wo"]


@needs_aic
@pytest.mark.parametrize("system", ["h100_sxm", "h200_sxm", "b200_sxm", "l40s"])
def test_block_gemm_is_of_one_framework_and_not_bound_by_launches(system: str) -> None:
    wanted = "trtllm 1.3.0rc20" if system == "l40s" else "sglang 0.5.14"
    records = aiconfigurator.read(system, "gemm", "fp8_block")
    assert records.frameworks == (wanted,)
    assert forest.card(system, "gemm", "fp8_block")["source"]["frameworks"] == [wanted]
    assert np.median(records.ms[records.shape[:, 0] == 64]) < 0.03  # vLLM's: 0.09 to 0.34


@needs_aic
@pytest.mark.parametrize("family", FAMILIES)
def test_rows_are_sorted_shapes_once_each(family: str) -> None:
    records = aiconfigurator.read("h100_sxm", family)
    assert records.shape.shape == (len(records.ms), len(FAMILIES[family].columns)) and (records.ms > 0).all()
    steps = np.diff(records.shape, axis=0)
    first = steps[np.arange(len(steps)), (steps != 0).argmax(axis=1)]
    assert (first > 0).all()


def test_unknown_systems_and_families_are_refused() -> None:
    with pytest.raises(CatalogError, match="did you mean 'h100_sxm'"):
        aiconfigurator.read("h100_sx", "gemm")
    with pytest.raises(CatalogError, match="did you mean 'gemm'"):
        aiconfigurator.read("h100_sxm", "gem")


@needs_aic
def test_curves_are_in_elements_and_milliseconds() -> None:
    card = curves.all_reduce("h100_sxm")
    graph, eager = (dict(map(tuple, card["curves"][mode]["8"])) for mode in ("graph", "eager"))
    assert graph[4096] < eager[4096] < 0.1
    assert curves.all_reduce("rtx_pro_6000_server")["slower_link"]["curves"]["graph"]["2"][-1][1] > 1
    exchange = curves.all_to_all("h100_sxm")
    assert exchange is not None and curves.all_to_all("a100_sxm") is None
    large = [row[-1] for row in exchange["curves"]["prefill"]["dispatch"] if row[0] == 4096]
    assert large and all(0.5 < ms < 3 for ms in large)


@needs_aic
def test_small_kernels_are_fitted_per_gpu() -> None:
    cards = {name: curves.elementwise(name) for name in aiconfigurator.SYSTEMS}
    assert cards["a100_sxm"]["efficiency"] == 0.8 and cards["a100_sxm"]["source"]["rows"] == "default, not measured"
    assert all(0.7 < card["efficiency"] < 0.95 and 0.001 < card["launch_ms"] < 0.003 for card in cards.values())
    assert len({card["efficiency"] for card in cards.values()}) == 6
