"""How well times are scaled to a GPU or a precision that was not measured: python bench/scaling.py [--write].

Every measured GPU is predicted from the others, and every measured precision from the others of its GPU, by the rules
that fastsim applies to what was never measured. Three GPUs whose tables fastsim does not ship join as targets (B300,
GB200, GB300). The 90 % quantiles of the errors are the intervals in data/predictors/scaling.json, which --write
writes. Needs pip install "fastsim[aic]"; takes some minutes.
"""

import argparse
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

import numpy as np

from fastsim.catalog.hardware import Device
from fastsim.catalog.load import load_device, names
from fastsim.catalog.precisions import FORMATS
from fastsim.predictors.chip import PRECISIONS, Floats, Precision
from fastsim.predictors.families import FAMILIES
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.measurements import aiconfigurator as aic
from fastsim.predictors.times import scaled
from fastsim.predictors.times.origin import Origin, origin_of

MEASURED = {str(one.predictor): one for one in map(load_device, names("devices")) if origin_of(one).kinship == "own"}
BESIDES = {"b300_sxm": "b300", "gb200": "gb200", "gb300": "gb300"}  # in the package, and not shipped
WEIGHTS_ALONE = ("h100_sxm", "h200_sxm", "l40s", "rtx_pro_6000_server")  # with experts in int4_wo by vLLM 0.24
SAMPLE, LEAST, SEED = 1500, 512, 0  # rows of a table; n and k of a GEMM that a model has
LAUNCHES_US = range(13)  # that are tried for the launch of a quantised kernel
FEW_MODELS = 5
TYPICAL = {"gemm": [16, 8192, 8192], "moe": [16, 4096, 1536, 128, 8, 1, 1]}


@dataclass(frozen=True)
class Pair:
    """Rows of a target, and the forest that predicts them: ``kind`` names the constant that its error counts for."""

    family: str
    kind: str
    target: str
    precision: str
    source: str
    shape: Floats
    ms: Floats
    predicted: Floats

    @property
    def error(self) -> Floats:
        """log(predicted / measured)."""
        return np.log(self.predicted / self.ms)


def rows(system: str, family: str, precision: str, least: int = aic.MIN_ROWS) -> tuple[Floats, Floats] | None:
    """A sample of a table's rows of sizes that models have; None where there are fewer than ``least``."""
    try:
        records = aic.read(system, family, precision)
    except Exception:  # the package has no such table
        return None
    return sampled(records.shape, records.ms) if len(records.ms) >= least else None


def sampled(shape: Floats, ms: Floats) -> tuple[Floats, Floats]:
    """A sample of rows, without GEMMs smaller than any that a model has."""
    if shape.shape[1] == 3 and shape[:, 2].max() > 1024:
        kept = (shape[:, 1:] >= LEAST).all(axis=1)
        shape, ms = shape[kept], ms[kept]
    at = np.random.default_rng(SEED).permutation(len(ms))[:SAMPLE]
    return shape[at], ms[at]


def asked(origin: str, family: str, precision: str, device: Device, work: Precision) -> Any:
    """The shipped forest of a system, asked for another chip or other bytes."""
    chip = scaled.chip_of(device)
    return replace(shipped.load(origin, family, precision, chip), work=work)


def devices_of() -> dict[str, Device]:
    """Systems with rows, and their GPUs."""
    return MEASURED | {system: load_device(name) for system, name in BESIDES.items()}


def across_gpus() -> Iterator[Pair]:
    """Each GPU from the nearest of its architecture, and from the nearest of any other."""
    for system, device in devices_of().items():
        unknown = replace(device, predictor=None)
        alike = [one for one, other in MEASURED.items() if other.compute_capability == device.compute_capability]
        near = origin_of(unknown, [system])
        origins = [near] if system in BESIDES else [near, origin_of(unknown, [system, *alike])]
        for origin in dict.fromkeys(origins):
            yield from from_gpu(system, device, origin)


def from_gpu(system: str, device: Device, origin: Origin) -> Iterator[Pair]:
    """Every family and precision of a GPU, scaled from another."""
    for family in FAMILIES:
        for precision in shipped.precisions(origin.system, family):
            attention = FAMILIES[family].precision_field == "kv_cache_dtype"
            if slow(origin.system, family, precision) or slow(system, family, precision):
                continue
            if (held := rows(system, family, precision)) is not None:
                speed = PRECISIONS[precision].speed if attention else scaled.work_of(precision, device).speed
                forest = asked(origin.system, family, precision, device, replace(PRECISIONS[precision], speed=speed))
                yield Pair(family, origin.kinship, system, precision, origin.system, *held, forest.ms(held[0]))


def across_precisions() -> Iterator[Pair]:
    """Each precision of a GPU from its 16 bits, and from the nearest of its others."""
    for system, device in MEASURED.items():
        for family in FAMILIES:
            have = [name for name in shipped.precisions(system, family) if not slow(system, family, name)]
            for precision in have[1:]:
                if (held := rows(system, family, precision)) is not None:
                    yield from derived(system, device, family, precision, have, held)
    for system in WEIGHTS_ALONE:
        aic.SYSTEMS[system].others["moe", "int4_wo"] = ("vllm", "0.24.0")
        held = rows(system, "moe", "int4_wo", 300)
        assert held is not None
        yield from derived(system, MEASURED[system], "moe", "int4_wo", ["bf16"], held)


def derived(
    system: str, device: Device, family: str, precision: str, have: list[str], held: tuple[Floats, Floats]
) -> Iterator[Pair]:
    """One precision from 16 bits and from the nearest."""
    attention = FAMILIES[family].precision_field == "kv_cache_dtype"
    work = PRECISIONS[precision] if attention else scaled.work_of(precision, device)
    others = [name for name in have if name != precision and not narrow(system, family, name)]
    for source in dict.fromkeys(["bf16", scaled.nearest_precision(work, others)]):
        kind = "from_bf16" if source == "bf16" else "from_quantised"
        ms = asked(system, family, source, device, work).ms(held[0])
        yield Pair(family, kind, system, precision, source, *held, ms)


def slow(system: str, family: str, precision: str) -> bool:
    """Whether a quantised kernel takes longer than that of 16 bits: no engine would choose it."""
    if family not in TYPICAL or precision == "bf16" or system not in MEASURED:
        return False
    if precision not in shipped.precisions(system, family):
        return False
    shape, chip = np.array([TYPICAL[family]], dtype=np.float64), scaled.chip_of(MEASURED[system])
    ms = [shipped.load(system, family, name, chip).ms(shape)[0] for name in (precision, "bf16")]
    return bool(ms[0] > 1.1 * ms[1])


def narrow(system: str, family: str, precision: str) -> bool:
    """Whether experts were measured in the sizes of one or two models only: mxfp4, which gpt-oss has."""
    have = precision in shipped.precisions(system, family)
    return family == "moe" and have and len(shipped.card(system, family, precision)["shapes"]["hidden"]) < FEW_MODELS


def curves() -> Iterator[Pair]:
    """Each all-reduce curve from that over the nearest link of another machine."""
    cards = {system: shipped.card(system, "all_reduce") for system in MEASURED}
    for target, card in cards.items():
        others = {name: one for name, one in cards.items() if name != target}
        source = min(others, key=lambda name: abs(math.log(cards[name]["link_gb_s"] / card["link_gb_s"])))
        slower = cards[source]["link_gb_s"] / card["link_gb_s"]
        kind = "all_reduce_fast" if card["link_gb_s"] >= scaled.FAST_LINK else "all_reduce"
        for mode, by_gpus in card["curves"].items():
            for gpus, curve in by_gpus.items():
                size, ms = np.array(curve).T
                known, took = np.array(scaled.slowed(cards[source]["curves"][mode][gpus], slower)).T
                predicted = np.exp(np.interp(np.log(size), np.log(known), np.log(took)))
                yield Pair(kind, "other", target, f"{mode} {gpus}", source, size, ms, predicted)


def quantile(pairs: list[Pair], level: float = 0.9) -> float:
    """The factor within which ``level`` of times lie; every pair counts the same."""
    off = np.concatenate([abs(pair.error) for pair in pairs])
    weight = np.concatenate([np.full(len(pair.ms), 1 / len(pair.ms)) for pair in pairs])
    order = np.argsort(off)
    return float(np.exp(off[order][np.searchsorted(np.cumsum(weight[order]) / len(pairs), level)]))


def launched(pairs: list[Pair]) -> tuple[list[Pair], dict[str, float]]:
    """Add to kernels derived from 16 bits, by family, the launch (ms) that makes their errors least."""
    best = {}
    for family in ("gemm", "moe"):
        chosen = [pair for pair in pairs if (pair.family, pair.kind) == (family, "from_bf16")]
        off = [
            sum(float(np.mean(abs(np.log((pair.predicted + us / 1e3) / pair.ms)))) for pair in chosen)
            for us in LAUNCHES_US
        ]
        best[family] = LAUNCHES_US[int(np.argmin(off))] / 1e3
    return [
        replace(pair, predicted=pair.predicted + best.get(pair.family, 0.0)) if pair.kind == "from_bf16" else pair
        for pair in pairs
    ], best


def show(pairs: list[Pair]) -> None:
    """Print the error of each pair."""
    print(f"{'family':18}{'kind':16}{'target':21}{'precision':12}{'from':21}{'off %':>7}{'bias %':>8}{'90 %':>8}")
    for pair in sorted(pairs, key=lambda one: (one.family, one.kind)):
        off, bias = np.mean(abs(np.expm1(pair.error))), np.expm1(np.median(pair.error))
        name = f"{pair.family:18}{pair.kind:16}{pair.target:21}{pair.precision:12}{pair.source:21}"
        print(f"{name}{100 * off:7.1f}{100 * bias:+8.1f}   x {quantile([pair]):.2f}")


def main() -> None:
    """Print the errors, and write the constants."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write data/predictors/scaling.json")
    given = parser.parse_args()
    for system, name in BESIDES.items():
        sibling = aic.SYSTEMS["b200_sxm"]
        others = {key: source for key, source in sibling.others.items() if key[0] == "gemm"}
        aic.SYSTEMS[system] = replace(sibling, chip=scaled.chip_of(load_device(name)), others=others)
    pairs, launch_ms = launched([*across_gpus(), *across_precisions(), *curves()])
    show(pairs)
    kinds = dict.fromkeys((pair.family, pair.kind) for pair in pairs)
    widths: dict[str, dict[str, float]] = {}
    for family, kind in kinds:
        chosen = [pair for pair in pairs if (pair.family, pair.kind) == (family, kind)]
        widths.setdefault(family, {})[kind] = round(quantile(chosen), 3)
    slowest = {
        system: [
            shipped.stem(family, precision)
            for family in TYPICAL
            for precision in FORMATS
            if slow(system, family, precision) or narrow(system, family, precision)
        ]
        for system in MEASURED
    }
    constants = {
        "level": 0.9,
        "half_width": widths,
        "launch_ms": launch_ms,
        "not_derived_from": {system: found for system, found in slowest.items() if found},
        "units": "half_width: factors; launch_ms: added to kernels derived from 16 bits; not_derived_from: forests of "
        "kernels slower than those of 16 bits, or of few models",
        "source": {"rows": aic.PROVENANCE, "by": "bench/scaling.py"},
        "date": date.today().isoformat(),
    }
    print(json.dumps(constants, indent=1))
    if given.write:
        scaled.FILE.write_text(json.dumps(constants, indent=1) + "\n")


if __name__ == "__main__":
    main()
