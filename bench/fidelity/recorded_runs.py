"""Two runs of vLLM 0.19 whose every request was recorded (LLMServingSim): a burst beyond capacity, and its drain."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

from .runs import THROUGHPUT, Row, Run, RunSet

FOLDER = "vllm_0_19_runs"
DEVICES = {"RTXPRO6000": "rtx_pro_6000"}
PROTOCOL = (
    "vLLM 0.19 in the client's process, without a front end: a request arrives when it enters the engine's queue; "
    "prompts have the recorded hashes of their blocks, outputs the recorded lengths."
)
AS_TP = " Its {} ranks of data parallelism with experts shared among them run as tensor parallelism, which is nearest."


def recorded_runs(groundtruth: Path, draws: int) -> list[RunSet]:
    """A set per run. All is recorded, so that one replay is enough, whatever the number of ``draws``."""
    sets = []
    for path in sorted((groundtruth / FOLDER).glob("*_meta.json")):
        name = path.name.removesuffix("_meta.json")
        about, measured = json.loads(path.read_text()), path.with_name(f"{name}.csv")
        settings, gpu = about["engine_kwargs"], name.partition("_")[0]
        requests = path.with_name("workloads") / f"{Path(about['dataset_path']).stem}.parquet"
        ranks = settings["data_parallel_size"]
        protocol = PROTOCOL + (AS_TP.format(ranks) if ranks > 1 else "")
        title = f"vLLM {about['vllm_version'].rpartition('.')[0]}, {gpu}, {settings['model'].rpartition('/')[2]}"
        found = RunSet(title, protocol, (path, measured, requests))
        sets.append(found)
        if gpu not in DEVICES:
            found.left_out.append(f"{gpu} is not in the catalog")
            continue
        with measured.open() as file:
            rows = list(csv.DictReader(file))
        figures = _figures(rows)
        # The skew of decode attention was fitted on the run of Llama-3.1-8B.
        row = Row(f"{len(rows)} requests", figures, fitted=ranks == 1)
        found.runs.append(Run(_fields(about, DEVICES[gpu], ranks), [_requests(rows, requests)], [row]))
    return sets


def _fields(about: Mapping[str, Any], device: str, ranks: int) -> dict[str, Any]:
    settings = about["engine_kwargs"]
    return {
        "model": settings["model"],
        "device": device,
        "engine": f"vllm-{about['vllm_version']}",
        "tensor_parallel_size": settings["tensor_parallel_size"] * ranks,
        "enable_expert_parallel": settings["enable_expert_parallel"],
        "max_model_len": settings["max_model_len"],
        "scheduler": {
            # Each rank has limits of its own.
            "max_num_seqs": settings["max_num_seqs"] * ranks,
            "max_num_batched_tokens": settings["max_num_batched_tokens"] * ranks,
        },
    }


def _figures(rows: Sequence[Mapping[str, str]]) -> dict[str, float]:
    ttft, tpot, e2e = (np.array([float(row[f"{name}_ms"]) for row in rows]) / 1e3 for name in ("ttft", "tpot", "e2e"))
    seconds = max(float(row["last_token_s"]) for row in rows) - min(float(row["queued_s"]) for row in rows)
    return {
        "ttft_mean": float(ttft.mean()),
        "ttft_p99": float(np.percentile(ttft, 99)),
        "tpot_mean": float(tpot.mean()),
        "e2e_mean": float(e2e.mean()),
        "e2e_p99": float(np.percentile(e2e, 99)),
        THROUGHPUT: sum(int(row["output_toks"]) for row in rows) / seconds,
    }


def _requests(rows: Sequence[Mapping[str, str]], path: Path) -> Workload:
    """The recorded requests, in the order in which they were queued, with the hashes of their prompts."""
    hashed = {one["idx"]: one["hash_blocks"].split() for one in pq.read_table(path).to_pylist()}
    ordered = sorted(rows, key=lambda row: float(row["queued_s"]))
    return Workload(
        np.array([max(0.0, float(row["queued_s"])) for row in ordered]),
        np.array([int(row["input_toks"]) for row in ordered]),
        np.array([int(row["output_toks"]) for row in ordered]),
        name=path.stem,
        block_hashes=BlockHashes.of([[int(value, 16) for value in hashed[int(row["idx"])]] for row in ordered]),
    )
