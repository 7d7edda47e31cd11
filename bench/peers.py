"""The same requests through a simulator that you have installed, and through fastsim: both times, both results.

    python bench/peers.py REQUESTS.csv --peer 'COMMAND {requests} {out}' --latencies 'GLOB' --columns e2e=NAME,ttft=NAME

COMMAND is the peer's own, run in --folder; {requests} is a CSV with Vidur's columns (arrived_at, num_prefill_tokens,
num_decode_tokens), {out} a folder for what it writes. The first file below {out} that matches GLOB has a row per
request, with latencies in seconds in the columns named. --set and --deployment tell fastsim what the peer was told.
"""

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from figures import environment
from numpy.typing import NDArray

from fastsim.result.result import Result
from fastsim.workload import Workload
from fastsim.workload.loading import load

HOW = """No peer given. What is known of two:
Vidur (microsoft/vidur, a checkout and its own environment; 4 s of start-up): --folder CHECKOUT --peer '.venv/bin/python
  -m vidur.main OPTIONS' with the options of your version (`-m vidur.main --help`) for a recorded trace {requests} and
  an output folder {out}; it writes request_metrics.csv: --latencies '**/request_metrics.csv'
  --columns e2e=request_e2e_time,ttft=prefill_e2e_time
AISimulate (`pip install aisimulate` in its own environment): as its own help has it. Its package fetches a wheel of
  NVIDIA's when it is installed, and could not be where fastsim is built: nothing about it is claimed here."""

EQUAL = "Equal: the requests, their arrival times and lengths; whole processes are timed, start-up and output included."
NOT_EQUAL = (
    "Not equal, unless you made it so: operator times and how they are added up, the number of KV blocks, the "
    "scheduler's limits. The ratio of times compares programs, the ratio of latencies compares models."
)


def write_requests(workload: Workload, path: Path) -> None:
    """The CSV that peers read."""
    columns = {
        "arrived_at": workload.arrived_at,
        "num_prefill_tokens": workload.num_prompt_tokens,
        "num_decode_tokens": workload.num_output_tokens,
    }
    pyarrow.csv.write_csv(pa.table(columns), path)


def run(command: Sequence[str], folder: Path | None = None, surroundings: dict[str, str] | None = None) -> float:
    """Seconds of a whole process; its error ends ours."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=surroundings)
    if done.returncode:
        sys.exit(f"{shlex.join(command)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def latencies(out: Path, pattern: str, columns: str) -> dict[str, NDArray[np.float64]]:
    """The peer's latencies, s, by our name."""
    found = sorted(out.glob(pattern))
    if not found:
        sys.exit(f"--latencies: no file below {out} matches {pattern!r}")
    table = pyarrow.csv.read_csv(found[0])
    pairs = [pair.partition("=") for pair in columns.split(",")]
    missing = [theirs for _, _, theirs in pairs if theirs not in table.column_names]
    if missing:
        sys.exit(f"--columns: {found[0].name} has no {missing[0]!r}; it has {', '.join(table.column_names)}")
    return {ours: np.asarray(table[theirs].to_numpy(), np.float64) for ours, _, theirs in pairs}


def compare(given: Any) -> list[str]:
    """Run both, and say in lines what came out."""
    workload = load(given.requests)
    with tempfile.TemporaryDirectory() as place:
        requests, theirs, ours = Path(place, "requests.csv"), Path(place, "peer"), Path(place, "fastsim")
        theirs.mkdir()
        write_requests(workload, requests)
        filled = [part.format(requests=requests, out=theirs) for part in shlex.split(given.peer)]
        settings = [word for setting in given.settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "fastsim", "simulate", given.deployment, str(requests), *settings]
        command += ["--out", str(ours)]
        run(command, None, environment())  # compiles, once and for all
        peer_s, own_s = [], []
        for _ in range(given.runs):
            peer_s.append(run(filled, given.folder))
            own_s.append(run(command, None, environment()))
        peer_time, own_time = float(np.median(peer_s)), float(np.median(own_s))
        kernel = Result.load(ours).summary["timing"]["kernel_s"]
        lines = [
            f"{workload.num_requests:,} requests of {workload.name}; medians of {given.runs} runs in turn",
            f"peer {peer_time:.2f} s, fastsim {own_time:.2f} s (kernel {kernel * 1e3:.1f} ms): "
            f"{peer_time / own_time:,.1f} times",
        ]
        if given.latencies:
            result = Result.load(ours)
            for name, values in latencies(theirs, given.latencies, given.columns).items():
                for label, share in (("P50", 0.5), ("P99", 0.99)):
                    peer, own = (float(np.nanquantile(one, share)) for one in (values, result.column(name)))
                    lines.append(f"{name} {label}: peer {peer:.4g} s, fastsim {own:.4g} s, ratio {peer / own:.3f}")
        return [*lines, EQUAL, NOT_EQUAL]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", nargs="?", help="requests, in any format that fastsim reads")
    parser.add_argument("--peer", help="command of the peer, with {requests} and {out}")
    parser.add_argument("--folder", type=Path, help="where it runs")
    parser.add_argument("--latencies", help="file with its latencies, below {out}; may hold ** and *")
    parser.add_argument("--columns", default="e2e=e2e,ttft=ttft", help="OURS=THEIRS of latencies, by comma")
    default = str(Path(__file__).resolve().parents[1] / "data" / "default.yaml")
    parser.add_argument("--deployment", default=default)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(arguments)
    print("\n".join(compare(given)) if given.peer and given.requests else HOW)


if __name__ == "__main__":
    main()
