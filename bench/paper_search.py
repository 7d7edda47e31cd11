"""The search of the Vidur paper (arXiv 2405.05465, figures 1a and 6): the best deployments of four models.

    python bench/paper_search.py [--models llama-7b,...] [--workloads chat,...] [--source vidur:DIR]

Clusters of 16 GPUs (A100s joined in pairs, or H100s all to all), TP 1 2 4 8, PP 1 2 4, 32 to 512 requests at once;
vLLM, Orca and Sarathi with chunks of 256 to 4096; 16,000 requests a run; P99 scheduling delay < 5 s, TTFT P90 < 2 s,
TBT P99 < 200 ms.
Prints for each the winner and the published one (CSV given with --published), and what ours says of that.
"""

import argparse
import csv
import time
from pathlib import Path
from typing import Any

from fastsim.planning.capacity import capacity
from fastsim.planning.search import SearchResult, search
from fastsim.planning.sensitivity import name_of

MODELS = {
    "llama-7b": ("meta-llama/Llama-2-7b-hf", "Llama2-7B"),
    "internlm-20b": ("internlm/internlm-20b", "InternLM-20B"),
    "llama-70b": ("meta-llama/Llama-2-70b-hf", "Llama2-70B"),
    "qwen-72b": ("Qwen/Qwen-72B", "Qwen-72B"),
}
WORKLOADS = {"chat": "Chat-1M", "summarisation": "Arxiv-4K", "translation": "BWB-4K"}
POLICIES = {"vLLM": "vllm", "Sarathi-Serve": "sarathi", "Orca+": "orca"}


def space(model: str, workload: str, requests: int, more: dict[str, Any]) -> dict[str, Any]:
    """What the paper searched."""
    return {
        "deployment": {"model": model, "device": "a100", "max_model_len": 4096, **more},
        "workload": {"source": workload, "num_requests": requests},
        "axes": {
            "tensor_parallel_size": [1, 2, 4, 8],
            "pipeline_parallel_size": [1, 2, 4],
            "scheduler.max_num_seqs": {"from": 32, "to": 512, "factor": 2},
        },
        "zip": [
            {"device": ["a100", "h100"], "node": ["a100_pairwise_nvlink", "h100_dgx"]},
            {
                "scheduler.policy": ["vllm", "orca", *["sarathi"] * 5],
                "scheduler.chunk_size": [512, 512, 256, 512, 1024, 2048, 4096],
            },
        ],
        "where": ["tensor_parallel_size * pipeline_parallel_size <= 16"],
    }


def published(path: Path | None) -> dict[tuple[str, str], dict[str, str]]:
    """The paper's winners by model and trace."""
    if path is None:
        return {}
    with path.open(encoding="utf-8") as file:
        return {(row["model"], row["trace"]): row for row in csv.DictReader(file)}


def ours_of_theirs(found: SearchResult, theirs: dict[str, str]) -> float | None:
    """Requests/s per $/h that we find for the published winner, with the best chunk (not published)."""
    size = int(theirs["tp"]), int(theirs["pp"]), int(theirs["batch_size"])
    wanted = theirs["gpu"].lower(), POLICIES[theirs["scheduler"]], *size
    same = []
    for one in found.candidates:
        deployment = one.resolved.deployment
        scheduler, stages = deployment.scheduler, deployment.pipeline_parallel_size
        if (
            deployment.device,
            scheduler.policy,
            deployment.tensor_parallel_size,
            stages,
            scheduler.max_num_seqs,
        ) == wanted:
            same.append(capacity(deployment, one.unit).rate / one.dollars_per_hour)
    return max(same, default=None)


def main() -> None:
    """Search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--requests", type=int, default=16_000)
    parser.add_argument("--published", type=Path, help="CSV: model, trace, gpu, tp, pp, scheduler, batch_size, ...")
    parser.add_argument("--source", default="default", help="predictor.source, e.g. vidur:DIR")
    parser.add_argument("--planner", default="fastsim", help="memory.planner")
    given = parser.parse_args()
    more: dict[str, Any] = {"predictor": {"source": given.source}, "memory": {"planner": given.planner}}
    known, runs, requests = published(given.published), 0, 0
    began, busy = time.perf_counter(), time.process_time()
    for name in given.models.split(","):
        model, their_name = MODELS[name]
        for workload in given.workloads.split(","):
            before = time.process_time()
            found = search(space(model, workload, given.requests, more), 16)
            runs, requests = runs + found.num_runs, requests + found.num_simulated
            best, limit = found.rows[0], found.limits[0] if found.limits else ""
            print(
                f"\n{name}, {workload}: {len(found.rows)} configurations, {found.num_runs:,} simulations, "
                f"{found.num_simulated:,} requests, {found.seconds:.1f} s ({time.process_time() - before:.1f} core-s)"
            )
            print(f"  ours       {best['qps_per_dollar']:.3f}  {name_of(best)}; {limit}")
            for row in found.rows[1:3]:
                print(f"  behind it  {row['qps_per_dollar']:.3f}  {name_of(row)}")
            theirs = known.get((their_name, WORKLOADS[workload]))
            if theirs is not None:
                size = f"TP {theirs['tp']} PP {theirs['pp']}"
                print(
                    f"  published  {theirs['qps_per_dollar']}  {theirs['gpu'].lower()} {size} {theirs['scheduler']}, "
                    f"{theirs['batch_size']} seqs; ours of it: {ours_of_theirs(found, theirs) or 0:.3f}",
                    flush=True,
                )
    spent, busy = time.perf_counter() - began, time.process_time() - busy
    print(f"\nin all: {runs:,} simulations, {requests:,} requests, {spent:.1f} s ({busy:.1f} core-s)")


if __name__ == "__main__":
    main()
