"""What schedulers alone change: vLLM and SGLang on the same requests, with the same operator times.

    python bench/schedulers.py [--traces FOLDER] [--load 0.5 0.85] [--requests 20000] [--out FOLDER]

Engines run with their own defaults. SGLang also runs with enable_mixed_chunk ("mixed"): decodes join prefills, as in
vLLM. A load of 1 is the rate at which vLLM without prefix caching completes the requests when all arrive at once. First
all have the same KV cache, ``--tokens`` or the smallest that an engine plans, then each its own. SGLang's retractions
count as preemptions. With ``--out``, results are kept, with a page for each trace and load about those of the same KV
cache.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import traffic

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.report.report import report
from fastsim.result.result import Result
from fastsim.simulation.run import simulate
from fastsim.workload import Workload
from fastsim.workload.loading import load

ENGINES = ("vllm-0.33", "sglang-0.5.10", "sglang-0.5.23")
SERVED = {"model": "llama-3.1-8b", "device": "h100"}
TRACES = {
    "azure-conversation": "azure_conv_2023.csv",
    "azure-code": "azure_code_2023.csv",
    "mooncake-conversation": "mooncake_conversation_trace.parquet",
}
HEAD = f"{'':38} {'TTFT, s':^23}  {'TPOT, ms':^14}  {'E2E, s':>7}  {'out':>6}  {'preemp-':>7}  {'cached':>12}"
UNDER = f"{'':38} {'mean':>7} {'P50':>7} {'P99':>7}  {'mean':>6} {'P99':>7}  {'mean':>7}  {'tok/s':>6}  {'tions':>7}  "


def deployment(engine: str, caching: bool, tokens: int | None = None, **more: bool) -> Deployment:
    """The model on one GPU; ``tokens``: of the KV cache, None for as many as the engine plans. ``more``: settings."""
    if engine.startswith("sglang"):
        scheduler: dict[str, Any] = {"disable_radix_cache": not caching, "max_total_num_tokens": tokens}
    else:
        scheduler = {"enable_prefix_caching": caching, "num_blocks": tokens and tokens // 16}
    return Deployment.load({**SERVED, "engine": engine, "scheduler": {**scheduler, **more}})


def tokens_of(engine: str) -> int:
    """Tokens of the KV cache that the engine plans."""
    resolved = resolve(deployment(engine, True))
    return resolved.memory.num_blocks * resolved.scheduler.block_size


def rows(tokens: int) -> Mapping[str, Deployment]:
    """What is compared, by name."""
    equal = {
        f"{engine}, {'' if caching else 'no '}caching": deployment(engine, caching, tokens)
        for caching in (False, True)
        for engine in ENGINES
    }
    mixed = {f"{ENGINES[-1]}, no caching, mixed": deployment(ENGINES[-1], False, tokens, enable_mixed_chunk=True)}
    own = {f"{engine}, caching, {tokens_of(engine):,} tokens": deployment(engine, True) for engine in ENGINES}
    return equal | mixed | own


def saturated_rate(workload: Workload, tokens: int) -> float:
    """Requests/s that vLLM completes without prefix caching when all of them arrive at once."""
    at_once = replace(workload, arrived_at=np.zeros(workload.num_requests))
    summary = simulate(deployment(ENGINES[0], False, tokens), at_once, detail=False).summary
    return float(summary["throughput"]["requests_per_s"])


def line(name: str, result: Result) -> str:
    """A row of the table."""
    latency, totals = result.summary["latency"], result.summary["totals"]
    ttft, tpot = latency["ttft"], latency["tpot"]
    cached = result.summary.get("cache", {}).get("hit_tokens", 0)
    share = cached / totals["prompt_tokens"]
    return (
        f"{name:38} {ttft['mean']:7.3f} {ttft['p50']:7.3f} {ttft['p99']:7.3f}  {tpot['mean'] * 1e3:6.2f} "
        f"{tpot['p99'] * 1e3:7.2f}  {latency['e2e']['mean']:7.2f}  "
        f"{result.summary['throughput']['output_tokens_per_s']:6.0f}  {totals['restarts']:7,}  "
        f"{cached / 1e6:6.1f} M {share:4.0%}"
    )


def compare(name: str, workload: Workload, tokens: int, out: Path | None) -> None:
    """Print a table of all schedulers on the same requests, and write their results and a page about them."""
    print(f"\n{name}: {workload.num_requests:,} requests, {workload.rate:.2f} a second; {tokens:,} tokens of KV cache")
    print(f"{HEAD}\n{UNDER}")
    folders = []
    for row, served in rows(tokens).items():
        result = simulate(served, workload)
        print(line(row, result), flush=True)
        if out is not None and "tokens" not in row:
            folders.append(out / name / row)
            result.save(folders[-1])
    if out is not None:
        report(folders, out / f"{name}.html")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a table for each trace and load."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--traces", type=Path, default=traffic.TRACE.parent, help="folder of the traces")
    options.add_argument("--only", choices=TRACES, nargs="+", default=list(TRACES))
    options.add_argument("--load", type=float, nargs="+", default=[0.5, 0.85])
    options.add_argument("--requests", type=int, default=20_000)
    options.add_argument("--tokens", type=int, help="of the equal KV cache, instead of the smallest that is planned")
    options.add_argument("--out", type=Path, help="folder for results and pages")
    given = options.parse_args(arguments)
    tokens = (given.tokens or min(map(tokens_of, ENGINES))) // 16 * 16
    for name in given.only:
        workload = load(given.traces / TRACES[name])
        workload = workload.head(min(given.requests, workload.num_requests))
        rate = saturated_rate(workload, tokens)
        for share in given.load:
            compare(f"{name} at load {share:g}", workload.at_rate(share * rate), tokens, given.out)


if __name__ == "__main__":
    main()
