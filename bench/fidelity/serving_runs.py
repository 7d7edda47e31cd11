"""Runs of vLLM 0.15 under load that arrives at a given rate, with prompts that recur (figures of the BLIS authors)."""

import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.catalog import load
from fastsim.errors import FastsimError
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

from .runs import Row, Run, RunSet, RunSets

FOLDER = "vllm_0_15_serving"
DEVICES = {"H100": "h100", "A100-80GB": "a100", "L40S": "l40s"}
BLOCK_SIZE = 16  # tokens
NUM_PROMPTS, PROMPTS_OF_GROUP = 100, 10  # that differ, in turn; and those that share a system prompt
# Checkpoints that the catalog has under the name of their model; the precision is a column of the rows.
CHECKPOINTS = {"RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic": "meta-llama/Llama-4-Scout-17B-16E-Instruct"}
FITTED = {"16", "46", "6", "7"}  # experiments that coefficients were fitted on
PROTOCOL = (
    "vLLM 0.15, chunked prefill, prefix caching and asynchronous scheduling on, 0.9 of the memory; 100 prompts in "
    "turn, in ten groups with a system prompt each; exponential gaps rescaled to the length of each stage, seeds 0, 1, "
    "2; outputs of the imposed length; a row per stage. Prompts are as long as their texts were counted where that is "
    "published, else as long as was asked for. The KV blocks are those that fastsim plans."
)


def serving_runs(groundtruth: Path, draws: int) -> list[RunSet]:
    """The experiments, by GPU and, with experts, by model; a run has a row per stage."""
    place = groundtruth / FOLDER
    measured, presets = place / "measured.csv", place / "workload_presets.json"
    about = json.loads(presets.read_text())
    counted = {(one["workload"], one["model"]): one["prompt_len_mean"] for one in about["measured_prompt_len_mean"]}
    with measured.open() as file:
        rows = list(csv.DictReader(file))
    sets = RunSets()
    streams: dict[tuple[str, int], list[Workload]] = {}  # equal ones are the same object, whose arrays runs share
    for experiment in dict.fromkeys((row["set"], row["exp_id"]) for row in rows):
        own = [row for row in rows if (row["set"], row["exp_id"]) == experiment]
        first = own[0]
        found = sets.of(_title(first), PROTOCOL, measured, presets)
        if first["preset"] not in about["presets"] or first["hardware"] not in DEVICES:
            found.left_out.append(f"preset {first['preset']} on {first['hardware']} is not described")
            continue
        preset = about["presets"][first["preset"]]
        asked = preset["system_prompt_len"] + preset["question_len"]
        prompt = round(counted.get((first["preset"].removesuffix("-lite"), first["model"]), asked))
        key = first["preset"], prompt
        if key not in streams:
            streams[key] = [requests(preset, prompt, first["preset"], seed) for seed in range(draws)]
        found.runs.append(Run(_fields(first), streams[key], _rows(own, preset), stages_of(preset)))
    return sets.all()


def _title(row: Mapping[str, str]) -> str:
    kind = row["model"].rpartition("/")[2] if _has_experts(row["model"]) else "dense"
    return f"vLLM 0.15, {row['hardware'].removesuffix('-80GB')}, {kind}"


@cache
def _has_experts(model: str) -> bool:
    try:
        return load.load_model(CHECKPOINTS.get(model, model)).num_experts > 0
    except FastsimError:
        return False


def _fields(row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "model": CHECKPOINTS.get(row["model"], row["model"]),
        "device": DEVICES[row["hardware"]],
        "engine": "vllm-0.15",
        "tensor_parallel_size": int(float(row["tp"])),
        "quantization": {"FP8": "fp8"}.get(row["precision"]),
        "gpu_memory_utilization": float(row["gpu_mem_util"] or 0.9),
        "max_model_len": 4096,
        "scheduler": {
            "max_num_seqs": int(row["max_num_seqs"]),
            "max_num_batched_tokens": int(float(row["max_num_batched_tokens"])),
        },
    }


def _rows(measured: Sequence[Mapping[str, str]], preset: Mapping[str, Any]) -> list[Row]:
    """A row per stage. TPOT is E2E less TTFT over the gaps between the imposed outputs, as its source defines it."""
    rows = []
    for row in measured:
        stage = int(row["stage"])
        if stage < 0:  # the whole run, which its stages make up
            continue
        ttft, e2e = float(row["ttft_mean_ms"]) / 1e3, float(row["e2e_mean_ms"]) / 1e3
        figures = {
            "ttft_mean": ttft,
            "ttft_p99": float(row["ttft_p99_ms"]) / 1e3,
            "tpot_mean": (e2e - ttft) / (preset["output_len"] - 1),
            "e2e_mean": e2e,
            "e2e_p99": float(row["e2e_p99_ms"]) / 1e3,
        }
        model = row["model"].rpartition("/")[2]
        name = f"{row['exp_id']} {model} TP{int(float(row['tp']))} {row['preset']} stage {stage}"
        rows.append(Row(name, figures, row["exp_id"] in FITTED, stage))
    return rows


def stages_of(preset: Mapping[str, Any]) -> NDArray[np.int64]:
    """The stage of each request, int64[num_requests]."""
    return np.repeat(np.arange(len(preset["stages"])), [_size(stage) for stage in preset["stages"]])


def requests(preset: Mapping[str, Any], prompt: int, name: str, seed: int) -> Workload:
    """The requests of all stages, one after the other: request k has prompt k mod 100, and outputs are private.

    Prompts of a group begin with the same system prompt; equal prompts share all their full blocks.
    """
    draw, arrivals, begin = np.random.default_rng(seed), [], 0.0
    for stage in preset["stages"]:
        gaps = draw.exponential(1 / stage["rate"], _size(stage))
        arrivals.append(begin + np.cumsum(gaps * (stage["duration_s"] / gaps.sum())))
        begin += stage["duration_s"]
    total = sum(map(len, arrivals))
    turn = np.arange(total) % NUM_PROMPTS
    blocks, common = prompt // BLOCK_SIZE, preset["system_prompt_len"] // BLOCK_SIZE
    place = np.arange(blocks)
    owner = np.where(place < common, turn[:, None] // PROMPTS_OF_GROUP, NUM_PROMPTS + turn[:, None])
    return Workload(
        np.concatenate(arrivals),
        np.full(total, prompt),
        np.full(total, preset["output_len"]),
        name=name,
        block_hashes=BlockHashes((owner * blocks + place).ravel(), np.arange(total + 1) * blocks, BLOCK_SIZE),
    )


def _size(stage: Mapping[str, Any]) -> int:
    return int(stage["rate"] * stage["duration_s"])
