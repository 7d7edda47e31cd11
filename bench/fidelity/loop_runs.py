"""Closed loops on H100 and H200 (the silicon samples of aiconfigurator): users who each wait for their answer."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastsim.catalog.load import spellings
from fastsim.deployment import engines
from fastsim.workload import Workload
from fastsim.workload.loading import load

from .runs import Row, Run, RunSet, RunSets

FOLDER = "closed_loop_h100_h200"
ROUNDS = 10  # prompts that each user sends
PRECISIONS = {"": None, "bfloat16": None, "fp8": "fp8", "fp8_block": "fp8_block"}
INFERENCEX = "inferencex_db"
BACKENDS = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TRT-LLM"}
# What the source does not say of InferenceX: its scripts ran vLLM 0.10.2 with asynchronous scheduling.
OF_INFERENCEX = "vllm-0.10"
# The releases that stand in for the others: rows of SGLang are of 0.5.1 to 0.5.8.
STAND_IN = {"trtllm": "vllm-0.15", "sglang": "sglang-0.5.10"}
UNUSABLE = {
    "nvidia/Llama-3.1-8B-Instruct-FP8": "its rows imply 89 % of the GPU's peak FLOP/s: prefixes were hit, or several "
    "replicas served them",
}
MOST_WAITED = "its TPOT with 512 users is below that with 64, so that most of them waited for a reason that is unknown"
PROTOCOL = {
    INFERENCEX: "InferenceX: as many users as its concurrency, who start together and send ten prompts each; prompts "
    "and outputs uniform from 80 to 100 % of their nominal lengths, drawn with seeds 0, 1, 2; no prefix caching, "
    "max_num_seqs as the concurrency, 8,192 tokens a batch, asynchronous scheduling; temperature 0.",
    "nvidia_internal_sweep": "NVIDIA's sweep: as many users as its concurrency, who start together and send ten "
    "prompts each, all of the nominal lengths; no prefix caching, max_num_seqs as the concurrency, 8,192 tokens a "
    "batch (vLLM: the concurrency, the prompt and 1,500, as aiconfigurator generates it; SGLang: as it takes "
    "by default), and no front end. This protocol is assumed, and TTFT depends on it: use "
    "TPOT and E2E. Tokens are drawn as the model asks by default, since the generator of its clients sends no "
    "temperature.",
}
NOTES = {
    "trtllm": " TRT-LLM's scheduler is not simulated: vLLM 0.15 with asynchronous scheduling stands in for it, with "
    "TRT-LLM's own attention and all-reduce.",
    "sglang": " Rules and defaults are those of SGLang 0.5.10, the certified release nearest to 0.5.1 to 0.5.8.",
}


def loop_runs(groundtruth: Path, draws: int) -> list[RunSet]:
    """The rows of the file, in a set per engine, model, precision and GPU."""
    path = groundtruth / FOLDER / "measured.csv"
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["backend"] in BACKENDS]
    rows.sort(key=lambda row: (list(BACKENDS).index(row["backend"]), _title(row)))
    sets = RunSets()
    for row in rows:
        protocol = PROTOCOL.get(row["origin"], PROTOCOL["nvidia_internal_sweep"])
        found = sets.of(_title(row), protocol + NOTES.get(row["backend"], ""), path)
        if why := _why_left_out(row):
            found.left_out.append(why)
        else:
            found.runs.append(_run(row, draws if row["origin"] == INFERENCEX else 1))
    return sets.all()


def _title(row: Mapping[str, str]) -> str:
    version = _engine(row).removeprefix("vllm-") if row["backend"] == "vllm" else ""
    engine = f"{BACKENDS[row['backend']]} {version}".strip()
    model, precision = row["model_path"].rpartition("/")[2], row["gemm_quant_mode"] or "bf16"
    if "gpt-oss" in model:
        precision = "mxfp4"
    return f"closed loop, {engine}, {model} {precision}, {_device(row).upper()}"


def _why_left_out(row: Mapping[str, str]) -> str:
    if row["model_path"] in UNUSABLE:
        return UNUSABLE[row["model_path"]]
    if "gpt-oss" in row["model_path"] and (row["backend"], _number(row, "concurrency")) == ("vllm", 512):
        return MOST_WAITED
    if not (row["concurrency"] and row["silicon_ttft_ms"] and row["silicon_tpot_ms"]):
        return "its concurrency, TTFT or TPOT is not published"
    if row["gemm_quant_mode"] not in PRECISIONS and "gpt-oss" not in row["model_path"]:
        return f"precision {row['gemm_quant_mode']} is not simulated"
    if _device(row) not in spellings("devices"):
        return f"{row['system']} is not in the catalog"
    if _ranks(row) > 1 and row["backend"] != "vllm":
        return "only vLLM's ranks of data parallelism are simulated"
    return ""


def _number(row: Mapping[str, str], column: str) -> int:
    return int(float(row[column] or 1))


def _device(row: Mapping[str, str]) -> str:
    return row["system"].removesuffix("_sxm")


def _tp(row: Mapping[str, str]) -> int:
    return _number(row, "tp_size")


def _ranks(row: Mapping[str, str]) -> int:
    """Ranks of data parallelism, which share or split the experts."""
    return max(1, _number(row, "moe_tp_size") * _number(row, "moe_ep_size") // _tp(row))


def _engine(row: Mapping[str, str]) -> str:
    if row["backend"] in STAND_IN:
        return STAND_IN[row["backend"]]
    numbers = [int(part) for part in row["backend_version"].split(".") if part.isdigit()]
    release = engines.before(tuple(numbers)) if numbers else None
    return release.name if release else OF_INFERENCEX


def _fields(row: Mapping[str, str]) -> dict[str, Any]:
    longest = _number(row, "isl") + _number(row, "osl")
    return {
        "model": row["model_path"],
        "device": _device(row),
        "engine": _engine(row),
        # Of the sweep it is not known whether users sent prompts over HTTP. Their answers' TTFT does not depend on how
        # long outputs are, as if prompts came in waves, which no front end keeps together.
        "front_end_ms": None if row["origin"] == INFERENCEX else 0.0,
        # See PROTOCOL. TRT-LLM has a sampler of its own, whose time is not known.
        "sampling": "greedy" if row["origin"] == INFERENCEX or row["backend"] == "trtllm" else None,
        "tensor_parallel_size": _tp(row),
        "pipeline_parallel_size": _number(row, "pp_size"),
        "data_parallel_size": _ranks(row),
        "enable_expert_parallel": _number(row, "moe_ep_size") > 1,
        "quantization": _quantization(row),
        "kv_cache_dtype": _kv_cache_dtype(row),
        "max_model_len": longest + 256,
        "scheduler": _scheduler(row),
        "predictor": {"kernels": "trtllm" if row["backend"] == "trtllm" else None},
    }


def _scheduler(row: Mapping[str, str]) -> dict[str, Any]:
    users = _number(row, "concurrency")
    if row["backend"] == "sglang":
        return {"max_running_requests": users, "disable_radix_cache": True}
    settings = {"max_num_seqs": users, "max_num_batched_tokens": 8192, "enable_prefix_caching": False}
    if row["origin"] != INFERENCEX and row["backend"] == "vllm":
        settings["max_num_batched_tokens"] = users + _number(row, "isl") + 1500
    if row["origin"] == INFERENCEX or row["backend"] == "trtllm":
        settings["async_scheduling"] = True
    return settings


def _quantization(row: Mapping[str, str]) -> str | None:
    """That of the column, unless the checkpoint is quantised, which an engine serves as it is."""
    return None if row["model_path"].endswith("-FP8") else PRECISIONS.get(row["gemm_quant_mode"])


def _kv_cache_dtype(row: Mapping[str, str]) -> str:
    """InferenceX's scripts for Llama-3.1-70B set fp8; its rows of vLLM on H100 behave as with 16 bits all the same."""
    of_70b = row["origin"] == INFERENCEX and row["model_path"].endswith("Llama-3.1-70B")
    return "fp8" if of_70b and (row["backend"], row["system"]) != ("vllm", "h100_sxm") else "auto"


def _run(row: Mapping[str, str], draws: int) -> Run:
    workloads = [requests(row, seed) for seed in range(draws)]
    ttft, tpot = float(row["silicon_ttft_ms"]) / 1e3, float(row["silicon_tpot_ms"]) / 1e3
    outputs = sum(float(workload.num_output_tokens.mean()) for workload in workloads) / draws
    figures = {"ttft_mean": ttft, "tpot_mean": tpot, "e2e_mean": ttft + tpot * (outputs - 1)}
    experts = f" EP{_number(row, 'moe_ep_size')}" if _number(row, "moe_ep_size") > 1 else ""
    ranks = f" DP{_ranks(row)}" if _ranks(row) > 1 else ""
    name = f"{row['isl']}/{row['osl']} TP{_tp(row)}{ranks}{experts}, {_number(row, 'concurrency')} users"
    return Run(_fields(row), workloads, [Row(name, figures, _is_fitted(row))])


def _is_fitted(row: Mapping[str, str]) -> bool:
    """The rows that coefficients were fitted on: on H100 70B with TP 4, and Qwen3-32B with TP 2 and 1,024 tokens; on
    H200 Qwen3-235B with TP 2 and 2,000 tokens.
    """
    if row["backend"] != "vllm":
        return False
    model, tp = row["model_path"].rpartition("/")[2], _tp(row)
    if row["system"] == "h200_sxm":
        return (model, tp, _ranks(row), row["isl"]) == ("Qwen3-235B-A22B-FP8", 2, 1, "2000")
    of_70b = (model, tp, row["origin"]) == ("Llama-3.1-70B", 4, INFERENCEX)
    of_32b = (model, tp, row["isl"], row["gemm_quant_mode"]) == ("Qwen3-32B", 2, "1024", "")
    return of_70b or of_32b


def requests(row: Mapping[str, str], seed: int) -> Workload:
    """The requests of a row's users. ``seed`` matters only where lengths are drawn."""
    prompt, output, users = (_number(row, column) for column in ("isl", "osl", "concurrency"))
    lengths: dict[str, Any] = {"kind": "fixed", "num_prompt_tokens": prompt, "num_output_tokens": output}
    if row["origin"] == INFERENCEX:
        spread = [{"min": max(1, nominal * 8 // 10), "max": nominal} for nominal in (prompt, output)]
        lengths = {"kind": "uniform", "num_prompt_tokens": spread[0], "num_output_tokens": spread[1]}
    described = {"lengths": lengths, "gaps": {"kind": "closed_loop", "concurrency": users}}
    return load(described, num_requests=ROUNDS * users, seed=seed)
