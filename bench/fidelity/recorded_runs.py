"""Two runs of vLLM 0.19 whose every request was recorded (LLMServingSim): a burst beyond capacity, and its drain."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastsim.measured.read import read

from .runs import Row, Run, RunSet, measured_figures

FOLDER = "vllm_0_19_runs"
DEVICES = {"RTXPRO6000": "rtx_pro_6000"}
# Between two GPUs of their machine the authors of the runs have 16 GB/s and 20 us (bench/examples/RTXPRO6000 of
# casys-kaist/LLMServingSim), as the curve of this node has; the default node has 55 GB/s and 5 us.
NODES = {"RTXPRO6000": "rtx_pro_6000_sockets"}
PROTOCOL = (
    "vLLM 0.19 in the client's process, without a front end: a request arrives when it enters the engine's queue; "
    "prompts have the recorded hashes of their blocks, outputs the recorded lengths. GPUs exchange data over the "
    "slower of the two links that are known, as fast as the authors of the runs describe theirs: 16 GB/s, 20 us."
)


def recorded_runs(groundtruth: Path, draws: int) -> list[RunSet]:
    """A set per run. All is recorded, so that one replay is enough, whatever the number of ``draws``."""
    sets = []
    for path in sorted((groundtruth / FOLDER).glob("*_meta.json")):
        name = path.name.removesuffix("_meta.json")
        about, measured = json.loads(path.read_text()), path.with_name(f"{name}.csv")
        settings, gpu = about["engine_kwargs"], name.partition("_")[0]
        requests = path.with_name("workloads") / f"{Path(about['dataset_path']).stem}.parquet"
        ranks = settings["data_parallel_size"]
        title = f"vLLM {about['vllm_version'].rpartition('.')[0]}, {gpu}, {settings['model'].rpartition('/')[2]}"
        found = RunSet(title, PROTOCOL, (path, measured, requests))
        sets.append(found)
        if gpu not in DEVICES:
            found.left_out.append(f"{gpu} is not in the catalog")
            continue
        run = read(measured)
        # The skew of decode attention was fitted on the run of Llama-3.1-8B.
        row = Row(f"{run.workload.num_requests} requests", measured_figures(run), fitted=ranks == 1)
        found.runs.append(Run(_fields(about, DEVICES[gpu], NODES[gpu]), [run.workload], [row]))
    return sets


def _fields(about: Mapping[str, Any], device: str, node: str) -> dict[str, Any]:
    settings = about["engine_kwargs"]
    return {
        "model": settings["model"],
        "device": device,
        "node": node,
        "engine": f"vllm-{about['vllm_version']}",
        "front_end_ms": 0.0,  # in the client's process
        "sampling": "greedy",  # temperature 0
        "tensor_parallel_size": settings["tensor_parallel_size"],
        "data_parallel_size": settings["data_parallel_size"],
        "enable_expert_parallel": settings["enable_expert_parallel"],
        "max_model_len": settings["max_model_len"],
        "scheduler": {
            "max_num_seqs": settings["max_num_seqs"],
            "max_num_batched_tokens": settings["max_num_batched_tokens"],
        },
    }
