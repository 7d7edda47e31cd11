"""The cost of an engine's scheduler: `python bench/engine_speed.py [--azure FILE] [--mooncake FILE] [--runs 7]`.

First the kernel time of vLLM V1 and SGLang against that of sarathi for the Azure conversation trace on one replica,
with the same budget of tokens, taken in turn. Then Mooncake's trace with its hashes, and many configurations of vLLM,
each with prefix caching and without.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import traffic
from suites.engines import configurations, kernel_seconds, requests, sarathi, sglang, sweep_seconds, vllm

from fastsim.deployment.description import Deployment
from fastsim.workload.loading import load

MOONCAKE = traffic.TRACE.with_name("mooncake_conversation_trace.parquet")
CACHING = {False: "without prefix caching", True: "with prefix caching"}
RADIX = {False: "without radix cache", True: "with radix cache"}


def long_prompts(engine: str, caching: bool) -> Deployment:
    """An engine as it starts for a model that takes Mooncake's prompts."""
    of_sglang = engine.startswith("sglang")
    scheduler = {"disable_radix_cache": not caching} if of_sglang else {"enable_prefix_caching": caching}
    return Deployment.load({"model": "llama-3.1-8b", "device": "h100", "engine": engine, "scheduler": scheduler})


def compare(title: str, rows: Mapping[str, Callable[[], float]], runs: int) -> None:
    """Print the least of each row, taken in turn, as other work only adds to it, and its ratio to the first row's."""
    for measure in rows.values():
        measure()
    taken = [[measure() for measure in rows.values()] for _ in range(runs)]
    least = [min(column) for column in zip(*taken, strict=True)]
    print(title)
    for name, seconds in zip(rows, least, strict=True):
        print(f"    {name:52} {seconds * 1e3:10,.1f} ms {seconds / least[0]:6.2f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the three tables."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--azure", type=Path, default=traffic.TRACE)
    options.add_argument("--mooncake", type=Path, default=MOONCAKE)
    options.add_argument("--runs", type=int, default=7)
    options.add_argument("--requests", type=int, default=traffic.NUM_REQUESTS)
    options.add_argument("--configurations", type=int, default=1000)
    given = options.parse_args(arguments)
    stream, name = traffic.azure(given.azure, given.requests)
    rows = {"sarathi": partial(kernel_seconds, sarathi(), stream)}
    for caching in (False, True):
        for asynchronous in (False, True):
            words = f"{CACHING[caching]}, {'a' if asynchronous else ''}synchronous"
            rows[f"vllm-0.19 {words}"] = partial(kernel_seconds, vllm(caching, asynchronous), stream)
    for caching in (False, True):
        rows[f"sglang-0.5.23 {RADIX[caching]}"] = partial(kernel_seconds, sglang(caching), stream)
    compare(f"kernel, {name}", rows, given.runs)
    if given.mooncake.exists():
        hashed = load(given.mooncake)
        hashed = hashed.head(min(given.requests, hashed.num_requests))
        rows = {
            f"{engine} {words[on]}": partial(kernel_seconds, long_prompts(engine, on), hashed)
            for engine, words in (("vllm-0.19", CACHING), ("sglang-0.5.23", RADIX))
            for on in (False, True)
        }
        title = f"kernel, Mooncake's conversation trace ({hashed.num_requests:,} requests)"
        compare(title, rows, max(1, given.runs // 3))
    size = min(5000, given.requests)
    for kind in ("chat", "shared prompts"):
        workload, many = requests(kind, size), {on: configurations(on, given.configurations) for on in (False, True)}
        rows = {CACHING[on]: partial(sweep_seconds, many[on], workload) for on in (False, True)}
        compare(f"CPU, {given.configurations:,} configurations x {size:,} requests, {kind}", rows, 1)


if __name__ == "__main__":
    main()
