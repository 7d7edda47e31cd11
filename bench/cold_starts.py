"""Start two simulations together over an empty cache, many times: `python bench/cold_starts.py [--pairs 50]`.

Both compile the same kernels; each must end well, print nothing but the note on compiling, and give the same summary.
A pair takes about a minute of CPU. With NUMBA_OPT=0 in the environment LLVM does less, and a pair takes half of that.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-m", "fastsim", "simulate", "--requests", "50", "--set", "scheduler.policy=orca")


def start(cache: Path, out: Path) -> "subprocess.Popen[str]":
    """Start one simulation that keeps its compiled kernels in ``cache`` and writes ``out``."""
    environment = os.environ | {"FASTSIM_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [*COMMAND, "--out", str(out)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def summary(out: Path) -> dict[str, Any]:
    """The figures of a result, without its timing and digest."""
    figures: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return {name: value for name, value in figures.items() if name not in ("timing", "digest")}


def pair(folder: Path, delay: float) -> list[dict[str, Any]]:
    """Run two simulations, the second ``delay`` s after the first. Raises AssertionError when either fails."""
    outs = [folder / "first", folder / "second"]
    processes = []
    for out in outs:
        processes.append(start(folder / "cache", out))
        time.sleep(delay)
    for process in processes:
        _, said = process.communicate()
        strange = [line for line in said.splitlines() if line.strip() and "ompil" not in line]
        assert process.returncode == 0 and not strange, (process.returncode, said)
    return [summary(out) for out in outs]


def main() -> None:
    """Parse the command line, run the pairs, and print how many gave the same summary."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=50)
    pairs, delays, expected = parser.parse_args().pairs, random.Random(0), None
    for number in range(1, pairs + 1):
        with tempfile.TemporaryDirectory() as folder:
            for figures in pair(Path(folder), delays.uniform(0, 1)):
                expected = expected or figures
                assert figures == expected, "two cold starts gave different figures"
        print(f"{number} of {pairs} pairs: right", flush=True)


if __name__ == "__main__":
    main()
