"""Capacity by bisection beside an exhaustive scan of the rates, on ten deployments.

    python bench/capacity_scan.py [--requests 16000]

The scan tries every rate from 0.7 to 1.2 times the capacity, 0.5 % apart, in whole runs; it finds the rate below
the first that fails.
"""

import argparse
import time

import numpy as np

from fastsim import Deployment, resolve, simulate_many
from fastsim.planning.capacity import capacity
from fastsim.planning.stream import Source, at_rate
from fastsim.result.metrics.objectives import DEFAULTS, met

LLAMA, LARGE = "meta-llama/Llama-2-7b-hf", "meta-llama/Llama-2-70b-hf"
CASES = (
    (LLAMA, "a100", "chat", {"scheduler.policy": "vllm"}),
    (LLAMA, "a100", "chat", {"scheduler.policy": "sarathi", "scheduler.max_num_seqs": 256}),
    (LLAMA, "h100", "summarisation", {"scheduler.policy": "sarathi", "scheduler.chunk_size": 1024}),
    (LLAMA, "h100", "translation", {"scheduler.policy": "orca", "scheduler.max_num_seqs": 32}),
    (LLAMA, "a100", "chat", {"scheduler.policy": "sarathi", "num_replicas": 4, "router.policy": "least_outstanding"}),
    (LLAMA, "h100", "code", {"num_replicas": 2, "max_model_len": 8192}),
    (LARGE, "h100", "chat", {"tensor_parallel_size": 4}),
    (LARGE, "a100", "summarisation", {"tensor_parallel_size": 8, "scheduler.policy": "vllm"}),
    (LARGE, "h100", "chat", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}),
    ("Qwen/Qwen-72B", "h100", "translation", {"tensor_parallel_size": 4, "scheduler.max_num_seqs": 64}),
)


def main() -> None:
    """Print both for each deployment, and how far they are apart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=16_000)
    requests = parser.parse_args().requests
    print(f"{'deployment':75} {'bisection':>10} {'scan':>10} {'apart':>7} {'time':>8}")
    for model, device, workload, fields in CASES:
        described = {"max_model_len": 4096, **fields}
        overrides = [f"{name}={value}" for name, value in described.items()]
        deployment = Deployment.load({"model": model, "device": device}, overrides)
        began = time.perf_counter()
        found = capacity(deployment, workload, num_requests=requests)
        seconds = time.perf_counter() - began
        unit = Source(workload, 0).draw(found.num_requests, resolve(deployment))
        rates = found.rate * 0.7 * 1.005 ** np.arange(109)
        runs = simulate_many([(deployment, at_rate(unit, rate)) for rate in rates])
        passes = [run.summary is not None and all(met(one, run.summary) for one in DEFAULTS) for run in runs]
        scanned = rates[passes.index(False) - 1]
        name = f"{model.rpartition('/')[2]} {device} {workload} " + " ".join(map(str, fields.values()))
        print(
            f"{name:75} {found.rate:10.3f} {scanned:10.3f} {found.rate / scanned - 1:7.2%} {seconds:7.2f}s", flush=True
        )


if __name__ == "__main__":
    main()
