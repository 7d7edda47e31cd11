"""How far fastsim is from measured runs: `python bench/fidelity/measured_runs.py GROUNDTRUTH [--serving]`.

For each set of runs it prints the signed mean, the mean and the median error of TTFT, TPOT and E2E in percent. With
``--serving`` it replays runs of vLLM 0.15 whose prompts recur; hits of their prefixes are not simulated yet. Otherwise
it replays closed loops, and ``--sglang-as`` says which schedulers stand in for SGLang:

    python bench/fidelity/measured_runs.py GROUNDTRUTH --backend sglang --sglang-as sarathi vllm-v0 sglang --by osl

The files are those of a folder ``groundtruth`` with ``closed_loop_h100_h200`` (the silicon samples of aiconfigurator,
Apache License 2.0, mostly InferenceX) and ``vllm_0_15_serving`` (figures published by the authors of BLIS). They are no
part of this project.
"""

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fastsim.deployment.resolved import Deployment
from fastsim.errors import FastsimError
from fastsim.simulation.many import simulate_many
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes
from fidelity.closed_loops import AS, Measured, closed_loops

BLOCK_SIZE = 16  # tokens


def serving(folder: Path, hardware: tuple[str, ...] = ("H100", "A100", "L40S")) -> Iterator[Measured]:
    """Whole runs of vLLM 0.15.1 with the prompts' identity: 100 prompts in turn, in groups that share a prefix.

    Requests are those of the workload of seed 0 of each preset, all stages one after the other.
    """
    place = folder / "vllm_0_15_serving"
    with (place / "measured.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["stage"] == "-1" and row["hardware"] in hardware]
    for row in rows:
        requests = place / "workloads" / f"{row['preset']}_seed0.parquet"
        if not requests.exists():
            continue
        fields = {
            "model": row["model"],
            "device": row["hardware"].lower(),
            "tensor_parallel_size": int(float(row["tp"])),
            "quantization": {"FP8": "fp8"}.get(row["precision"]),
            "gpu_memory_utilization": float(row["gpu_mem_util"]),
            "max_model_len": 4096,
            "scheduler": {
                "policy": "sarathi",
                "max_num_seqs": int(row["max_num_seqs"]),
                "chunk_size": int(float(row["max_num_batched_tokens"])),
            },
        }
        yield Measured(
            f"vllm 0.15 {row['hardware']} {row['preset']}",
            Deployment.load(fields),
            of_prompts(requests, int(row["system_prompt_len"])),
            float(row["ttft_mean_ms"]) / 1e3,
            float(row["tpot_recomputed_ms"] or "nan") / 1e3,
            float(row["e2e_mean_ms"]) / 1e3,
        )


def of_prompts(path: Path, shared: int) -> Workload:
    """The requests of a file with columns idx, arrival_s, input_len, output_len, group_id and prompt_id.

    Prompts of one group begin with ``shared`` equal tokens, and those of one id are equal; outputs are private.
    """
    table = pq.read_table(path)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    lists = []
    for group, prompt, length in zip(columns["group_id"], columns["prompt_id"], columns["input_len"], strict=True):
        common, whole = shared // BLOCK_SIZE, int(length) // BLOCK_SIZE
        of_group = [int(group) << 20 | 1 << 50 | place for place in range(common)]
        lists.append(of_group + [int(prompt) << 20 | 1 << 51 | place for place in range(common, whole)])
    return Workload(
        columns["arrival_s"],
        columns["input_len"].astype(np.int64),
        columns["output_len"].astype(np.int64),
        name=path.stem,
        block_hashes=BlockHashes.of(lists, BLOCK_SIZE),
    )


def predicted(runs: list[Measured]) -> list[dict[str, Any] | Exception]:
    """The latencies that fastsim predicts for each run, or why it does not."""
    found = simulate_many([(run.deployment, run.workload) for run in runs], too_long="clip")
    return [each.summary["latency"] if each.summary else each.error or FastsimError("no summary") for each in found]


def percent(errors: list[float]) -> str:
    """Signed mean, mean and median of relative errors."""
    signed = 100 * np.array(errors)
    return f"{signed.mean():+6.1f} {np.abs(signed).mean():6.1f} {np.median(np.abs(signed)):6.1f}"


def main() -> None:
    """Parse the command line, simulate all runs, and print their errors by set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groundtruth", type=Path)
    parser.add_argument("--serving", action="store_true")
    parser.add_argument("--backend", nargs="+", default=["vllm", "sglang", "trtllm"], help="of the closed loops")
    parser.add_argument("--sglang-as", nargs="+", default=["sglang"], choices=AS, help="how SGLang is scheduled here")
    parser.add_argument("--by", nargs="+", default=[], help="columns that divide a set, such as tp_size or concurrency")
    given = parser.parse_args()
    folder = given.groundtruth
    runs = list(serving(folder) if given.serving else closed_loops(folder, given.backend, given.sglang_as, given.by))
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[str, list[str]] = defaultdict(list)
    for run, latency in zip(runs, predicted(runs), strict=True):
        if isinstance(latency, Exception):
            refused[run.name].append(str(latency).splitlines()[0])
            continue
        for metric in ("ttft", "tpot", "e2e"):
            errors[run.name][metric].append(latency[metric]["mean"] / getattr(run, metric) - 1)
    wide = max((len(run.name) for run in runs), default=3)
    print(f"{'set':{wide}} runs  {'TTFT':>20}  {'TPOT':>20}  {'E2E':>20}  %: signed mean, mean, median")
    for name in sorted({run.name for run in runs}):
        counted = len(errors[name]["ttft"])
        cells = [percent(errors[name][metric]) if counted else "" for metric in ("ttft", "tpot", "e2e")]
        print(f"{name:{wide}} {counted:4}  " + "  ".join(f"{cell:>20}" for cell in cells))
        for reason in sorted(set(refused[name])):
            print(f"    {refused[name].count(reason)} refused: {reason}")


if __name__ == "__main__":
    main()
