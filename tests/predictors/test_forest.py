"""Forests: what they are trained on, what they see, and what is shipped of them."""

import hashlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from fastsim.errors import CatalogError, FastsimError, OutputError, TableError
from fastsim.predictors.chip import PRECISIONS, Chip
from fastsim.predictors.families import FAMILIES, Size, features
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.forests import train as forest_train
from fastsim.predictors.forests.features import stacked
from fastsim.predictors.forests.fit import Fitted, fit
from fastsim.predictors.forests.onnx import disagreement, to_onnx
from fastsim.predictors.forests.splits import large, pairs, values
from fastsim.predictors.measurements import aiconfigurator
from fastsim.predictors.measurements.records import Records

CHIP = Chip(tflops=100.0, bandwidth_gb_s=1000.0, num_sms=10)
AIC = importlib.util.find_spec("aiconfigurator_core") is not None


def test_roofline_by_hand() -> None:
    columns, terms = features("gemm", np.array([[130.0, 256, 512]]), CHIP)
    at = {name: column[0] for name, column in columns.items()}
    flops, moved = 2 * 130 * 256 * 512, 2 * (130 * 512 + 512 * 256 + 130 * 256)
    assert (terms["compute"][0], terms["memory"][0]) == (pytest.approx(flops / 100e9), pytest.approx(moved / 1e9))
    assert terms["roofline"][0] == pytest.approx(max(flops / 100e9, moved / 1e9)) and terms["launch"][0] == 1
    assert at["flops"] == pytest.approx(np.log(flops)) and at["intensity"] == pytest.approx(np.log(flops / moved))
    assert (at["waves_128x128"], at["fill_128x128"]) == (0.0, pytest.approx(0.4))
    assert at["tile_fill_128x128"] == pytest.approx(130 / 256)
    _, terms = features("decode_attention", np.array([[8.0, 1000, 32, 8, 128]]), CHIP)
    assert terms["memory"][0] == pytest.approx(2 * 8 * 128 * (2 * 8 * 1000 + 2 * 32) / 1e9)
    _, terms = features("prefill_attention", np.array([[1.0, 4096, 32, 8, 128]]), CHIP)
    assert terms["compute"][0] == pytest.approx(4 * 32 * 128 * 4096 * 4097 / 2 / 100e9)
    # 64 tokens of 8 experts each reach all 16 experts of a GPU, with 16 rows each.
    columns, terms = features("moe", np.array([[64.0, 2048, 768, 32, 8, 2, 2]]), CHIP)
    assert np.exp(columns["active"][0]) == pytest.approx(16) and np.exp(columns["rows"][0]) == pytest.approx(256)
    assert terms["weights"][0] == pytest.approx(3 * 2048 * 384 * 16 * 2 / 1e9)
    assert terms["compute"][0] == pytest.approx(6 * 256 * 2048 * 384 / 100e9)
    _, terms = features("mla_decode", np.array([[4.0, 1000, 16]]), CHIP)
    assert terms["memory"][0] == pytest.approx(2 * (4 * 1000 * 576 + 4 * 16 * 1088) / 1e9)


def test_narrow_types_move_less_and_compute_faster() -> None:
    shape = np.array([[64.0, 4096, 4096]])
    by = {name: features("gemm", shape, CHIP, name)[1] for name in PRECISIONS}
    assert by["fp8"]["memory"][0] < 0.6 * by["bf16"]["memory"][0]
    assert by["fp8"]["compute"][0] == by["bf16"]["compute"][0] / 2
    assert by["int4_wo"]["compute"][0] == by["bf16"]["compute"][0]
    assert by["int4_wo"]["memory"][0] < by["int8_wo"]["memory"][0] < by["bf16"]["memory"][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_twice_the_chip_halves_every_term_but_latencies(family: str) -> None:
    shape = np.full((1, len(FAMILIES[family].columns)), 64.0)
    twice = Chip(200.0, 2000.0, 10)
    (_, once), (_, half) = features(family, shape, CHIP), features(family, shape, twice)
    for name in once:
        fixed = name.startswith(("per_", "launch"))
        assert half[name][0] == pytest.approx(once[name][0] / (1 if fixed else 2)), name


def tiny_forest() -> tuple[Fitted, np.ndarray]:
    rng = np.random.default_rng(2)
    columns, terms = features("gemm", np.exp(rng.uniform(0, 9, (600, 3))).round(), CHIP)
    inputs = stacked(columns)
    ms = (0.002 + terms["roofline"]) * np.exp(0.2 * np.sin(inputs[:, 3]))
    return fit(inputs, terms, ms, Size(10, 60)), inputs


def test_base_times_are_fitted_and_trees_learn_the_rest() -> None:
    fitted, _ = tiny_forest()
    assert fitted.weights["launch"] == pytest.approx(0.002, rel=0.2) and min(fitted.weights.values()) > 0
    spread = np.concatenate([tree.tree_.value.ravel() for tree in fitted.trees])
    assert abs(spread).max() < 0.3


def test_onnx_equals_scikit_learn_at_its_thresholds_too() -> None:
    import onnxruntime

    fitted, inputs = tiny_forest()
    thresholds = [tree.tree_.threshold[tree.tree_.feature == 3] for tree in fitted.trees]
    edges = np.repeat(inputs, 2, axis=0)[: sum(map(len, thresholds))]
    edges[:, 3] = np.concatenate(thresholds)[: len(edges)]
    assert len(edges) > 10
    asked = np.concatenate([inputs, edges])
    session = onnxruntime.InferenceSession(to_onnx(fitted, inputs.shape[1], "gemm"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {"features": asked})
    np.testing.assert_allclose(got, fitted.by_tree(asked), atol=1e-5)


def test_a_tree_of_one_leaf_is_exported_too() -> None:
    import onnxruntime

    _, inputs = tiny_forest()
    fitted = fit(inputs, {"launch": np.ones(600)}, np.full(600, 0.5), Size(3, 60))
    session = onnxruntime.InferenceSession(to_onnx(fitted, inputs.shape[1], "x"), providers=["CPUExecutionProvider"])
    assert fitted.weights == {"launch": pytest.approx(0.5)}
    assert abs(session.run(None, {"features": inputs})[0]).max() < 1e-9
    assert disagreement(to_onnx(fitted, inputs.shape[1], "x"), fitted, inputs) < 1e-9


@pytest.mark.parametrize("method", ["forest", "extra"])
def test_the_export_equals_the_reference_converter(method: str) -> None:
    import onnxruntime
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

    rng = np.random.default_rng(4)
    inputs = rng.uniform(0, 9, (500, 5)).astype(np.float32)
    kind = RandomForestRegressor if method == "forest" else ExtraTreesRegressor
    forest = kind(8, min_samples_leaf=3, random_state=0).fit(inputs, np.sin(inputs[:, 0]) + 0.1 * inputs[:, 1])
    theirs = skl2onnx.to_onnx(forest, initial_types=[("features", FloatTensorType([None, 5]))]).SerializeToString()
    fitted = Fitted(method, {}, list(forest.estimators_))
    asked = np.concatenate([inputs, rng.uniform(-1, 10, (2000, 5)).astype(np.float32)])
    ours, reference = (
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"features": asked})[0]
        for model in (to_onnx(fitted, 5, "x"), theirs)
    )
    assert reference.std() > 0.3
    np.testing.assert_allclose(ours.mean(axis=1), reference[:, 0], rtol=0, atol=1e-5)
    assert disagreement(to_onnx(fitted, 5, "x"), fitted, asked) <= 1e-5


def test_a_forest_that_disagrees_with_the_reference_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_a_tree(fitted: Fitted, num_features: int, name: str) -> bytes:
        return to_onnx(Fitted(fitted.method, fitted.weights, fitted.trees[1:]), num_features, name)

    shape = np.exp(np.random.default_rng(2).uniform(0, 9, (600, 3))).round()
    ms = 0.002 + features("gemm", shape, CHIP)[1]["roofline"] * np.exp(0.2 * np.sin(shape[:, 0]))
    monkeypatch.setattr(forest_train, "to_onnx", without_a_tree)
    with pytest.raises(FastsimError, match=r"gemm\.onnx: differs by .* from what skl2onnx makes of the same trees"):
        forest_train.train(Records("gemm", "x", "bf16", ("y",), shape, ms, "z"), CHIP, tmp_path, quick=True)
    assert not list(tmp_path.iterdir())


def test_training_twice_gives_the_same_bytes() -> None:
    first, second = (to_onnx(tiny_forest()[0], tiny_forest()[1].shape[1], "gemm") for _ in range(2))
    assert first == second


def test_splits_keep_what_they_say_from_training() -> None:
    shape = np.array([(m, n, k) for m in (1, 2) for n in range(12) for k in range(12)], dtype=float)
    train, test = pairs((1, 2))(shape, np.random.default_rng(1))
    found = {tuple(row) for row in shape[train][:, 1:]}, {tuple(row) for row in shape[test][:, 1:]}
    assert not found[0] & found[1] and len(found[1]) == 28 and (train ^ test).all()
    train, test = values((1, 2))(shape, np.random.default_rng(1))
    for column in (1, 2):
        held = set(shape[test][:, column])
        assert not set(shape[train][:, column]) & held and not held & {0.0, 11.0}
    assert test.sum() == 2 * 2 * 2
    wide = np.array([[1.0, 16384, 64], [1.0, 51200, 64], [1.0, 64, 65536]])
    train, test = large(wide, np.random.default_rng(1))
    assert train.tolist() == [True, False, False] and (train ^ test).all()


def test_shipped_forests_are_those_of_their_cards() -> None:
    assert shipped.systems() == sorted(aiconfigurator.SYSTEMS)
    for path in sorted(shipped.FOLDER.glob("*/*.onnx")):
        family, _, precision = path.stem.partition("-")
        card = shipped.card(path.parent.name, family, precision or "bf16")
        assert hashlib.sha256(path.read_bytes()).hexdigest() == card["sha256"], path
        assert (card["family"], card["precision"], card["system"]) == (family, precision or "bf16", path.parent.name)
        columns, terms = features(family, np.full((1, len(FAMILIES[family].columns)), 8.0), CHIP, card["precision"])
        assert card["features"] == list(columns) and set(card["base_ms"]) <= set(terms)
        assert set(card["hull"]) >= set(FAMILIES[family].columns) and card["interval"]["level"] == 0.9
        assert (
            ("MIT" if card["system"] == "a40" else "Apache-2.0") in card["source"]["rows"]
            and card["date"]
            and card["rows"] > 500
        )
    assert sum(path.stat().st_size for path in shipped.FOLDER.rglob("*")) < 26e6


BARS = {
    ("gemm", "unseen (n, k) pairs"): 4.0,
    ("gemm", "unseen n and k"): 5.0,
    ("gemm", "n or k > 16384"): 7.0,
    ("prefill_attention", "unseen batch and length"): 5.5,
    ("decode_attention", "unseen batch and kv_length"): 4.0,
}


def test_the_cards_hold_what_is_promised() -> None:
    for (family, split), bar in BARS.items():
        assert shipped.card("h100_sxm", family)["error_percent"][split] <= bar, (family, split)
    for path in shipped.FOLDER.glob("*/*.onnx"):
        family, _, precision = path.stem.partition("-")
        card = shipped.card(path.parent.name, family, precision or "bf16")
        assert 85 <= card["coverage_percent"]["all"] <= 95, path
        assert card["error_percent"]["rows it was trained on"] < 10, path


def test_a_changed_forest_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "h100_sxm"
    folder.mkdir()
    (folder / "gemm.json").write_bytes((shipped.FOLDER / "h100_sxm" / "gemm.json").read_bytes())
    (folder / "gemm.onnx").write_bytes(b"other")
    with pytest.raises(TableError, match="differs from the digest in its card"):
        shipped.load("h100_sxm", "gemm", "bf16", CHIP, tmp_path)


def test_what_is_not_shipped_names_what_is() -> None:
    with pytest.raises(CatalogError, match="'a100_sxm' has no gemm forest of precision 'nvfp4'; it has bf16"):
        shipped.card("a100_sxm", "gemm", "nvfp4")
    with pytest.raises(CatalogError, match="'a40' has no moe forest; systems with one: a100_sxm"):
        shipped.card("a40", "moe")


def test_answers_outside_of_what_was_measured_say_so() -> None:
    forest = shipped.load("h100_sxm", "gemm", "bf16", aiconfigurator.SYSTEMS["h100_sxm"].chip)
    shape = np.array([[64.0, 28672, 4096], [64, 128256, 4096], [65536, 4096, 4096]])
    assert forest.outside(shape).tolist() == [False, True, True]
    ms, (low, high) = forest.ms(shape), forest.interval(shape)
    assert (low < ms).all() and (ms < high).all() and (high[0] / low[0] < 1.6)
    assert forest.knots("m")[:3].tolist() == [1, 2, 3]


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
@pytest.mark.parametrize("system", ["a100_sxm", "h100_sxm"])
def test_forests_know_their_own_rows(system: str) -> None:
    chip = aiconfigurator.SYSTEMS[system].chip
    for family in ("gemm", "prefill_attention", "decode_attention"):
        rows = aiconfigurator.read(system, family)
        forest = shipped.load(system, family, "bf16", chip)
        got = forest.ms(rows.shape[::7]) / rows.ms[::7] - 1
        assert abs(got).mean() < 0.05 and abs(got.mean()) < 0.01, family
        low, high = forest.interval(rows.shape[::7])
        assert np.mean((low <= rows.ms[::7]) & (rows.ms[::7] <= high)) > 0.88
        assert not forest.outside(rows.shape).any()


def test_training_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="did you mean 'h100_sxm'"):
        next(forest_train.train_all("h100_sx", tmp_path))
    with pytest.raises(CatalogError, match="give aic, profile:DIR or vidur:DIR"):
        next(forest_train.train_source("aix", "h100_sxm", tmp_path, "forest", (), False))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        forest_train.write(tmp_path / "file" / "gemm.onnx", b"")


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
def test_the_command_trains_and_reports(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from fastsim.cli.train import train

    given = ["--device", "h100_sxm", "--family", "mla_prefill", "--quick", "--out", str(tmp_path / "h100_sxm")]
    done = CliRunner().invoke(train, given, catch_exceptions=False)
    assert done.exit_code == 0 and "mla_prefill fp8" in done.output and "unseen batch and length" in done.output
    chip = aiconfigurator.SYSTEMS["h100_sxm"].chip
    own = shipped.load("h100_sxm", "mla_prefill", "bf16", chip, tmp_path)
    theirs = shipped.load("h100_sxm", "mla_prefill", "bf16", chip)
    shape = aiconfigurator.read("h100_sxm", "mla_prefill").shape[::5]
    np.testing.assert_allclose(own.ms(shape), theirs.ms(shape), rtol=0.02)  # another BLAS may round weights otherwise
    assert {path.name for path in (tmp_path / "h100_sxm").glob("*.json")} >= {"all_reduce.json", "elementwise.json"}
    raw = CliRunner().invoke(train, [*given, "--method", "raw"], catch_exceptions=False)
    assert raw.exit_code == 0 and raw.output.count("unseen") == 4
