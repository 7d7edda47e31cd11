"""Training: measured operator times -> a random forest, its ONNX file and its model card."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor

from fastsim.errors import OutputError

from . import aic
from .roofline import SHAPES, Chip, Features, Floats, feature_names, features

SEED, NUM_TREES, DEPTH, FOLDS = 0, 30, 12, 3
# Attention has a third of the rows of GEMM and less noise: smaller leaves, as small a file.
MIN_LEAF = {"gemm": 16, "prefill_attention": 8, "decode_attention": 8}
# Added to the roofline: about what the smallest kernel takes, so that small shapes do not spread the target.
LAUNCH_MS = {"gemm": 0.002, "prefill_attention": 0.005, "decode_attention": 0.010}


def target(operator: str, ms: Floats, roofline_ms: Floats) -> Floats:
    """log(time / (roofline + launch)): what a forest learns."""
    return np.log(ms / (roofline_ms + LAUNCH_MS[operator]))


def fit(operator: str, inputs: Features, wanted: Floats) -> RandomForestRegressor:
    """A forest; the same one for the same rows, on any machine and number of cores."""
    forest = RandomForestRegressor(
        NUM_TREES, max_depth=DEPTH, min_samples_leaf=MIN_LEAF[operator], random_state=SEED, n_jobs=1
    )
    return forest.fit(inputs, wanted)


def _pairs(shape: Floats, columns: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the pairs of two columns is held out: each value is known, the pair is not."""
    pairs, of_row = np.unique(shape[:, columns], axis=0, return_inverse=True)
    held = np.isin(of_row, rng.choice(len(pairs), len(pairs) // 5, replace=False))
    return ~held, held


def _values(shape: Floats, columns: tuple[int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A fifth of the inner values of either column is held out: rows with both judge, with one go unused."""
    unseen = []
    for column in columns:
        values = np.unique(shape[:, column])[1:-1]
        unseen.append(np.isin(shape[:, column], rng.choice(values, max(1, len(values) // 5), replace=False)))
    return ~unseen[0] & ~unseen[1], unseen[0] & unseen[1]


Split = Callable[[Floats, tuple[int, int], np.random.Generator], tuple[np.ndarray, np.ndarray]]


def held_out_errors(operator: str, shape: Floats, ms: Floats, chip: Chip) -> dict[str, float]:
    """Mean absolute error, %, on rows kept from training, by the way they were chosen; mean of the folds."""
    columns = (1, 2) if operator == "gemm" else (0, 1)
    first, second = (SHAPES[operator][column] for column in columns)
    splits: dict[str, Split] = {
        f"unseen ({first}, {second}) pairs": _pairs,
        f"unseen {first} and {second}": _values,
    }
    inputs, roofline_ms = features(operator, shape, chip)
    wanted = target(operator, ms, roofline_ms)
    errors = {}
    for name, split in splits.items():
        folds = []
        for fold in range(FOLDS):
            train, test = split(shape, columns, np.random.default_rng([SEED, fold]))
            got = fit(operator, inputs[train], wanted[train]).predict(inputs[test])
            folds.append(np.mean(np.abs(np.expm1(got - wanted[test]))))
        errors[name] = round(100 * float(np.mean(folds)), 2)
    return errors


def to_onnx(forest: RandomForestRegressor, operator: str) -> bytes:
    """The forest as ONNX: float32[rows, features] -> float32[rows, 1]."""
    from skl2onnx import to_onnx as convert
    from skl2onnx.common.data_types import FloatTensorType

    width = len(feature_names(operator))
    model = convert(
        forest,
        initial_types=[("features", FloatTensorType([None, width]))],
        target_opset={"": 17, "ai.onnx.ml": 3},
    )
    model.graph.name = operator  # the converter draws a random one
    return bytes(model.SerializeToString())


def decode_floor(shape: Floats, ms: Floats, chip: Chip) -> dict[str, float]:
    """What reading the KV cache from DRAM takes at least: short tables rows find it in the L2 cache.

    Bandwidth from rows of more than half a gigabyte, no cache holds those; the rest is the smallest row.
    """
    batch, length, _, kv_heads, head_dim = shape.T
    moved = 4 * batch * length * kv_heads * head_dim
    large = moved > 5e8
    sustained = float(np.quantile(moved[large] / ms[large], 0.99)) / 1e6
    return {
        "bandwidth_gb_s": round(min(sustained, chip.bandwidth_gb_s), 1),
        "launch_ms": round(float(ms.min()), 5),
    }


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as problem:
        raise OutputError(
            f"--out: {path.parent}: cannot be written ({problem.strerror}); give a folder that can be"
        ) from None


def train(system: str, operator: str, folder: Path) -> dict[str, Any]:
    """Train on aiconfigurator-core's rows, write OPERATOR.onnx and OPERATOR.json, and give the card."""
    chip, measured = aic.find_system(system).chip, aic.read(system, operator)
    inputs, roofline_ms = features(operator, measured.shape, chip)
    wanted = target(operator, measured.ms, roofline_ms)
    forest = fit(operator, inputs, wanted)
    content = to_onnx(forest, operator)
    names = feature_names(operator)
    low, high = inputs.min(axis=0), inputs.max(axis=0)
    shapes = SHAPES[operator]
    card: dict[str, Any] = {
        "operator": operator,
        "system": system,
        "precision": "bfloat16",
        "input": f"float32[rows, {len(names)}]; logarithms but for wave_fill and tile_fill",
        "features": names,
        "output": "log(ms / (roofline_ms + launch_ms))",
        "launch_ms": LAUNCH_MS[operator],
        "chip": {"tflops": chip.tflops, "bandwidth_gb_s": chip.bandwidth_gb_s, "num_sms": chip.num_sms},
        "shapes": {name: sorted(set(measured.shape[:, i].tolist())) for i, name in enumerate(shapes)},
        "hull": {name: [float(low[i]), float(high[i])] for i, name in enumerate(names)},
        "rows": len(measured.ms),
        "forest": {
            "trees": NUM_TREES,
            "max_depth": DEPTH,
            "min_samples_leaf": MIN_LEAF[operator],
            "seed": SEED,
        },
        "error_percent": {
            **held_out_errors(operator, measured.shape, measured.ms, chip),
            "rows it was trained on": round(100 * float(np.mean(np.abs(np.expm1(forest.predict(inputs) - wanted)))), 2),
        },
        "source": {
            "package": f"{aic.PACKAGE} {aic.VERSION}",
            "licence": aic.LICENCE,
            "credit": "NVIDIA aiconfigurator",
            "frameworks": list(measured.frameworks),
        },
        "date": date.today().isoformat(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if operator == "decode_attention":
        card["dram_floor"] = decode_floor(measured.shape, measured.ms, chip)
    _write(folder / f"{operator}.onnx", content)
    _write(folder / f"{operator}.json", json.dumps(card, indent=1).encode() + b"\n")
    return card


def write_all_reduce(system: str, folder: Path) -> None:
    """all_reduce.json: the measured curves as they are; 23 sizes need no forest."""
    found = aic.find_system(system)
    card = {
        "operator": "all_reduce",
        "system": system,
        "precision": "bfloat16",
        "curves": aic.read_all_reduce(system),
        "units": "mode -> GPUs -> [elements, ms]; graph: inside a CUDA graph, eager: launched one by one",
        "link_gb_s": found.link_gb_s,
        "source": {
            "package": f"{aic.PACKAGE} {aic.VERSION}",
            "licence": aic.LICENCE,
            "credit": "NVIDIA aiconfigurator",
            "frameworks": [f"vllm {found.vllm}"],
        },
        "date": date.today().isoformat(),
    }
    _write(folder / "all_reduce.json", json.dumps(card).encode() + b"\n")


def train_all(system: str, folder: Path) -> Iterator[dict[str, Any]]:
    """Train every operator of a system into ``folder``; each card as it is done.

    Raises CatalogError for an unknown system, TableError when the package is missing or another version, and
    OutputError when the folder cannot be written.
    """
    write_all_reduce(system, folder)
    for operator in SHAPES:
        yield train(system, operator, folder)
