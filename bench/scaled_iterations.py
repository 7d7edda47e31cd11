"""Whole iterations of each measured GPU, scaled from the others, beside its own: python bench/scaled_iterations.py.

No measurement of an iteration is needed: both sides are composed of operator times in the same way.
"""

from dataclasses import replace

import numpy as np

from fastsim.catalog.load import load_device, names
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.predictors.build import sources_of
from fastsim.predictors.tables.by_operator import iteration_ms
from fastsim.predictors.tables.compose import fastsim_tables
from fastsim.predictors.times.estimate import estimate
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.origin import Origin, origin_of
from fastsim.predictors.times.reach import reach_of

MODELS = {
    "Llama-3.1-8B": ("meta-llama/Llama-3.1-8B", "none", 1),
    "Llama-3.1-8B, 4 bits": ("meta-llama/Llama-3.1-8B", "int4_wo", 1),
    "Qwen3-32B, TP 4": ("Qwen/Qwen3-32B", "none", 4),
    "Qwen3-30B-A3B, TP 2": ("Qwen/Qwen3-30B-A3B", "none", 2),
}
SETTINGS = ["scheduler.policy=vllm", "scheduler.max_num_seqs=64"]
ITERATIONS = {
    "decode 8": Iteration((), ((8, 1000),)),
    "decode 64": Iteration((), ((64, 1000),)),
    "prefill 2048": Iteration(((2048, 0),), ()),
}


def milliseconds(resolved: Resolved, origin: Origin) -> list[float]:
    """What the kernel would charge for each iteration with the operator times of ``origin``, ms."""
    sources = replace(sources_of(resolved), system=origin.system, origin=origin)
    times = estimate(resolved, sources, reach_of(resolved))
    sizes = (resolved.tensor_parallel_size, resolved.layers_per_stage, resolved.scheduler.max_num_seqs)
    tables = fastsim_tables(times, *sizes, resolved.device.skew)
    return [iteration_ms(tables, iteration, 1) for iteration in ITERATIONS.values()]


def main() -> None:
    """Print scaled over own times, %, and the mean absolute error by nearness."""
    measured = [device for device in map(load_device, names("devices")) if origin_of(device).kinship == "own"]
    off: dict[str, list[list[float]]] = {}
    print(f"{'device':14}{'from':14}{'kinship':14}{'model':24}" + "".join(f"{name:>14}" for name in ITERATIONS))
    for device in measured:
        own = origin_of(device)
        family = [one.predictor for one in measured if one.compute_capability == device.compute_capability]
        origins = [origin_of(device, [own.system]), origin_of(device, [str(system) for system in family])]
        for label, (model, quantization, tp) in MODELS.items():
            described = {"model": model, "device": device.name, "max_model_len": 4096, "quantization": quantization}
            resolved = resolve(Deployment.load(described | {"tensor_parallel_size": tp}, SETTINGS))
            truth = milliseconds(resolved, own)
            for origin in dict.fromkeys(origins):
                errors = [
                    100 * (ms / right - 1) for ms, right in zip(milliseconds(resolved, origin), truth, strict=True)
                ]
                off.setdefault(origin.kinship, []).append(errors)
                shown = "".join(f"{error:+14.1f}" for error in errors)
                print(f"{device.name:14}{origin.device:14}{origin.kinship:14}{label:24}{shown}", flush=True)
    for kinship, every in off.items():
        shown = "".join(f"{error:14.1f}" for error in np.mean(np.abs(every), axis=0))
        print(f"mean absolute error, %: {kinship:14}{shown}")


if __name__ == "__main__":
    main()
