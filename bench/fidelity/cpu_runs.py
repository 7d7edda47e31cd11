"""Runs of a real vLLM that was recorded on two CPU cores: step times are fitted on one of them, the others scored."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

from . import step_times
from .runs import THROUGHPUT, Row, Run, RunSet

FOLDER = "vllm_cpu"
CALIBRATED_ON = "chat_half_r1"  # the first synchronous run where this one is missing
# Neither is read: times are a sum of terms, and the number of KV blocks is given.
ANY_MODEL, ANY_DEVICE = "meta-llama/Meta-Llama-3-8B", "h100"
ALIKE = "vLLM on a CPU, the same server process"
OTHERS = "vLLM on a CPU, other processes and settings"
PROTOCOL = (
    "An unmodified vLLM with a small model, synchronous; times of steps are an affine sum that is fitted on {} steps "
    "of run {} ({}), which is scored too but counts as fitted. A request arrives when the client sends it, and the "
    "client's own times are the measured ones, its 3.5 ms of front end before the queue and 2.4 to 2.9 ms behind it "
    "included."
)
LATE_TOKENS = (
    "{}: asynchronous scheduling was forced on a single thread, which sends tokens a step late as no GPU engine does"
)


def cpu_runs(groundtruth: Path, draws: int) -> list[RunSet]:
    """Runs of the server process that was calibrated, and the others. All is recorded: ``draws`` changes nothing."""
    folders = sorted(path.parent for path in (groundtruth / FOLDER).glob("*/requests.parquet"))
    synchronous = [folder for folder in folders if not _config(folder)["scheduler"]["async_scheduling"]]
    if not synchronous:
        return [RunSet(ALIKE, "", (), left_out=["no synchronous run is there to fit step times on"])]
    fitted_on = next((folder for folder in synchronous if folder.name == CALIBRATED_ON), synchronous[0])
    terms, about = step_times.fitted(fitted_on / "steps.parquet"), _config(fitted_on)
    process, words = about["server_process"], [f"{name[:-3]} {ns:,.0f} ns" for name, ns in terms.items()]
    protocol = PROTOCOL.format(f"{about['facts']['steps']:,}", fitted_on.name, ", ".join(words))
    files = tuple(folder / name for folder in folders for name in ("config.json", "requests.parquet"))
    alike, others = RunSet(ALIKE, protocol, (*files, fitted_on / "steps.parquet")), RunSet(OTHERS, protocol, files)
    for folder in folders:
        config = _config(folder)
        found = alike if config["server_process"] == process else others
        if config["scheduler"]["async_scheduling"]:
            found.left_out.append(LATE_TOKENS.format(folder.name))
        else:
            found.runs.append(_run(folder, config, terms, folder == fitted_on))
    return [alike, others]


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def _run(folder: Path, config: Mapping[str, Any], terms: Mapping[str, float], is_fitted: bool) -> Run:
    rows = pq.read_table(folder / "requests.parquet").to_pylist()
    scheduler = config["scheduler"]
    same = ("max_num_seqs", "max_num_batched_tokens", "block_size", "enable_prefix_caching", "enable_chunked_prefill")
    fields = {
        "model": ANY_MODEL,
        "device": ANY_DEVICE,
        "engine": f"vllm-{config['engine_version']}",
        "max_model_len": scheduler["max_model_len"],
        "scheduler": {
            **{name: scheduler[name] for name in same},
            "async_scheduling": False,
            "num_blocks": scheduler["num_gpu_blocks"] - 1,  # block 0 holds nothing
        },
        "predictor": {"source": "affine", "affine": dict(terms)},
    }
    row = Row(f"{folder.name}: {config['what']}", _figures(rows), is_fitted)
    return Run(fields, [_requests(rows, config)], [row])


def _figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    ttft, e2e = (np.array([row[f"client_{name}"] for row in rows]) for name in ("ttft", "e2e"))
    tpot = np.array([row["client_tpot"] for row in rows if row["num_output_tokens"] > 1])
    seconds = max(row["sent"] + row["client_e2e"] for row in rows)
    return {
        "ttft_mean": float(ttft.mean()),
        "ttft_p99": float(np.percentile(ttft, 99)),
        "tpot_mean": float(tpot.mean()),
        "e2e_mean": float(e2e.mean()),
        "e2e_p99": float(np.percentile(e2e, 99)),
        THROUGHPUT: sum(row["num_output_tokens"] for row in rows) / seconds,
    }


def _requests(rows: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> Workload:
    """The requests as they were sent, or, in a closed loop, in the order in which the users took them."""
    arguments, size = config["bench_args"], config["scheduler"]["block_size"]
    workload = Workload(
        np.array([row["sent"] for row in rows]),
        np.array([row["num_prompt_tokens"] for row in rows]),
        np.array([row["num_output_tokens"] for row in rows]),
        name=config["run"],
        block_hashes=BlockHashes.of([_shared_hashes(row, size) for row in rows], size),
    )
    if "--max-concurrency" not in arguments:
        return workload
    return workload.with_users(int(arguments[arguments.index("--max-concurrency") + 1]))


def _shared_hashes(row: Mapping[str, Any], block_size: int) -> list[int]:
    """Those of the blocks that a request shares with its group; all others are its own."""
    if not row["prefix_tokens"]:
        return []
    group = int.from_bytes(str(row["prefix_group"]).encode()) % 2**40
    return [group << 16 | place for place in range(row["prefix_tokens"] // block_size)]
