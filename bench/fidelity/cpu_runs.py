"""Runs of a real vLLM that was recorded on two CPU cores: calibrated on one of them, the others scored."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastsim.calibration.calibrate import calibrate
from fastsim.calibration.gather import gathered
from fastsim.deployment.calibration import Calibration
from fastsim.deployment.description import Deployment
from fastsim.measured.read import read

from .runs import Row, Run, RunSet, measured_figures

FOLDER = "vllm_cpu"
CALIBRATED_ON = "chat_half_r1"  # the first synchronous run where this one is missing
# Neither is read: times are a sum of terms, and the number of KV blocks is given.
ANY_MODEL, ANY_DEVICE = "meta-llama/Meta-Llama-3-8B", "h100"
ALIKE = "vLLM on a CPU, the same server process"
OTHERS = "vLLM on a CPU, other processes and settings"
PROTOCOL = (
    "An unmodified vLLM with a small model, synchronous; times of steps are an affine sum that fastsim calibrate fits, "
    "with the front end, on the steps and requests of run {}, which is scored too but counts as fitted. A request "
    "arrives when the client sends it, and the client's own times are the measured ones, its 3.5 ms of front end "
    "before the queue and 2.4 to 2.9 ms behind it included."
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
    about = _config(fitted_on)
    process, protocol = about["server_process"], PROTOCOL.format(fitted_on.name)
    found = calibrate(gathered(fitted_on, None, None, None, None), Deployment.load(_fields(about))).calibration
    files = tuple(folder / name for folder in folders for name in ("config.json", "requests.parquet"))
    alike, others = RunSet(ALIKE, protocol, (*files, fitted_on / "steps.parquet")), RunSet(OTHERS, protocol, files)
    for folder in folders:
        config = _config(folder)
        its_set = alike if config["server_process"] == process else others
        if config["scheduler"]["async_scheduling"]:
            its_set.left_out.append(LATE_TOKENS.format(folder.name))
        else:
            its_set.runs.append(_run(folder, config, found, folder == fitted_on))
    return [alike, others]


def _config(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return found


def _run(folder: Path, config: Mapping[str, Any], calibration: Calibration, is_fitted: bool) -> Run:
    measured = read(folder)
    row = Row(f"{folder.name}: {config['what']}", measured_figures(measured), is_fitted)
    return Run({**_fields(config), "calibration": calibration.model_dump()}, [measured.workload], [row])


def _fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """The deployment of a run, without times."""
    scheduler = config["scheduler"]
    same = ("max_num_seqs", "max_num_batched_tokens", "block_size", "enable_prefix_caching", "enable_chunked_prefill")
    return {
        "model": ANY_MODEL,
        "device": ANY_DEVICE,
        "engine": f"vllm-{config['engine_version']}",
        "max_model_len": scheduler["max_model_len"],
        "scheduler": {
            **{name: scheduler[name] for name in same},
            "async_scheduling": False,
            "num_blocks": scheduler["num_gpu_blocks"] - 1,  # block 0 holds nothing
        },
        "predictor": {"source": "affine"},
    }
