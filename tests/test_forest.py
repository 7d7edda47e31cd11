"""Forests: what they are trained on, what they see, and what is shipped of them."""

import hashlib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastsim.errors import CatalogError, OutputError, TableError
from fastsim.predictors import aic, shipped
from fastsim.predictors.roofline import SHAPES, Chip, feature_names, features

CHIP = Chip(tflops=100.0, bandwidth_gb_s=1000.0, num_sms=10)
AIC = importlib.util.find_spec("aiconfigurator_core") is not None


def test_roofline_by_hand() -> None:
    row, roofline = features("gemm", np.array([[130.0, 256, 512]]), CHIP)
    at = dict(zip(feature_names("gemm"), row[0].tolist(), strict=True))
    flops, moved = 2 * 130 * 256 * 512, 2 * (130 * 512 + 512 * 256 + 130 * 256)
    assert roofline[0] == pytest.approx(max(flops / 100e9, moved / 1e9))
    assert at["flops"] == pytest.approx(np.log(flops), rel=1e-6)
    assert at["intensity"] == pytest.approx(np.log(flops / moved), rel=1e-6)
    assert (at["tiles"], at["waves"]) == (pytest.approx(np.log(4)), 0.0)
    assert (at["wave_fill"], at["tile_fill"]) == (pytest.approx(0.4), pytest.approx(130 / 256))
    _, (cached,) = features("decode_attention", np.array([[8.0, 1000, 32, 8, 128]]), CHIP)
    assert cached == pytest.approx(2 * 8 * 128 * (2 * 8 * 1000 + 2 * 32) / 1e9)
    _, (causal,) = features("prefill_attention", np.array([[1.0, 4096, 32, 8, 128]]), CHIP)
    assert causal == pytest.approx(4 * 32 * 128 * 4096 * 4097 / 2 / 100e9)


def tiny_forest() -> tuple[Any, np.ndarray]:
    from fastsim.predictors.forest import fit

    rng = np.random.default_rng(2)
    shape = np.exp(rng.uniform(0, 9, (600, 3))).round()
    inputs, _ = features("gemm", shape, CHIP)
    return fit("gemm", inputs, np.sin(inputs[:, 3]) + inputs[:, 9]), inputs


def test_onnx_equals_scikit_learn_at_its_thresholds_too() -> None:
    import onnxruntime

    from fastsim.predictors.forest import to_onnx

    forest, inputs = tiny_forest()
    thresholds = [tree.tree_.threshold[tree.tree_.feature == 3] for tree in forest.estimators_]
    edges = np.repeat(inputs, 2, axis=0)[: sum(map(len, thresholds))]
    edges[:, 3] = np.concatenate(thresholds)[: len(edges)]
    asked = np.concatenate([inputs, edges])
    session = onnxruntime.InferenceSession(to_onnx(forest, "gemm"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"features": asked})
    np.testing.assert_allclose(got[:, 0], forest.predict(asked), atol=1e-5)


def test_training_twice_gives_the_same_bytes() -> None:
    from fastsim.predictors.forest import to_onnx

    first, second = (to_onnx(tiny_forest()[0], "gemm") for _ in range(2))
    assert first == second


def test_splits_keep_what_they_say_from_training() -> None:
    from fastsim.predictors.forest import _pairs, _values

    shape = np.array([(m, n, k) for m in (1, 2) for n in range(12) for k in range(12)], dtype=float)
    train, test = _pairs(shape, (1, 2), np.random.default_rng(1))
    pairs = {tuple(row) for row in shape[train][:, 1:]}, {tuple(row) for row in shape[test][:, 1:]}
    assert not pairs[0] & pairs[1] and len(pairs[1]) == 28 and (train ^ test).all()
    train, test = _values(shape, (1, 2), np.random.default_rng(1))
    for column in (1, 2):
        assert not set(shape[train][:, column]) & set(shape[test][:, column])
    assert test.sum() == 2 * 2 * 2


def test_shipped_forests_are_those_of_their_cards() -> None:
    assert shipped.systems() == ["a100_sxm", "h100_sxm"]
    for system in shipped.systems():
        for operator in SHAPES:
            card = shipped.card(system, operator)
            content = (shipped.FOLDER / system / f"{operator}.onnx").read_bytes()
            assert hashlib.sha256(content).hexdigest() == card["sha256"]
            assert card["features"] == feature_names(operator) == list(card["hull"])
            assert all(0 < error < 15 for error in card["error_percent"].values())
            assert card["source"]["licence"] == "Apache-2.0" and card["date"] and card["rows"] > 5000
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*")) < 20e6


def test_a_changed_forest_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "h100_sxm"
    folder.mkdir()
    (folder / "gemm.json").write_bytes((shipped.FOLDER / "h100_sxm" / "gemm.json").read_bytes())
    (folder / "gemm.onnx").write_bytes(b"other")
    shipped.card.cache_clear()
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(TableError, match="differs from the digest in its card"):
        shipped.load("h100_sxm", "gemm", "bf16", CHIP)
    shipped.card.cache_clear()


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
@pytest.mark.parametrize("system", ["a100_sxm", "h100_sxm"])
def test_forests_know_their_own_rows(system: str) -> None:
    chip = aic.SYSTEMS[system].chip
    for operator in SHAPES:
        rows = aic.read(system, operator)
        got = shipped.load(system, operator, "bf16", chip).ms(rows.shape[::7]) / rows.ms[::7] - 1
        assert abs(got).mean() < 0.05 and abs(got.mean()) < 0.01, operator


def test_a_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TableError, match=r'pip install "fastsim\[aic\]"'):
        aic.read("h100_sxm", "gemm")


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
def test_another_version_or_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aic, "data_folder", lambda: tmp_path)
    with pytest.raises(TableError, match="should hold this table"):
        aic.read("h100_sxm", "decode_attention")
    monkeypatch.undo()
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "9.9")
    with pytest.raises(TableError, match=r"9\.9 is installed, 0\.12\.0 is known"):
        aic.data_folder()


def test_training_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    from fastsim.predictors import forest

    with pytest.raises(CatalogError, match="did you mean 'h100_sxm'"):
        next(forest.train_all("h100_sx", tmp_path))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        forest._write(tmp_path / "file" / "gemm.onnx", b"")
