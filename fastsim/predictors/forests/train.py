"""Training: from measured operator times to forests in ONNX files, with their model cards."""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.errors import CatalogError, FastsimError, OutputError, TableError, did_you_mean
from fastsim.files.writing import atomic_file, reason
from fastsim.predictors.chip import Chip, Floats
from fastsim.predictors.families import FAMILIES, Size, features
from fastsim.predictors.measurements import aiconfigurator, curves, profile, small_kernels, vidur_device
from fastsim.predictors.measurements.records import Records

from . import vidur_baseline
from .features import stacked
from .fit import SEED, fit
from .forest import stem
from .intervals import Held, calibrate, coverage, crossed
from .onnx import disagreement, to_onnx
from .splits import FOLDS, folds

# A prediction is marked as outside unless the shape and these features stay within their values in training.
HULL = ("flops", "bytes", "intensity")
BIG_BYTES = 5e8  # more than any cache holds
SAMPLE, TOLERANCE = 2000, 1e-5  # rows to compare with skl2onnx's export, and the largest difference in log time


def hold_out(
    records: Records, chip: Chip, size: Size, method: str = "forest", count: int = FOLDS
) -> dict[str, list[Held]]:
    """Errors of log time, and the trees' disagreement, on rows kept from training; by split, one entry per fold."""
    columns, terms = features(records.family, records.shape, chip, records.precision)
    inputs = stacked(columns)
    out: dict[str, list[Held]] = {}
    for name, split in FAMILIES[records.family].splits.items():
        for train, held in folds(split, records.shape, SEED, count):
            fitted = fit(inputs, terms, records.ms, size, method, train)
            each = fitted.by_tree(inputs[held])
            error = each.mean(axis=1) + np.log(fitted.base(terms)[held] / records.ms[held])
            out.setdefault(name, []).append(Held(error, each.std(axis=1)))
    return out


def percent(held: list[Held]) -> float:
    """Mean absolute error of times, %; every fold counts the same."""
    return round(100 * float(np.mean([np.mean(np.abs(np.expm1(fold.error))) for fold in held])), 2)


def interior(held: dict[str, list[Held]]) -> list[Held]:
    """The folds that an interval is fitted to, without those beyond the far end of a range, which is marked as
    outside.
    """
    return [fold for name, folds_ in held.items() if not name.startswith("n or k") for fold in folds_]


def decode_floor(moved: Floats, ms: Floats, chip: Chip) -> dict[str, float]:
    """The least that reading the KV cache from DRAM takes, since rows of short caches were read from L2.

    The bandwidth is fitted to rows of more than half a gigabyte, which fit no cache; the constant is the smallest
    row's time.
    """
    large = moved > BIG_BYTES
    sustained = float(np.quantile(moved[large] / ms[large], 0.99)) / 1e6 if large.any() else np.inf
    return {
        "bandwidth_gb_s": round(min(sustained, chip.bandwidth_gb_s), 1),
        "launch_ms": round(float(ms.min()), 5),
    }


def write(path: Path, content: bytes) -> None:
    """Write a file in one atomic step. Raises OutputError."""
    try:
        with atomic_file(path) as part:
            part.write_bytes(content)
    except OSError as problem:
        raise OutputError(
            f"--out: {path.parent}: cannot be written ({reason(problem)}); give a folder that can be"
        ) from None


def train(records: Records, chip: Chip, folder: Path, method: str = "forest", quick: bool = False) -> dict[str, Any]:
    """Train on ``records``, write the ONNX file and its card to ``folder``, and return the card.

    ``quick``: use one fold per split, which gives an error and an interval in a fraction of the time. Raises
    FastsimError, with nothing written, when the ONNX file and skl2onnx's export of the same trees disagree.
    """
    family, size = records.family, FAMILIES[records.family].size
    columns, terms = features(family, records.shape, chip, records.precision)
    inputs = stacked(columns)
    fitted = fit(inputs, terms, records.ms, size, method)
    name = stem(family, records.precision)
    content = to_onnx(fitted, inputs.shape[1], family)
    gap = disagreement(content, fitted, inputs[:: -(-len(inputs) // SAMPLE)])
    if not gap <= TOLERANCE:
        raise FastsimError(
            f"{name}.onnx: differs by {gap:.2g} from what skl2onnx makes of the same trees, more than {TOLERANCE}; "
            "install releases of onnx, onnxruntime and skl2onnx that agree"
        )
    held = hold_out(records, chip, size, method, 1 if quick else FOLDS)
    inside = interior(held)
    if not inside:
        raise TableError(
            f"{records.provenance}: {family} {records.precision}: {len(records.ms)} rows are too few to keep some from "
            "training; measure more shapes of it (fastsim profile, into the same folder)"
        )
    interval = calibrate(inside)
    again = fitted.by_tree(inputs).mean(axis=1) + np.log(fitted.base(terms) / records.ms)
    names = FAMILIES[family].columns
    hull = {name: columns[name] for name in (*names, *HULL)}
    card: dict[str, Any] = {
        "family": family,
        "system": records.device,
        "precision": records.precision,
        "input": f"float32[rows, {inputs.shape[1]}], as predictors/forests/features.py makes them of shape and chip",
        "features": list(columns),
        "output": "float32[rows, trees]: log(ms / base ms) of each tree, their mean is the answer",
        "base_ms": fitted.weights,
        "chip": asdict(chip),
        "shapes": {name: sorted(set(records.shape[:, i].tolist())) for i, name in enumerate(names)},
        "hull": {name: [float(np.float32(f(v))) for f in (np.min, np.max)] for name, v in hull.items()},
        "rows": len(records.ms),
        "forest": {"method": method, "seed": SEED, **asdict(size)},
        "interval": asdict(interval),
        "error_percent": {
            **{name: percent(folds_) for name, folds_ in held.items()},
            "rows it was trained on": round(100 * float(np.mean(np.abs(np.expm1(again)))), 2),
        },
        "coverage_percent": {
            **({"all": round(100 * crossed(inside), 1)} if len(inside) > 1 else {}),
            **{n: round(100 * float(np.mean([coverage(interval, h) for h in f])), 1) for n, f in held.items()},
        },
        "source": {"rows": records.provenance, "frameworks": list(records.frameworks)},
        "date": date.today().isoformat(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    if family in ("decode_attention", "mla_decode"):
        card["dram_floor"] = decode_floor(np.exp(columns["bytes"]), records.ms, chip)
    write(folder / f"{name}.onnx", content)
    write(folder / f"{name}.json", json.dumps(card, indent=1).encode() + b"\n")
    return card


def write_curves(system: str, folder: Path) -> None:
    """Write all_reduce.json, elementwise.json and, where measured, gather_scatter.json and moe_a2a.json.

    They are too small to need a forest.
    """
    exchanges = curves.all_reduce(system), curves.all_to_all(system), curves.gather_scatter(system)
    cards = (*exchanges, curves.elementwise(system))
    for card in cards:
        _write_card(card, folder)


def _write_card(card: dict[str, Any] | None, folder: Path) -> None:
    if card is not None:
        dated = card | {"date": date.today().isoformat()}
        write(folder / f"{card['family']}.json", json.dumps(dated).encode() + b"\n")


def write_points(records: Records, folder: Path) -> None:
    """Write the measured points beside their forest, which returns them as they were measured (NPZ: shape, ms)."""
    stream = io.BytesIO()
    np.savez(stream, shape=records.shape, ms=records.ms)
    write(folder / f"{stem(records.family, records.precision)}.npz", stream.getvalue())


def train_all(
    system: str,
    folder: Path,
    method: str = "forest",
    families: Sequence[str] = tuple(FAMILIES),
    quick: bool = False,
    points: bool = False,
) -> Iterator[dict[str, Any]]:
    """Train every family and precision of a system of aiconfigurator-core into ``folder``; yields each card when it
    is done.

    The attention and experts of other frameworks than vLLM go into a folder of the framework's name within it.
    ``points``: also keep the measured points. Raises CatalogError for an unknown system or family, TableError when
    the package is missing or has another version, and OutputError when the folder cannot be written.
    """
    chip = aiconfigurator.find_system(system).chip
    write_curves(system, folder)
    for framework in ("", *aiconfigurator.OTHERS.get(system, ())):
        taken = aiconfigurator.families_of(system, framework) if framework else families
        for family in (one for one in families if one in taken):
            for precision in aiconfigurator.precisions(system, family, framework):
                records = aiconfigurator.read(system, family, precision, framework)
                if points:
                    write_points(records, folder / framework)
                yield train(records, chip, folder / framework, method, quick)


def train_profile(
    source: Path,
    system: str,
    chip: Chip,
    folder: Path,
    method: str = "forest",
    quick: bool = False,
    families: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Train on a ``profile:DIR``; each forest keeps its measured points and returns them as they were measured.

    Small kernels get their card too, where they were measured. ``families``: empty for all.
    """
    measured = chosen(profile.read(source, system), families)
    _write_card(small_kernels.elementwise(source, system, chip.bandwidth_gb_s), folder)
    for records in measured:
        write_points(records, folder)
        yield train(records, chip, folder, method, quick)


def train_vidur(
    source: Path, device: str, chip: Chip, folder: Path, method: str, quick: bool
) -> Iterator[dict[str, Any]]:
    """Train on what a checkout of Vidur holds of a GPU: its GEMMs, small kernels, and sends between two GPUs."""
    records = vidur_device.gemms(source, device)
    _write_card(vidur_device.elementwise(source, device, chip.bandwidth_gb_s), folder)
    _write_card(vidur_device.sends(source, device), folder)
    yield train(records, chip, folder, method, quick)


def _compare(records: Records, quick: bool) -> dict[str, Any]:
    held = vidur_baseline.hold_out(records, vidur_baseline.FEW if quick else vidur_baseline.GRID, 1 if quick else FOLDS)
    return {
        "family": records.family,
        "precision": records.precision,
        "rows": len(records.ms),
        "error_percent": {name: percent(folds_) for name, folds_ in held.items()},
        "coverage_percent": {},
    }


def train_source(
    source: str, system: str, folder: Path, method: str, families: Sequence[str], quick: bool
) -> Iterator[dict[str, Any]]:
    """Train the forests of ``fastsim train``; yields each card when it is done. With method raw it yields errors
    only.

    ``source``: aic, profile:DIR or vidur:DIR. ``families``: empty for all.
    """
    if source == "aic":
        names = families or tuple(FAMILIES)
        if method == "raw":
            for family in names:
                for precision in aiconfigurator.precisions(system, family):
                    yield _compare(aiconfigurator.read(system, family, precision), quick)
        else:
            yield from train_all(system, folder, method, names, quick)
    elif source.startswith("profile:"):
        name, chip = device_of(system)
        where = Path(source.removeprefix("profile:")).expanduser()
        if method == "raw":
            for records in chosen(profile.read(where, name), families):
                yield _compare(records, quick)
        else:
            yield from train_profile(where, name, chip, folder, method, quick, families)
    elif source.startswith("vidur:"):
        from fastsim.catalog.load import load_device

        name, chip = load_device(system).name, device_of(system)[1]  # Vidur's names of devices are the catalog's
        where = Path(source.removeprefix("vidur:")).expanduser()
        if method == "raw":
            yield _compare(vidur_device.gemms(where, name), quick)
        else:
            yield from train_vidur(where, name, chip, folder, method, quick)
    else:
        raise CatalogError(f"--source: {source!r} is not a source of operators; give aic, profile:DIR or vidur:DIR")


def chosen(measured: list[Records], families: Sequence[str]) -> list[Records]:
    """The families to train: those given, or all. Raises CatalogError for a family without measurements."""
    have = {records.family for records in measured}
    for family in families:
        if family not in have:
            raise CatalogError(f"--family: {family!r} was not measured; {did_you_mean(family, have)}")
    return [records for records in measured if not families or records.family in families]


def device_of(system: str) -> tuple[str, Chip]:
    """The name of a system in measurements, and its chip.

    The system is one of aiconfigurator-core, a device of the catalog, or a device file.
    """
    if system in aiconfigurator.SYSTEMS:
        return system, aiconfigurator.SYSTEMS[system].chip
    from fastsim.catalog.load import load_device

    device = load_device(system)
    return device.predictor or device.name, Chip(device.tflops["bf16"], device.bandwidth_gb_s, device.num_sms)
