"""The forests that come with fastsim, as ONNX: load one and ask it for times."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import CatalogError, TableError

from .roofline import SHAPES, Chip, Floats, features

FOLDER = Path(__file__).parent.parent / "data" / "predictors"


def systems() -> list[str]:
    """Names of the machines with forests (Device.predictor in the catalog)."""
    return sorted(path.parent.name for path in FOLDER.glob("*/gemm.json"))


def stem(family: str, precision: str) -> str:
    """File name of a forest without its suffix; bf16 is not named."""
    return family if precision == "bf16" else f"{family}-{precision}"


def precisions(system: str, family: str) -> list[str]:
    """Precisions (of attention: types of the KV cache) that a system has forests of a family for."""
    named = [path.stem.removeprefix(f"{family}-") for path in sorted(FOLDER.glob(f"{system}/{family}-*.json"))]
    return ["bf16", *named] if (FOLDER / system / f"{family}.json").exists() else named


@cache
def card(system: str, family: str, precision: str = "bf16") -> dict[str, Any]:
    """The model card of a forest; of ``all_reduce``, the curves themselves. Do not change it."""
    path = FOLDER / system / f"{stem(family, precision)}.json"
    try:
        read: dict[str, Any] = json.loads(path.read_bytes())
    except OSError:
        have = ", ".join(precisions(system, family))
        if have:
            message = f"predictor: {system!r} has no {family} forest of precision {precision!r}; it has {have}"
        else:
            known = ", ".join(name for name in systems() if precisions(name, family))
            message = f"predictor: {system!r} has no {family} forest; shipped: {known}"
        raise CatalogError(message) from None
    return read


@dataclass(frozen=True, slots=True)
class Forest:
    """One family's forest on one device. ``chip``: the device's own figures, from the catalog (TFLOP/s of bf16)."""

    family: str
    precision: str
    chip: Chip
    card: dict[str, Any]
    session: Any

    def ms(self, shape: Floats) -> Floats:
        """Times float64[rows], ms, of ``shape`` float64[rows, columns] (roofline.FAMILIES), in one batch."""
        inputs, roofline_ms = features(self.family, shape, self.chip)
        (ratio,) = self.session.run(None, {"features": inputs})
        launched: Floats = (roofline_ms + self.card["launch_ms"]) * np.exp(ratio[:, 0].astype(np.float64))
        return launched

    def interval(self, shape: Floats) -> tuple[Floats, Floats]:
        """Ends, ms, float64[rows] each, of an interval that holds the true time in about 90 % of shapes."""
        ms, wide = self.ms(shape), np.exp(2.5e-2 * max(self.card["error_percent"].values()))
        return ms / wide, ms * wide

    def outside(self, shape: Floats) -> NDArray[np.bool_]:
        """bool[rows]: the shape leaves what was measured, in one of its columns or in what follows from them."""
        inputs, _ = features(self.family, shape, self.chip)
        low, high = np.array(list(self.card["hull"].values()), dtype=np.float32).T
        return np.asarray(((inputs < low) | (inputs > high)).any(axis=1))

    def knots(self, name: str) -> Floats:
        """Values of one shape column that were measured: between them a forest knows no more than a line."""
        return np.array(self.card["shapes"][name])


def load(system: str, family: str, precision: str, chip: Chip) -> Forest:
    """The shipped forest of a family (roofline.FAMILIES) and precision (``precisions``).

    Raises CatalogError where there is none, and TableError when its file is not the one its card describes.
    """
    import onnxruntime

    found = card(system, family, precision)
    path = FOLDER / system / f"{stem(family, precision)}.onnx"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != found["sha256"]:
        raise TableError(f"{path}: differs from the digest in its card; install fastsim anew, or train it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums on any machine
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Forest(family, precision, chip, found, session)


def load_all(system: str, chip: Chip) -> dict[str, Forest]:
    """The bf16 forests of a system's dense operators, by family."""
    return {family: load(system, family, "bf16", chip) for family in SHAPES}
