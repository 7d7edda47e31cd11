"""Simulators of others, and how each of them is run and timed on a file of requests."""

import json
import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.csv
from figures import environment
from numpy.typing import NDArray

import fastsim
from fastsim.deployment.description import Deployment
from fastsim.result.result import Result
from fastsim.workload import Workload

Latencies = dict[str, NDArray[np.float64]]  # by name, s, of each request
# Vidur's own loop over its events, and its whole run: its forests are trained before, and loaded in each.
VIDUR = """
import json, os, time
from vidur.config import SimulationConfig
from vidur.simulator import Simulator
from vidur.utils.random import set_seeds
def now(): return time.perf_counter(), time.process_time()
config = SimulationConfig.create_from_cli_args()
set_seeds(config.seed)
began = now()
simulator = Simulator(config)
looped = now()
simulator.run()
ended = now()
simulator._write_output()
written = now()
spent = lambda first, last: [b - a for a, b in zip(first, last)]
print("\\n" + json.dumps({"loop": spent(looped, ended), "call": spent(began, written)}), flush=True)
os._exit(0)
"""
PREDICTOR = "random_forrest_execution_time_predictor_config"


@dataclass(frozen=True)
class Spent:
    """Time that a run took, s; ``cpu`` None: not known."""

    wall: float
    cpu: float | None


@dataclass(frozen=True)
class Row:
    """What of the peer is compared with what of fastsim: both say what they do."""

    peer: str
    own: str
    run_peer: Callable[[], Spent]
    run_own: Callable[[], Spent]


def process(command: Sequence[str], folder: Path | None = None, surroundings: dict[str, str] | None = None) -> Spent:
    """A whole process, with those that it starts; its error ends ours."""
    return spoken(command, folder, surroundings)[0]


def spoken(
    command: Sequence[str], folder: Path | None = None, surroundings: dict[str, str] | None = None
) -> tuple[Spent, str]:
    """The same, and what it prints."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=surroundings)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{shlex.join(command)[:300]}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return Spent(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout


@dataclass(frozen=True)
class Own:
    """fastsim on the same requests, with settings as the peer has them."""

    requests: Path
    out: Path
    deployment: str | None
    settings: Sequence[str]
    workload: Workload

    def process(self) -> Spent:
        """`fastsim simulate`, with its output."""
        changes = [word for setting in self.settings for word in ("--set", setting)]
        given = [] if self.deployment is None else [self.deployment]
        command = [sys.executable, "-m", "fastsim", "simulate", *given, str(self.requests), *changes]
        return process([*command, "--out", str(self.out)], None, environment())

    def call(self) -> Spent:
        """``fastsim.simulate`` with all that it keeps, in a process that has run before."""
        began = time.perf_counter(), time.process_time()
        fastsim.simulate(Deployment.load(self.deployment, self.settings), self.workload)
        return Spent(time.perf_counter() - began[0], time.process_time() - began[1])

    def kernel(self) -> Spent:
        """The kernel of it, without the breakdown of each request. It has one thread."""
        deployment = Deployment.load(self.deployment, self.settings)
        seconds = fastsim.simulate(deployment, self.workload, detail=False).summary["timing"]["kernel_s"]
        return Spent(seconds, seconds)

    def latencies(self) -> Latencies:
        """Of the last process."""
        result = Result.load(self.out)
        return {name: result.column(name) for name in ("ttft", "tpot", "e2e")}


@dataclass(frozen=True)
class Vidur:
    """A checkout of microsoft/vidur with profiles, run by the Python of an environment with its requirements."""

    folder: Path
    python: str
    requests: Path
    out: Path

    settings = (  # what its command below says
        "model=meta-llama/Llama-2-70b-hf",
        "device=a100",
        "tensor_parallel_size=2",
        "max_model_len=4096",
        "engine=null",
        "scheduler.policy=vllm",
        "scheduler.max_num_seqs=128",
        "scheduler.max_num_batched_tokens=4096",
        "memory.planner=vidur",
        "predictor.compose=vidur",
    )

    def _command(self, *more: str) -> list[str]:
        options = {
            "replica_config_model_name": "meta-llama/Llama-2-70b-hf",
            "replica_config_device": "a100",
            "replica_config_network_device": "a100_dgx",
            "replica_config_tensor_parallel_size": 2,
            "request_generator_config_type": "trace_replay",
            "trace_request_generator_config_trace_file": self.requests,
            "trace_request_generator_config_max_tokens": 4096,
            "replica_scheduler_config_type": "vllm",
            "vllm_scheduler_config_batch_size_cap": 128,
            "vllm_scheduler_config_max_tokens_in_batch": 4096,
            "metrics_config_output_dir": self.out,
            # Its grid search takes most of an hour on two cores, and changes the forests little.
            f"{PREDICTOR}_num_estimators": 100,
            f"{PREDICTOR}_max_depth": 16,
            f"{PREDICTOR}_min_samples_split": 2,
            f"{PREDICTOR}_k_fold_cv_splits": 2,
            f"{PREDICTOR}_num_training_job_threads": 1,
        }
        given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [self.python, *more[:2], *given, "--no-metrics_config_store_plots", *more[2:]]

    def process(self) -> Spent:
        return process(self._command("-m", "vidur.main"), self.folder)

    def _inside(self, part: str, *more: str) -> Spent:
        told = spoken(self._command("-c", VIDUR, *more), self.folder)[1]
        return Spent(*json.loads(told.strip().splitlines()[-1])[part])

    def rows(self, own: Own) -> list[Row]:
        bare = [f"--no-metrics_config_{name}" for name in ("write_metrics", "enable_chrome_trace", "write_json_trace")]
        return [
            Row("its loop, without metrics and trace", "kernel", lambda: self._inside("loop", *bare), own.kernel),
            Row("its whole run, with metrics", "simulate()", lambda: self._inside("call"), own.call),
            Row("process", "process", self.process, own.process),
        ]

    def latencies(self) -> Latencies:
        (*_, last) = sorted(self.out.glob("**/request_metrics.csv"))
        table = pyarrow.csv.read_csv(last)
        e2e, ttft, outputs = (
            np.asarray(table[name].to_numpy(), np.float64)
            for name in ("request_e2e_time", "prefill_e2e_time", "request_num_decode_tokens")
        )
        several = outputs > 1
        return {"ttft": ttft, "tpot": ((e2e - ttft)[several] / (outputs - 1)[several]), "e2e": e2e}


@dataclass(frozen=True)
class AISimulate:
    """The command `aisimulate` of an environment of its own (`pip install aisimulate==VERSION`)."""

    command: str
    workload: Workload
    out: Path

    settings = ("model=meta-llama/Llama-3.1-8B", "device=h100", "engine=vllm-0.24", "max_model_len=131072")

    def prepare(self) -> None:
        """Write the requests as a trace of Mooncake's, in which no two share a block, and what is asked for."""
        self.out.mkdir(parents=True, exist_ok=True)
        block, lines = 0, []
        columns = self.workload.arrived_at, self.workload.num_prompt_tokens, self.workload.num_output_tokens
        for arrived, prompt, output in zip(*(column.tolist() for column in columns), strict=True):
            blocks = -(-prompt // 512)
            row = {"timestamp": arrived * 1e3, "input_length": prompt, "output_length": output}
            lines.append(json.dumps({**row, "hash_ids": list(range(block, block + blocks))}))
            block += blocks
        (self.out / "trace.jsonl").write_text("\n".join(lines) + "\n")
        source = {"type": "trace", "paths": [str(self.out / "trace.jsonl")], "format": "mooncake", "block_size": 512}
        engine: dict[str, Any] = {"mode": "aggregated", "backend": "vllm", "workers": {"aggregated": {}}}
        engine |= {"model": "meta-llama/Meta-Llama-3.1-8B", "hardware": "h100_sxm"}
        asked = {"traffic": {"source": source, "load": {"type": "trace_timestamps"}}, "engine": engine}
        (self.out / "asked.yaml").write_text(json.dumps(asked))

    def process(self) -> Spent:
        asked, out = str(self.out / "asked.yaml"), str(self.out / "out")
        command = [self.command, "predict", "--config", asked, "--output-dir", out, "--overwrite"]
        return process([*command, "--capture-per-request"], self.out, dict(os.environ))

    def _replay(self) -> Spent:
        """The replay, by its own clock."""
        self.process()
        return Spent(json.loads((self.out / "out" / "prediction.json").read_bytes())["wall_time_ms"] / 1e3, None)

    def rows(self, own: Own) -> list[Row]:
        return [
            Row("its replay, by its own clock", "simulate()", self._replay, own.call),
            Row("process", "process", self.process, own.process),
        ]

    def latencies(self) -> Latencies:
        rows = [json.loads(line) for line in (self.out / "out" / "requests.jsonl").read_text().splitlines()]
        first, e2e, outputs = (
            np.array([row[name] for row in rows], np.float64) for name in ("ttft_ms", "e2e_latency_ms", "output_length")
        )
        several = outputs > 1
        tpot = (e2e - first)[several] / (outputs - 1)[several]
        return {"ttft": first / 1e3, "tpot": tpot / 1e3, "e2e": e2e / 1e3}
