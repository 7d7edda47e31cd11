"""Intervals: as wide as held-out errors ask, where the trees disagree wider."""

import importlib.util

import numpy as np
import pytest

from fastsim.predictors.families import Size
from fastsim.predictors.forests import vidur_baseline
from fastsim.predictors.forests.intervals import Held, calibrate, coverage, crossed
from fastsim.predictors.forests.train import hold_out, percent
from fastsim.predictors.measurements import aiconfigurator
from fastsim.predictors.measurements.records import Records

AIC = importlib.util.find_spec("aiconfigurator_core") is not None
CHIP = aiconfigurator.SYSTEMS["h100_sxm"].chip


def drawn(seed: int, rows: int = 4000, unit: float = 1.0) -> Held:
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.01, 0.1, rows)
    return Held(unit * rng.normal(size=rows) * spread, spread)


def test_nine_tenths_of_new_errors_fall_inside() -> None:
    interval = calibrate([drawn(i) for i in range(4)])
    assert coverage(interval, drawn(9)) == pytest.approx(0.9, abs=0.02)
    assert crossed([drawn(i) for i in range(4)]) == pytest.approx(0.9, abs=0.02)
    assert coverage(interval, drawn(9, unit=3.0)) < 0.6


def test_width_grows_with_disagreement_and_with_errors() -> None:
    interval = calibrate([drawn(0)])
    wide, narrow = interval.half_width(np.array([0.1])), interval.half_width(np.array([0.0]))
    assert wide > 2 * narrow > 0
    assert calibrate([drawn(0, unit=2.0)]).quantile == pytest.approx(2 * interval.quantile)


def test_folds_count_the_same_however_large() -> None:
    # Four small folds of large errors outvote one of many small errors.
    small, large = [drawn(i, rows=50, unit=4.0) for i in range(4)], drawn(5, rows=100_000, unit=0.1)
    assert coverage(calibrate([*small, large]), small[0]) > 0.8


def test_one_fold_has_no_others() -> None:
    assert np.isnan(crossed([drawn(0)]))
    exact = calibrate([Held(np.array([0.1, -0.2, 0.3]), np.full(3, 0.5))], level=0.9)
    assert (exact.level, exact.floor) == (0.9, 0.5) and exact.quantile == pytest.approx(0.3)


def sample(family: str, share: float) -> Records:
    """Rows of a part of the shapes beyond the first two split columns, so that the splits stay as they are."""
    records = aiconfigurator.read("h100_sxm", family)
    rest = records.shape[:, :1] if family == "gemm" else records.shape[:, 2:]
    groups, of_row = np.unique(rest, axis=0, return_inverse=True)
    chosen = np.random.default_rng(3).choice(len(groups), int(share * len(groups)), replace=False)
    keep = np.isin(of_row.ravel(), chosen)
    return Records(
        family, "h100_sxm", "bf16", records.frameworks, records.shape[keep], records.ms[keep], records.provenance
    )


@pytest.mark.skipif(not AIC, reason="needs the extra fastsim[aic]")
@pytest.mark.parametrize(
    ("family", "share", "bars"), [("gemm", 0.15, (6.0, 8.0, 12.0)), ("decode_attention", 0.15, (6.0, 7.0))]
)
def test_roofline_features_beat_raw_axes_on_unseen_shapes(family: str, share: float, bars: tuple[float, ...]) -> None:
    records = sample(family, share)
    ours = hold_out(records, CHIP, Size(10, 300), count=3)
    theirs = vidur_baseline.hold_out(records, {**vidur_baseline.FEW, "n_estimators": [20]}, count=1)
    for (split, held), bar in zip(ours.items(), bars, strict=True):
        assert percent(held) < bar, split
        assert percent(held) < percent(theirs[split]), split
    inside = [one for split, held in ours.items() if "16384" not in split for one in held]
    assert 0.80 < crossed(inside) < 0.97
