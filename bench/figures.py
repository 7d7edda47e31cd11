"""The figures of bench/speed.py: each is prepared once, and measured as often as wanted."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import traffic

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.workload import Workload
from fastsim.workload.loading import load

# Measured on two cores of a server CPU: microsoft/vidur at 7d47513, per batch and per batch and request. Without its
# metrics and traces, which the kernel has none of either, its loop takes 0.55 of that.
VIDUR_BARE = 0.55
VIDUR_S_PER_BATCH, VIDUR_S_PER_MEMBER = VIDUR_BARE * 87e-6, VIDUR_BARE * 3.2e-6
ROOT = Path(__file__).resolve().parents[1]
FOLDER = tempfile.TemporaryDirectory()  # of the function that is a user's
AZURE_SETTINGS = ("max_model_len=16384", "scheduler.max_num_batched_tokens=16384")


Row = tuple[str, Callable[[], "Figure"]]  # how the name of a figure begins, and what prepares it


@dataclass
class Figure:
    """One row: what is measured, what it may take, and what it took."""

    name: str
    most_s: float
    measure: Callable[[], dict[str, float]]  # "seconds", and what else is worth a note
    vidur_s: float | None = None  # Vidur's cost for the same batches
    most_runs: int = 100
    most_mib: float | None = None
    taken: list[dict[str, float]] = field(default_factory=list)

    def median(self, key: str = "seconds") -> float:
        return statistics.median(one[key] for one in self.taken)

    @property
    def kept(self) -> bool:
        """Whether it stays within its bars."""
        return self.median() <= self.most_s and (self.most_mib is None or self.median("peak_mib") <= self.most_mib)

    def notes(self) -> str:
        others = [key for key in self.taken[0] if key != "seconds"]
        return ", ".join(f"{key} {self.median(key):,.4g}" for key in others)


def default(*settings: str) -> Deployment:
    """Llama-3-8B on H100."""
    return Deployment.load(None, settings)


def vidur_seconds(deployment: Deployment, workload: Workload) -> tuple[float, int]:
    """What Vidur's bare loop needs for the same batches, and how many they are."""
    table = fastsim.simulate(deployment, workload, iterations=True).iterations
    assert table is not None
    members = int(table["num_seqs"].to_numpy().sum())
    return table.num_rows * VIDUR_S_PER_BATCH + members * VIDUR_S_PER_MEMBER, table.num_rows


def kernel(name: str, deployment: Deployment, workload: Workload, most: Callable[[float], float]) -> Figure:
    """Kernel time of one simulation. ``most``: the bar, by Vidur's cost."""
    vidur, iterations = vidur_seconds(deployment, workload)

    def measure() -> dict[str, float]:
        began, worked = time.perf_counter(), time.process_time()
        timing = fastsim.simulate(deployment, workload, detail=False).summary["timing"]
        whole, worked = time.perf_counter() - began, time.process_time() - worked
        each = timing["kernel_s"] / iterations * 1e9
        return {"seconds": timing["kernel_s"], "ns per iteration": each, "whole call": whole, "core-seconds": worked}

    return Figure(f"{name}, {iterations:,} iterations", most(vidur), measure, vidur)


def azure(trace: Path | None, scale: float) -> Iterator[Row]:
    """The Azure trace on one replica and on four; lengths of it on Llama-2-7B."""

    def served(name: str, most: Callable[[float], float], *settings: str) -> Figure:
        requests, _ = traffic.azure(trace, max(20, int(traffic.NUM_REQUESTS * scale)))
        return kernel(name, default(*AZURE_SETTINGS, *settings), requests, most)

    for policy in ("sarathi", "vllm"):
        name = f"Azure trace, 1 replica, {policy}"
        yield name, partial(served, name, lambda vidur: vidur / 2000, f"scheduler.policy={policy}")
    for policy in ("sarathi", "vllm"):
        routed = (f"scheduler.policy={policy}", "num_replicas=4", "router.policy=least_outstanding")
        name = f"Azure trace, 4 replicas, least_outstanding, {policy}"
        yield name, partial(served, name, lambda vidur: 0.030, *routed)
    number = max(20, int(16_384 * scale))
    older = {"model": "meta-llama/Llama-2-7b-hf", "device": "a100", "scheduler": {"policy": "vllm"}}
    name = f"Llama-2-7B on A100, {number:,} requests at 2/s, vllm"

    def on_a100() -> Figure:
        lengths = traffic.azure_lengths(2.0, number, 4096, trace)
        return kernel(name, Deployment.load(older), lengths, lambda vidur: 0.0075)

    yield name, on_a100


def example(folder: str) -> str:
    """The manual's scheduling function, written to a file in a folder; returns what a deployment names it by."""
    page = (ROOT / "fastsim" / "manual" / "policies.md").read_text()
    file = Path(folder) / "mine.py"
    file.write_text(page.split("```python\n")[1].split("```")[0])
    return f"{file}:shortest_prompt_first"


def custom(trace: Path | None, scale: float) -> Iterator[Row]:
    """A user's scheduling function against Sarathi: on the Azure trace, and with a long queue from the start."""
    number = max(20, int(20_000 * scale))

    def recorded() -> Workload:
        return traffic.azure(trace, max(20, int(traffic.NUM_REQUESTS * scale)))[0]

    def crowd() -> Workload:
        lengths = traffic.azure_lengths(15.0, 2 * number, 16_384, trace)
        at = np.concatenate([np.zeros(number), lengths.arrived_at[:number]])
        return Workload(at, lengths.num_prompt_tokens, lengths.num_output_tokens)

    for about, requests in (("Azure trace", recorded), (f"{number:,} requests queued", crowd)):
        name = f"{about}, the manual's shortest_prompt_first"
        yield name, partial(against_sarathi, name, requests)


def against_sarathi(name: str, requests: Callable[[], Workload]) -> Figure:
    """Kernel time with the manual's scheduling function, which may be three times that of Sarathi."""
    workload = requests()
    usual = default("scheduler.policy=sarathi", *AZURE_SETTINGS)
    own = default(f"scheduler.policy={example(FOLDER.name)}", *AZURE_SETTINGS)

    def seconds(deployment: Deployment) -> float:
        return float(fastsim.simulate(deployment, workload, detail=False).summary["timing"]["kernel_s"])

    def measure() -> dict[str, float]:
        found = seconds(own)
        return {"seconds": found, "times Sarathi's": found / seconds(usual)}

    seconds(own)
    return Figure(name, 3 * statistics.median(seconds(usual) for _ in range(5)), measure)


def cluster(num_requests: int, num_replicas: int, router: str, most_s: float, most_mib: float) -> Figure:
    """A process of its own that draws chat at 6 requests/s per replica and simulates it; its peak memory."""

    def measure() -> dict[str, float]:
        given = [str(num_requests), str(num_replicas), router]
        done = subprocess.run(
            [sys.executable, __file__, *given], check=True, capture_output=True, text=True, env=environment()
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    return Figure(cluster_name(num_requests, num_replicas, router), most_s, measure, most_runs=3, most_mib=most_mib)


def cluster_name(num_requests: int, num_replicas: int, router: str) -> str:
    """The name of ``cluster``."""
    return f"{num_requests:,} requests of chat over {num_replicas:,} replicas, {router}, sarathi"


def in_child(num_requests: int, num_replicas: int, router: str) -> dict[str, float]:
    """What the process of ``cluster`` prints."""
    import resource

    deployment = default("scheduler.policy=sarathi", f"num_replicas={num_replicas}", f"router.policy={router}")
    fastsim.simulate(deployment, load("chat", num_requests=10))
    workload = load("chat", rate=6.0 * num_replicas, num_requests=num_requests)
    began, worked = time.perf_counter(), time.process_time()
    timing = fastsim.simulate(deployment, workload, detail=False).summary["timing"]
    whole, worked = time.perf_counter() - began, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": timing["kernel_s"], "whole call": whole, "core-seconds": worked, "peak_mib": peak}


def sweep(num_jobs: int, num_requests: int) -> Figure:
    """Many configurations of one model on one workload, in one process."""
    workload = load("chat", rate=3.0, num_requests=num_requests)
    jobs = []
    for number in range(num_jobs):
        jobs.append((default(*(f"{name}={value}" for name, value in _varied(number).items())), workload))
    failed = [run.error for run in fastsim.simulate_many(jobs) if run.error]  # warms every table
    assert not failed, failed[0]

    def measure() -> dict[str, float]:
        began, worked = time.perf_counter(), time.process_time()
        runs = fastsim.simulate_many(jobs)
        seconds, worked = time.perf_counter() - began, time.process_time() - worked
        timings = [run.summary["timing"] for run in runs if run.summary]
        return {
            "seconds": seconds,
            "core-seconds": worked,
            "in kernels, by the threads' clocks": sum(one["kernel_s"] for one in timings),
            "loading tables": sum(one["tables_s"] for one in timings),
        }

    return Figure(f"{num_jobs:,} configurations x {num_requests:,} requests", 10.0, measure, most_runs=5)


def sweep_on_dask(num_jobs: int, num_requests: int) -> Figure:
    """The same as the table of a sweep, by two processes of a local Dask cluster that is started for it."""
    varied = [_varied(number) for number in range(num_jobs)]
    space = {
        "workload": {"source": "chat", "rate": 3.0, "num_requests": num_requests},
        "zip": [{name: [one[name] for one in varied] for name in varied[0]}],
    }

    def measure() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            began, worked = time.perf_counter(), _worked()
            done = fastsim.sweep(space, Path(folder) / "out", workers=2)
            assert (done.configurations, done.failed) == (num_jobs, 0)
            return {"seconds": time.perf_counter() - began, "core-seconds": _worked() - worked}

    return Figure(f"{num_jobs:,} configurations x {num_requests:,} requests, Dask", 13.0, measure, most_runs=5)


def _worked() -> float:
    """CPU time of this process and of its children that have ended, s."""
    import resource

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _varied(number: int) -> dict[str, Any]:
    return {
        "scheduler.policy": ("sarathi", "vllm", "orca", "lightllm", "faster_transformer")[number % 5],
        "scheduler.max_num_seqs": (32, 64, 128, 256)[number // 5 % 4],
        "scheduler.chunk_size": (256, 512, 1024, 2048)[number // 20 % 4],
        "num_replicas": 1 + number // 80 % 4,
        "tensor_parallel_size": (1, 2)[number // 320 % 2],
        "scheduler.watermark": round(0.01 + number * 1e-6, 6),
    }


def processes(trace: Path | None, scale: float) -> Iterator[Figure]:
    """Whole processes: warm, and the first in a fresh environment."""
    given = ["simulate", str(ROOT / "data" / "default.yaml")]
    if trace is not None and trace.exists() and scale == 1:
        given += [str(trace)]
    else:
        given += ["chat", "--rate", str(traffic.RATE), "--requests", str(max(20, int(traffic.NUM_REQUESTS * scale)))]
    given += ["--set", "max_model_len=16384"]

    def warm() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return process([*given, "--out", f"{folder}/out"])

    def first() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            return process([*given, "--out", f"{folder}/out"], f"{folder}/cache")

    yield Figure("fastsim simulate, Azure trace, warm, whole process", 1.2, warm)
    yield Figure("the same, first run ever, compiling included", 45.0, first, most_runs=1)


def process(arguments: list[str], cache: str | None = None) -> dict[str, float]:
    """Seconds of one whole `fastsim` process."""
    began, before = time.perf_counter(), os.times()
    command = [sys.executable, "-m", "fastsim", *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment(cache))
    after = os.times()
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": time.perf_counter() - began, "core-seconds": worked}


def environment(cache: str | None = None) -> dict[str, Any]:
    """That of a child: this fastsim, and a cache of its own if one is named."""
    paths = [str(ROOT), str(ROOT / "bench"), os.environ.get("PYTHONPATH", "")]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return {**found, "FASTSIM_CACHE_DIR": cache} if cache else found


if __name__ == "__main__":
    print(json.dumps(in_child(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])))
