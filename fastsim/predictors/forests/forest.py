"""Trained forests as ONNX, those that come with fastsim and a user's own: load one and ask it for times."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import CatalogError, TableError
from fastsim.files import DATA
from fastsim.predictors.chip import Chip, Columns, Floats
from fastsim.predictors.families import features

from .features import stacked
from .fit import base
from .intervals import Interval

FOLDER = DATA / "predictors"
BATCH = 1 << 16  # rows asked at once: features of more would not stay in cache


def systems() -> list[str]:
    """Names of the machines with forests (Device.predictor in the catalog)."""
    return sorted(path.parent.name for path in FOLDER.glob("*/gemm.json"))


def stem(family: str, precision: str) -> str:
    """File name of a forest without its suffix; bf16 is not named."""
    return family if precision == "bf16" else f"{family}-{precision}"


def precisions(system: str, family: str, root: Path | None = None) -> list[str]:
    """Precisions (of attention: types of the KV cache) that a system has forests of a family for."""
    folder = (root or FOLDER) / system
    named = [path.stem.removeprefix(f"{family}-") for path in sorted(folder.glob(f"{family}-*.json"))]
    return ["bf16", *named] if (folder / f"{family}.json").exists() else named


def card(system: str, family: str, precision: str = "bf16", root: Path | None = None) -> dict[str, Any]:
    """The model card of a forest; of ``all_reduce``, ``moe_a2a`` and ``elementwise``, the figures themselves.

    Do not change it. Raises CatalogError where there is none, naming what there is.
    """
    return _card(root or FOLDER, system, family, precision)


@cache
def _card(root: Path, system: str, family: str, precision: str) -> dict[str, Any]:
    path = root / system / f"{stem(family, precision)}.json"
    try:
        read: dict[str, Any] = json.loads(path.read_bytes())
    except OSError:
        have = ", ".join(precisions(system, family, root))
        if have:
            message = f"predictor: {system!r} has no {family} forest of precision {precision!r}; it has {have}"
        else:
            known = ", ".join(name for name in systems() if precisions(name, family)) or "none"
            message = f"predictor: {system!r} has no {family} forest; systems with one: {known}"
        raise CatalogError(message) from None
    return read


@dataclass(frozen=True, slots=True)
class Forest:
    """One family's forest on one device. ``chip``: the device's own figures, from the catalog (TFLOP/s of bf16).

    ``exact``: shape -> ms of points that were measured and are answered as they were (a user's own profile).
    """

    family: str
    precision: str
    chip: Chip
    card: dict[str, Any]
    session: Any
    exact: dict[tuple[float, ...], float]

    def _columns(self, shape: Floats) -> tuple[Columns, Columns]:
        return features(self.family, shape, self.chip, self.precision)

    def _answers(self, shape: Floats) -> tuple[Floats, Floats]:
        """Times and the trees' disagreement on their logarithm."""
        shape = np.asarray(shape, dtype=np.float64)
        ms, spread = np.empty(len(shape)), np.empty(len(shape))
        for start in range(0, len(shape), BATCH):
            rows = slice(start, start + BATCH)
            columns, terms = self._columns(shape[rows])
            (trees,) = self.session.run(None, {"features": stacked(columns)})
            ms[rows] = base(self.card["base_ms"], terms) * np.exp(trees.mean(axis=1, dtype=np.float64))
            spread[rows] = trees.std(axis=1, dtype=np.float64)
        if self.exact:
            for row, key in enumerate(map(tuple, shape.tolist())):
                ms[row] = self.exact.get(key, ms[row])
        return ms, spread

    def ms(self, shape: Floats) -> Floats:
        """Times float64[rows], ms, of ``shape`` float64[rows, columns] (families.FAMILIES), in one batch."""
        return self._answers(shape)[0]

    def interval(self, shape: Floats) -> tuple[Floats, Floats]:
        """Ends, ms, float64[rows] each, of an interval that holds the true time in about 90 % of unseen shapes."""
        ms, spread = self._answers(shape)
        wide = np.exp(Interval(**self.card["interval"]).half_width(spread))
        return ms / wide, ms * wide

    def outside(self, shape: Floats) -> NDArray[np.bool_]:
        """bool[rows]: the shape leaves what was measured: a column, or the FLOPs or bytes that follow from them."""
        columns, _ = self._columns(np.asarray(shape, dtype=np.float64))
        out = np.zeros(len(shape), dtype=bool)
        for name, (low, high) in self.card["hull"].items():
            column = columns[name].astype(np.float32)
            out |= (column < np.float32(low)) | (column > np.float32(high))
        return out

    def knots(self, name: str) -> Floats:
        """Values of one shape column that were measured: between them a forest knows no more than a line."""
        return np.array(self.card["shapes"][name])


def load(system: str, family: str, precision: str, chip: Chip, root: Path | None = None) -> Forest:
    """The forest of a family (families.FAMILIES) and precision (``precisions``), of ``root`` or of fastsim itself.

    Raises CatalogError where there is none, and TableError when its file is not the one its card describes.
    """
    import onnxruntime

    found = card(system, family, precision, root)
    path = (root or FOLDER) / system / f"{stem(family, precision)}.onnx"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != found["sha256"]:
        raise TableError(f"{path}: differs from the digest in its card; install fastsim anew, or train it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums on any machine
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Forest(family, precision, chip, found, session, _exact(path.with_suffix(".npz")))


def _exact(path: Path) -> dict[tuple[float, ...], float]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return dict(zip(map(tuple, stored["shape"].tolist()), stored["ms"].tolist(), strict=True))
