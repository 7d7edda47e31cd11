"""The forests that come with fastsim, as ONNX: load one and ask it for times."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.errors import CatalogError, TableError

from .roofline import SHAPES, Chip, Floats, features

FOLDER = Path(__file__).parent.parent / "data" / "predictors"


def systems() -> list[str]:
    """Names of the machines with forests (Device.predictor in the catalog)."""
    return sorted(path.parent.name for path in FOLDER.glob("*/gemm.json"))


@cache
def card(system: str, operator: str) -> dict[str, Any]:
    """The model card of a forest; of ``all_reduce``, the curves themselves. Do not change it."""
    path = FOLDER / system / f"{operator}.json"
    try:
        read: dict[str, Any] = json.loads(path.read_bytes())
    except OSError:
        known = ", ".join(systems())
        raise CatalogError(f"predictor: {system!r} has no {operator} forest; shipped: {known}") from None
    return read


@dataclass(frozen=True, slots=True)
class Forest:
    """One operator's forest on one device. ``chip``: the device's own figures, from the catalog."""

    operator: str
    chip: Chip
    card: dict[str, Any]
    session: Any

    def ms(self, shape: Floats) -> Floats:
        """Times float64[rows], ms, of ``shape`` float64[rows, columns] (roofline.SHAPES), in one batch."""
        inputs, roofline_ms = features(self.operator, shape, self.chip)
        (ratio,) = self.session.run(None, {"features": inputs})
        launched: Floats = (roofline_ms + self.card["launch_ms"]) * np.exp(ratio[:, 0].astype(np.float64))
        return launched

    def knots(self, name: str) -> Floats:
        """Values of one shape column that were measured: between them a forest knows no more than a line."""
        return np.array(self.card["shapes"][name])


def load(system: str, operator: str, chip: Chip) -> Forest:
    """The shipped forest; TableError when its file is not the one its card describes."""
    import onnxruntime

    found = card(system, operator)
    path = FOLDER / system / f"{operator}.onnx"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != found["sha256"]:
        raise TableError(f"{path}: differs from the digest in its card; install fastsim anew, or train it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums on any machine
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return Forest(operator, chip, found, session)


def load_all(system: str, chip: Chip) -> dict[str, Forest]:
    """Every forest of a system, by operator."""
    return {operator: load(system, operator, chip) for operator in SHAPES}
