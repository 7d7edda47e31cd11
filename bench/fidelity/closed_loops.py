"""Measured closed loops: users who start together and send ten prompts each, replayed on nothing but their settings."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fastsim.deployment.resolved import Deployment
from fastsim.workload import Workload
from fastsim.workload.loading import load

ROUNDS = 10  # prompts that each user of a closed loop sends
SYSTEMS = {"h100_sxm": "h100", "h200_sxm": "h200"}
QUANTIZATIONS = {"": None, "fp8": "fp8", "fp8_block": "fp8_block"}
BUDGET = 8192  # tokens of a batch
# The certified release of SGLang nearest to those that were measured, 0.5.1 to 0.5.8.
SGLANG: dict[str, Any] = {"engine": "sglang-0.5.10", "scheduler": {"disable_radix_cache": True}}
# How a server can be scheduled here; the number of users is put in as the most requests that run at once. Prompts of
# these rows are random, so that no prefix cache is of use.
AS: Mapping[str, Mapping[str, Any]] = {
    "sarathi": {"scheduler": {"policy": "sarathi", "chunk_size": BUDGET}},
    "vllm-v0": {"scheduler": {"policy": "vllm", "max_num_batched_tokens": BUDGET}},
    "sglang": SGLANG,
    "sglang-mixed": {**SGLANG, "scheduler": {**SGLANG["scheduler"], "enable_mixed_chunk": True}},
}


class Measured(NamedTuple):
    """One measured run, and what fastsim needs to simulate it. Times are in seconds; NaN where they are not known."""

    name: str  # of the set of runs that it belongs to
    deployment: Deployment
    workload: Workload
    ttft: float  # mean
    tpot: float  # mean
    e2e: float  # mean


def closed_loops(
    folder: Path, backends: Sequence[str], sglang_as: Sequence[str], by: Sequence[str] = (), seed: int = 0
) -> Iterator[Measured]:
    """Closed loops of one attention rank on some backends, each row of SGLang once for each way to schedule it.

    Prompts and outputs of InferenceX are uniform between 80 and 100 % of their nominal lengths; others have just these.
    Rows whose precision fastsim cannot give to the whole model (gpt-oss in fp4) are left out. The name of a set has the
    backend, the model and the device, and the values of the columns ``by`` of the file, such as tp_size.
    """
    with (folder / "closed_loop_h100_h200" / "measured.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        complete = row["concurrency"] and row["silicon_ttft_ms"] and row["silicon_tpot_ms"]
        if row["gemm_quant_mode"] not in QUANTIZATIONS or float(row["attention_dp_size"] or 1) != 1 or not complete:
            continue
        if row["backend"] not in backends:
            continue
        workload = _workload(row, seed)
        ttft, tpot = float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3
        e2e = ttft + tpot * (float(workload.num_output_tokens.mean()) - 1)
        name = " ".join([row["backend"], row["model_path"].rpartition("/")[2], SYSTEMS[row["system"]]])
        name = ", ".join([name, *(f"{column} {row[column]}" for column in by)])
        if row["backend"] == "sglang":
            for way in sglang_as:
                yield Measured(f"{name}, as {way}", _deployment(row, way), workload, ttft, tpot, e2e)
        else:
            yield Measured(name, _deployment(row, "sarathi"), workload, ttft, tpot, e2e)


def _workload(row: Mapping[str, str], seed: int) -> Workload:
    users, prompt, output = int(float(row["concurrency"])), int(row["isl"]), int(row["osl"])
    fixed = {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output}
    spread = {"kind": "uniform", "num_prompt_tokens": _from_80(prompt), "num_output_tokens": _from_80(output)}
    described = {
        "lengths": spread if row["origin"] == "inferencex_db" else fixed,
        "gaps": {"kind": "closed_loop", "concurrency": users},
    }
    return load(described, num_requests=ROUNDS * users, seed=seed)


def _deployment(row: Mapping[str, str], way: str) -> Deployment:
    most = "max_running_requests" if way.startswith("sglang") else "max_num_seqs"
    fields = {
        "model": row["model_path"],
        "device": SYSTEMS[row["system"]],
        "tensor_parallel_size": int(float(row["tp_size"] or 1)),
        "enable_expert_parallel": float(row["moe_ep_size"] or 1) > 1,
        "quantization": QUANTIZATIONS[row["gemm_quant_mode"]],
        "max_model_len": int(row["isl"]) + int(row["osl"]) + 256,
        **AS[way],
        "scheduler": {**AS[way]["scheduler"], most: int(float(row["concurrency"]))},
    }
    return Deployment.load(fields)


def _from_80(nominal: int) -> dict[str, int]:
    return {"min": max(1, nominal * 8 // 10), "max": nominal}
