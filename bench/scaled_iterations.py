"""Whole iterations whose times are scaled or derived, beside measured ones: python bench/scaled_iterations.py.

Each measured GPU is scaled from the others, and measured precisions are derived from others of their GPU. No iteration
need be measured for it: both sides are composed of operator times in the same way.
"""

import math
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from fastsim.catalog.load import load_device, names
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.predictors.forests import forest as shipped
from fastsim.predictors.sources import sources_of
from fastsim.predictors.tables.by_operator import breakdown, by_operator, interval
from fastsim.predictors.tables.compose import fastsim_tables
from fastsim.predictors.times.estimate import estimate
from fastsim.predictors.times.evidence import evidence_of
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.origin import Origin, origin_of
from fastsim.predictors.times.reach import reach_of

MODELS = {
    "Llama-3.1-8B": ("meta-llama/Llama-3.1-8B", "none", 1),
    "Llama-3.1-8B, 4 bits": ("meta-llama/Llama-3.1-8B", "int4_wo", 1),
    "Qwen3-32B, TP 4": ("Qwen/Qwen3-32B", "none", 4),
    "Qwen3-30B-A3B, TP 2": ("Qwen/Qwen3-30B-A3B", "none", 2),
}
# Devices and precisions of GEMMs, and the precisions that are hidden from the rules: theirs and those nearest to it.
DERIVED = (
    ("a100", "int4_wo", ("int4_wo", "int8_wo", "int8")),
    ("a100", "int8_wo", ("int4_wo", "int8_wo", "int8")),
    ("a100", "int8", ("int8",)),
    ("h100", "fp8", ("fp8", "fp8_block", "int8_wo")),
    ("h200", "fp8", ("fp8",)),
    ("l40s", "fp8", ("fp8", "fp8_block")),
    ("b200", "fp8", ("fp8", "fp8_block", "nvfp4")),
    ("b200", "fp8_block", ("fp8_block",)),
    ("b200", "nvfp4", ("nvfp4",)),
    ("rtx_pro_6000", "fp8", ("fp8", "nvfp4")),
    ("rtx_pro_6000", "nvfp4", ("nvfp4",)),
)
DENSE = {"Llama-3.1-8B": ("meta-llama/Llama-3.1-8B", 1), "Qwen3-32B, TP 4": ("Qwen/Qwen3-32B", 4)}
SETTINGS = ["scheduler.policy=vllm", "scheduler.max_num_seqs=64"]
ITERATIONS = {
    "decode 8": Iteration((), ((8, 1000),)),
    "decode 64": Iteration((), ((64, 1000),)),
    "prefill 2048": Iteration(((2048, 0),), ()),
}


def composed(resolved: Resolved, origin: Origin) -> list[tuple[float, float, float]]:
    """Time of each iteration with the operator times of ``origin``, and its 90 % interval, ms."""
    system = origin.system if origin.kinship == "own" else ""
    sources = replace(sources_of(resolved), system=system, origin=origin)
    times = estimate(resolved, sources, reach_of(resolved))
    sizes = (resolved.tensor_parallel_size, resolved.layers_per_stage, resolved.scheduler.max_num_seqs)
    tables = by_operator(times, fastsim_tables(times, *sizes, resolved.device.skew), *sizes)
    rows = [breakdown(tables, evidence_of(resolved, sources, one), one, 1) for one in ITERATIONS.values()]
    return [(math.fsum(row.ms for row in each), *interval(each)) for each in rows]


def resolved_of(model: str, device: str, quantization: str, tp: int) -> Resolved:
    """A deployment whose iterations are composed."""
    described = {"model": model, "device": device, "max_model_len": 4096, "quantization": quantization}
    return resolve(Deployment.load(described | {"tensor_parallel_size": tp}, SETTINGS))


def precisions() -> None:
    """Print derived over measured times of precisions, %, and how many are in their intervals."""
    have, off, held = shipped.precisions, [], []
    print(f"\n{'device':14}{'precision':14}{'from':14}{'model':24}" + "".join(f"{name:>14}" for name in ITERATIONS))
    for device, precision, hidden in DERIVED:

        def known(system: str, family: str, root: Path | None = None, hidden: tuple[str, ...] = hidden) -> list[str]:
            return [name for name in have(system, family, root) if family != "gemm" or name not in hidden]

        for label, (model, tp) in DENSE.items():
            resolved = resolved_of(model, device, precision, tp)
            truth = composed(resolved, origin_of(resolved.device))
            with patch.object(shipped, "precisions", known):
                source = sources_of(resolved).choice("gemm", precision).precision
                derived = composed(resolved, origin_of(resolved.device))
            errors = [100 * (one[0] / right[0] - 1) for one, right in zip(derived, truth, strict=True)]
            held += [one[1] <= right[0] <= one[2] for one, right in zip(derived, truth, strict=True)]
            off += [abs(error) for error in errors]
            shown = "".join(f"{error:+14.1f}" for error in errors)
            print(f"{device:14}{precision:14}{source:14}{label:24}{shown}", flush=True)
    print(f"mean absolute error {np.mean(off):.1f} %, in their intervals {np.mean(held):.0%} of {len(held)}")


def main() -> None:
    """Print scaled over own times, %, and by kinship the mean absolute error and the share inside the intervals."""
    measured = [device for device in map(load_device, names("devices")) if origin_of(device).kinship == "own"]
    off: dict[str, list[list[float]]] = {}
    held: dict[str, list[bool]] = {}
    print(f"{'device':14}{'from':14}{'kinship':14}{'model':24}" + "".join(f"{name:>14}" for name in ITERATIONS))
    for device in measured:
        own = origin_of(device)
        family = [one.predictor for one in measured if one.compute_capability == device.compute_capability]
        origins = [origin_of(device, [own.system]), origin_of(device, [str(system) for system in family])]
        for label, (model, quantization, tp) in MODELS.items():
            resolved = resolved_of(model, device.name, quantization, tp)
            truth = [ms for ms, _, _ in composed(resolved, own)]
            for origin in dict.fromkeys(origins):
                scaled = composed(resolved, origin)
                errors = [100 * (ms / right - 1) for (ms, _, _), right in zip(scaled, truth, strict=True)]
                inside = [low <= right <= high for (_, low, high), right in zip(scaled, truth, strict=True)]
                held.setdefault(origin.kinship, []).extend(inside)
                off.setdefault(origin.kinship, []).append(errors)
                shown = "".join(f"{error:+14.1f}" for error in errors)
                print(f"{device.name:14}{origin.device:14}{origin.kinship:14}{label:24}{shown}", flush=True)
    for kinship, every in off.items():
        shown = "".join(f"{error:14.1f}" for error in np.mean(np.abs(every), axis=0))
        print(f"mean absolute error, %: {kinship:14}{shown}   in their intervals {np.mean(held[kinship]):.0%}")
    precisions()


if __name__ == "__main__":
    main()
