"""Speed on a real trace, next to what Vidur needs: `python bench/speed.py [TRACE.csv]`.

Without a trace, chat traffic of the size and rate of the Azure conversation trace of 2023 is synthesised.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import fastsim
from fastsim.deployment import Deployment
from fastsim.workload import load

# Measured on two cores of a server CPU: microsoft/vidur at 7d47513, per batch and per batch and request.
VIDUR_S_PER_BATCH, VIDUR_S_PER_MEMBER = 87e-6, 3.2e-6
RUNS = 5


def command(arguments: list[str], cache: str | None = None) -> float:
    """Seconds of one whole process."""
    environment = {**os.environ, **({"FASTSIM_CACHE_DIR": cache} if cache else {})}
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "fastsim", "simulate", *arguments],
        check=True,
        capture_output=True,
        env=environment,
    )
    return time.perf_counter() - began


def main() -> None:
    trace = sys.argv[1] if len(sys.argv) > 1 else None
    requests = load(trace) if trace else load("chat", rate=5.53, num_requests=19_366)
    print(f"{requests.num_requests:,} requests of {requests.name}; Llama-3-8B on one H100; medians of {RUNS}")
    for policy in ("sarathi", "vllm"):
        settings = [f"scheduler.policy={policy}", "max_model_len=16384"]
        deployment = Deployment.load(None, [*settings, "scheduler.max_num_batched_tokens=16384"])
        kept = fastsim.simulate(deployment, requests, iterations=True)
        assert kept.iterations is not None
        members = int(kept.iterations["num_seqs"].to_numpy().sum())
        vidur = kept.iterations.num_rows * VIDUR_S_PER_BATCH + members * VIDUR_S_PER_MEMBER
        times = [fastsim.simulate(deployment, requests).summary["timing"]["kernel_s"] for _ in range(RUNS)]
        kernel = statistics.median(times)
        print(
            f"{policy:8} {kept.iterations.num_rows:,} iterations: kernel {kernel * 1e3:.1f} ms, "
            f"{kernel / kept.iterations.num_rows * 1e9:.0f} ns per iteration; Vidur {vidur:.1f} s, "
            f"{vidur / kernel:,.0f} times as long"
        )
    with tempfile.TemporaryDirectory() as folder:
        shapes = ["--set", "max_model_len=16384"]
        given = [str(Path(__file__).parents[1] / "data" / "default.yaml"), trace or "chat", *shapes]
        if not trace:
            given += ["--rate", "5.53", "--requests", "19366"]
        given += ["--out", f"{folder}/out"]
        first = command(given, cache=f"{folder}/cache")
        warm = statistics.median(command(given, cache=f"{folder}/cache") for _ in range(RUNS))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"fastsim simulate, whole process: first run ever {first:.1f} s, then {warm:.2f} s; peak {peak:.0f} MiB"
    )


if __name__ == "__main__":
    main()
