"""Trained forests in ONNX files, those that come with fastsim and a user's own."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import CatalogError, TableError
from fastsim.files import DATA
from fastsim.predictors.chip import Chip, Columns, Floats, Precision
from fastsim.predictors.families import features

from .features import stacked
from .fit import base
from .intervals import Interval

FOLDER = DATA / "predictors"
NEEDED = "decode_attention.json"  # the A40 has forests of GEMMs alone
BATCH = 1 << 16  # rows predicted at once: the features of more rows would not stay in cache


def systems() -> list[str]:
    """Names of the machines that fastsim has forests of every dense operator for (``Device.predictor``)."""
    return sorted(path.parent.name for path in FOLDER.glob("*/gemm.json") if (path.parent / NEEDED).exists())


def stem(family: str, precision: str) -> str:
    """File name of a forest without its suffix; bf16 is left out of it."""
    return family if precision == "bf16" else f"{family}-{precision}"


def precisions(system: str, family: str, root: Path | None = None) -> list[str]:
    """Precisions in which a system has forests of a family; for attention, types of the KV cache."""
    folder = (root or FOLDER) / system
    try:
        changed = folder.stat().st_mtime_ns
    except OSError:
        return []
    return list(_precisions(folder, family, changed))


@lru_cache(maxsize=1024)
def _precisions(folder: Path, family: str, changed: int) -> tuple[str, ...]:
    """The precisions in a folder, which was ``changed`` then, ns."""
    named = [path.stem.removeprefix(f"{family}-") for path in sorted(folder.glob(f"{family}-*.json"))]
    return ("bf16", *named) if (folder / f"{family}.json").exists() else tuple(named)


def card(system: str, family: str, precision: str = "bf16", root: Path | None = None) -> dict[str, Any]:
    """The model card of a forest; for ``all_reduce``, ``moe_a2a`` and ``elementwise``, the measured figures
    themselves.

    The dictionary is shared: do not change it. Raises CatalogError where there is none, naming those that exist.
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
    """The forest of one family on one device. ``chip``: the device's own figures, from the catalog.

    ``exact``: measured points (shape -> ms) that are returned as they were measured, for a user's own profile.
    ``session``: loads what the trees are run with. ``work``: bytes and rate that the features are made with; None:
    those of ``precision``.
    """

    family: str
    precision: str
    chip: Chip
    card: dict[str, Any]
    session: Callable[[], Any]
    exact: dict[tuple[float, ...], float]
    work: Precision | None = None

    def _columns(self, shape: Floats) -> tuple[Columns, Columns]:
        return features(self.family, shape, self.chip, self.precision, self.work)

    def _answers(self, shape: Floats) -> tuple[Floats, Floats]:
        """Predicted times, ms, and the standard deviation of their logarithm over the trees."""
        shape = np.asarray(shape, dtype=np.float64)
        ms, spread = np.empty(len(shape)), np.empty(len(shape))
        for start in range(0, len(shape), BATCH):
            rows = slice(start, start + BATCH)
            columns, terms = self._columns(shape[rows])
            (trees,) = self.session().run(None, {"features": stacked(columns)})
            ms[rows] = base(self.card["base_ms"], terms) * np.exp(trees.mean(axis=1, dtype=np.float64))
            spread[rows] = trees.std(axis=1, dtype=np.float64)
        if self.exact:
            for row, key in enumerate(map(tuple, shape.tolist())):
                ms[row] = self.exact.get(key, ms[row])
        return ms, spread

    def ms(self, shape: Floats) -> Floats:
        """Predicted times, float64[rows], ms, of ``shape`` (float64[rows, columns]), in one batch."""
        return self._answers(shape)[0]

    def interval(self, shape: Floats) -> tuple[Floats, Floats]:
        """Ends of an interval that holds the true time of about 90 % of unseen shapes; float64[rows] each, ms."""
        ms, spread = self._answers(shape)
        wide = np.exp(Interval(**self.card["interval"]).half_width(spread))
        return ms / wide, ms * wide

    def outside(self, shape: Floats) -> NDArray[np.bool_]:
        """Whether a shape lies outside of what was measured, bool[rows]: by a column, or by its FLOPs or bytes."""
        columns, _ = self._columns(np.asarray(shape, dtype=np.float64))
        out = np.zeros(len(shape), dtype=bool)
        for name, (low, high) in self.card["hull"].items():
            column = columns[name].astype(np.float32)
            out |= (column < np.float32(low)) | (column > np.float32(high))
        return out

    def knots(self, name: str) -> Floats:
        """Values of one shape column that were measured; between them a forest can only be interpolated."""
        return np.array(self.card["shapes"][name])

    def dram_floor(self) -> tuple[float, float] | None:
        """Launch (ms) and sustained bandwidth (GB/s) of reading a KV cache from DRAM; None where it is not known.

        On another chip than the measured one the bandwidth is scaled.
        """
        floor = self.card.get("dram_floor")
        if floor is None:
            return None
        faster = self.chip.bandwidth_gb_s / self.card["chip"]["bandwidth_gb_s"]
        return floor["launch_ms"], floor["bandwidth_gb_s"] * faster


def load(system: str, family: str, precision: str, chip: Chip, root: Path | None = None) -> Forest:
    """Load the forest of a family and precision, from ``root`` or from fastsim's own.

    Raises CatalogError where there is none, and TableError when the file is not the one that its card describes.
    """
    about = card(system, family, precision, root)
    path = (root or FOLDER) / system / f"{stem(family, precision)}.onnx"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise TableError(f"{path}: differs from the digest in its card; install fastsim anew, or train it again")
    return Forest(family, precision, chip, about, _session(content), _exact(path.with_suffix(".npz")))


def _session(content: bytes) -> Callable[[], Any]:
    """A session of onnxruntime, which is loaded when the forest is first asked for a time."""

    @cache
    def session() -> Any:
        onnxruntime = runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # so that sums are the same on any machine
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    return session


def runtime() -> Any:
    """Import onnxruntime with its telemetry off, which would write into the home folder and to standard error."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime


def _exact(path: Path) -> dict[tuple[float, ...], float]:
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        return dict(zip(map(tuple, stored["shape"].tolist()), stored["ms"].tolist(), strict=True))
