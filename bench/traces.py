"""Files of requests: time and memory of reading and writing, what a prefix cache hits, and how close drawn ones are.

    python bench/traces.py                   # files of 10 million requests, which are drawn, and a million
    python bench/traces.py trace.parquet ... # the hit curve of each trace, and a workload that is drawn like it

Traces of Mooncake (https://github.com/kvcache-ai/Mooncake, FAST25-release/traces) can be held against the figures of
its authors, Qin et al., FAST'25: an unbounded cache hits 40 % of the tokens of conversations, 59 % of tools and agents
and 66 % of the synthetic trace (table 2); one of 3 million tokens hits 41, 75 and 46 % as much (figure 9).
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from fastsim.workload import Workload
from fastsim.workload.closeness import closeness
from fastsim.workload.like import synthesise_like
from fastsim.workload.loading import load
from fastsim.workload.write import save

SIZES = (1e6, 3e6, float("inf"))  # tokens of a cache
# Runs a command of fastsim in a process of its own, and prints its peak of memory, MiB.
PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
)


def drawn(number: int) -> Workload:
    """Requests like those of a service: 50 per second, lognormal lengths."""
    rng = np.random.default_rng(0)
    prompts, outputs = (np.exp(rng.normal(mean, 1, number)).astype(np.int64) + 1 for mean in (7, 5))
    return Workload(np.cumsum(rng.exponential(0.02, number)), prompts, outputs)


def azure(workload: Workload, path: Path) -> None:
    """Write requests as the Azure LLM inference trace of 2024 has them, with dates."""
    micros = np.datetime64("2024-05-10T00:00:00", "us") + (workload.arrived_at * 1e6).astype("timedelta64[us]")
    columns = workload.num_prompt_tokens.tolist(), workload.num_output_tokens.tolist()
    with path.open("w") as file:
        file.write("TIMESTAMP,ContextTokens,GeneratedTokens\n")
        for time, prompt, output in zip(micros, *columns, strict=True):
            file.write(f"{str(time).replace('T', ' ')}+00:00,{prompt},{output}\n")


def parsed(path: Path) -> pa.Table:
    """Parse a file with pyarrow alone, which reading it takes at least."""
    return csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)


def reading(number: int, runs: int = 7) -> Iterator[tuple[str, float, float]]:
    """The CPU time to read ``number`` requests of each kind of file, and to parse it, s; medians of some runs."""
    with tempfile.TemporaryDirectory() as folder:
        workload, paths = drawn(number), [Path(folder, name) for name in ("own.csv", "own.parquet", "azure.csv")]
        for path in paths:
            azure(workload, path) if path.stem == "azure" else save(workload, path)
            both: tuple[Callable[[Path], object], ...] = load, parsed
            seconds = [[_seconds(call, path) for call in both] for _ in range(runs)]
            yield path.name, median(read for read, _ in seconds), median(alone for _, alone in seconds)


def _seconds(call: Callable[[Path], object], path: Path) -> float:
    """The CPU time of a call, s."""
    before = process_time()
    call(path)
    return process_time() - before


def peaks(number: int) -> Iterator[tuple[str, float]]:
    """The peak of memory, MiB, of commands that read and write ``number`` requests."""
    with tempfile.TemporaryDirectory() as folder:
        text, binary = (str(Path(folder, f"requests.{suffix}")) for suffix in ("csv", "parquet"))
        save(drawn(number), binary)
        for command in (["convert", binary, text], ["convert", text, binary], ["describe", text], ["describe", binary]):
            called = [sys.executable, "-c", PEAK, sys.executable, "-m", "fastsim", "trace", *command]
            said = subprocess.run(called, check=True, capture_output=True, text=True)
            yield " ".join(Path(one).name for one in command), float(said.stdout)


def main(paths: list[str]) -> None:
    for path in paths:
        trace = load(path)
        before = process_time()
        curve = trace.hit_curve
        if curve is not None:
            hits = ", ".join(f"{size:,.0f} tokens {100 * curve.share(size):.1f} %" for size in SIZES)
            print(f"{path}: hits of a cache of {hits}; {process_time() - before:.2f} s CPU")
        before = process_time()
        other = synthesise_like(trace, seed=1)
        print(f"  drawn like it in {process_time() - before:.2f} s CPU: {closeness(trace, other).as_dict()}")
    if not paths:
        for name, seconds, alone in reading(1_000_000):
            print(f"{name}: a million requests are read in {seconds:.3f} s CPU; pyarrow alone takes {alone:.3f} s")
        for command, mib in peaks(10_000_000):
            print(f"{command}: 10 million requests, at most {mib:,.0f} MiB of memory")


if __name__ == "__main__":
    main(sys.argv[1:])
