"""How far fastsim is from measured runs: `python bench/fidelity/measured_runs.py GROUNDTRUTH [--serving]`.

For each set of runs it prints the signed mean, the mean and the median error of TTFT, TPOT and E2E in percent. With
``--serving`` it replays runs of vLLM 0.15 whose prompts recur; hits of their prefixes are not simulated yet.

The files are those of a folder ``groundtruth`` with ``closed_loop_h100_h200`` (the silicon samples of aiconfigurator,
Apache License 2.0, mostly InferenceX) and ``vllm_0_15_serving`` (figures published by the authors of BLIS). They are no
part of this project.
"""

import argparse
import csv
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from fastsim.deployment.resolved import Deployment
from fastsim.errors import FastsimError
from fastsim.simulation.many import simulate_many
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.loading import load

ROUNDS = 10  # prompts that each user of a closed loop sends
SYSTEMS = {"h100_sxm": "h100", "h200_sxm": "h200"}
QUANTIZATIONS = {"": None, "fp8": "fp8", "fp8_block": "fp8_block"}
BLOCK_SIZE = 16  # tokens


class Measured(NamedTuple):
    """One measured run, and what fastsim needs to simulate it. Times are in seconds; NaN where they are not known."""

    name: str  # of the set of runs that it belongs to
    deployment: Deployment
    workload: Workload
    ttft: float  # mean
    tpot: float  # mean
    e2e: float  # mean


def closed_loops(folder: Path, seed: int = 0) -> Iterator[Measured]:
    """Closed loops of one attention rank: users who start together and send ten prompts each.

    Prompts and outputs of InferenceX are uniform between 80 and 100 % of their nominal lengths; others have just these.
    Rows whose precision fastsim cannot give to the whole model (gpt-oss in fp4) are left out.
    """
    with (folder / "closed_loop_h100_h200" / "measured.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        complete = row["concurrency"] and row["silicon_ttft_ms"] and row["silicon_tpot_ms"]
        if row["gemm_quant_mode"] not in QUANTIZATIONS or float(row["attention_dp_size"] or 1) != 1 or not complete:
            continue
        users, prompt, output = int(float(row["concurrency"])), int(row["isl"]), int(row["osl"])
        fixed = {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output}
        spread = {"kind": "uniform", "num_prompt_tokens": _from_80(prompt), "num_output_tokens": _from_80(output)}
        described = {
            "lengths": spread if row["origin"] == "inferencex_db" else fixed,
            "gaps": {"kind": "closed_loop", "concurrency": users},
        }
        fields = {
            "model": row["model_path"],
            "device": SYSTEMS[row["system"]],
            "tensor_parallel_size": int(float(row["tp_size"] or 1)),
            "enable_expert_parallel": float(row["moe_ep_size"] or 1) > 1,
            "quantization": QUANTIZATIONS[row["gemm_quant_mode"]],
            "max_model_len": prompt + output + 256,
            "scheduler": {"policy": "sarathi", "max_num_seqs": users, "chunk_size": 8192},
        }
        ttft, tpot = float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3
        workload = load(described, num_requests=ROUNDS * users, seed=seed)
        yield Measured(
            f"{row['backend']} {row['model_path'].rpartition('/')[2]} {SYSTEMS[row['system']]}",
            Deployment.load(fields),
            workload,
            ttft,
            tpot,
            ttft + tpot * (float(workload.num_output_tokens.mean()) - 1),
        )


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


def _from_80(nominal: int) -> dict[str, int]:
    return {"min": max(1, nominal * 8 // 10), "max": nominal}


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
    arguments = parser.parse_args()
    runs = list((serving if arguments.serving else closed_loops)(arguments.groundtruth))
    errors: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    refused: dict[str, list[str]] = defaultdict(list)
    for run, latency in zip(runs, predicted(runs), strict=True):
        if isinstance(latency, Exception):
            refused[run.name].append(str(latency).splitlines()[0])
            continue
        for metric in ("ttft", "tpot", "e2e"):
            errors[run.name][metric].append(latency[metric]["mean"] / getattr(run, metric) - 1)
    print(f"{'set':42} runs  {'TTFT':>20}  {'TPOT':>20}  {'E2E':>20}  %: signed mean, mean, median")
    for name in sorted({run.name for run in runs}):
        counted = len(errors[name]["ttft"])
        cells = [percent(errors[name][metric]) if counted else "" for metric in ("ttft", "tpot", "e2e")]
        print(f"{name:42} {counted:4}  " + "  ".join(f"{cell:>20}" for cell in cells))
        for reason in sorted(set(refused[name])):
            print(f"    {refused[name].count(reason)} refused: {reason}")


if __name__ == "__main__":
    main()
