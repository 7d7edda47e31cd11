"""The same requests through simulators that you have installed, and through fastsim: times and results, side by side.

    python bench/peers.py REQUESTS.csv --vidur CHECKOUT:PYTHON --aisimulate COMMAND [--number 1000] [--runs 3]
    python bench/peers.py REQUESTS.csv --peer 'COMMAND {requests} {out}' --latencies 'GLOB' --columns e2e=NAME,ttft=NAME

Each figure is the median of runs that take turns, of wall and of CPU time; each row says what either side does.
For any other simulator, COMMAND is the peer's own, run in --folder; {requests} is a CSV with Vidur's columns
(arrived_at, num_prefill_tokens, num_decode_tokens), {out} a folder for what it writes. The first file below {out} that
matches GLOB has a row per request, with latencies in seconds in the columns named. --set and --deployment tell fastsim
what the peer was told.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray
from peer_runs import AISimulate, Own, Row, Spent, Vidur, process

from fastsim.workload import Workload
from fastsim.workload.loading import load
from fastsim.workload.too_long import within

HOW = """No peer given. What is known of three:
Vidur (microsoft/vidur, a checkout and its own environment): --vidur CHECKOUT:PYTHON. It is run for Llama-2-70B at TP 2
  on A100, whose profiles must be in the checkout (many have Git LFS pointers in their place), with smaller forests than
  its default, which takes most of an hour to train.
AISimulate (`pip install aisimulate==0.13.0.dev202610270000000085` in its own environment; 0.13.0 itself is a stub):
  --aisimulate COMMAND. It is run for Llama-3.1-8B on one H100, with vLLM.
BLIS (inference-sim, in Go): by --peer with `blis replay`; it was not measured, as its modules could not be fetched."""

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
        requests, theirs = Path(place, "requests.csv"), Path(place, "peer")
        theirs.mkdir()
        write_requests(workload, requests)
        filled = [part.format(requests=requests, out=theirs) for part in shlex.split(given.peer)]
        own = Own(requests, Path(place, "fastsim"), given.deployment, given.settings, workload)
        own.process()  # compiles, once and for all
        row = Row("process", "process", lambda: process(filled, given.folder), own.process)
        lines = [
            f"{workload.num_requests:,} requests of {workload.name}; medians of {given.runs} runs in turn",
            *timed([row], given.runs),
        ]
        if given.latencies:
            lines += beside(latencies(theirs, given.latencies, given.columns), own.latencies())
        return [*lines, EQUAL, NOT_EQUAL]


def known(given: Any, kind: str) -> list[str]:
    """Compare with a peer whose command is known."""
    whole = load(given.requests)
    with tempfile.TemporaryDirectory() as place:
        requests, theirs = Path(place, "requests.csv"), Path(place, "peer")
        workload = within(whole.head(min(given.number, whole.num_requests)), 4096, "drop")
        write_requests(workload, requests)
        peer: Vidur | AISimulate
        more: tuple[str, ...] = ()
        if kind == "vidur":
            folder, _, python = given.vidur.partition(":")
            checkout = Path(folder).absolute()
            peer, more = Vidur(checkout, python, requests, theirs), (f"predictor.source=vidur:{checkout}",)
        else:
            peer = AISimulate(given.aisimulate, workload, theirs)
            peer.prepare()
        settings = [*peer.settings, *more, *given.settings]
        own = Own(requests, Path(place, "fastsim"), None, settings, workload)
        for run in (peer.process, own.process, own.call):  # train, compile and read, once and for all
            run()
        lines = [f"{kind}: {workload.num_requests:,} requests of {whole.name}; medians of {given.runs} runs in turn"]
        return [*lines, *timed(peer.rows(own), given.runs), *beside(peer.latencies(), own.latencies())]


def timed(rows: Sequence[Row], runs: int) -> list[str]:
    """The rows of times: peer and fastsim take turns."""
    taken: list[list[tuple[Spent, Spent]]] = [[] for _ in rows]
    for _ in range(runs):
        for row, found in zip(rows, taken, strict=True):
            found.append((row.run_peer(), row.run_own()))
    lines = []
    for row, found in zip(rows, taken, strict=True):
        peer, own = (_median([pair[side] for pair in found]) for side in (0, 1))
        times = f"{peer.wall / own.wall:,.1f} times by wall time"
        if peer.cpu is not None and own.cpu:
            times += f", {peer.cpu / own.cpu:,.1f} by CPU time"
        lines.append(f"peer {row.peer}: {_shown(peer)}; fastsim {row.own}: {_shown(own)}; {times}")
    return lines


def _median(spent: Sequence[Spent]) -> Spent:
    cpus = [one.cpu for one in spent if one.cpu is not None]
    return Spent(float(np.median([one.wall for one in spent])), float(np.median(cpus)) if cpus else None)


def _shown(spent: Spent) -> str:
    return f"{spent.wall:.4g} s wall, " + ("CPU not known" if spent.cpu is None else f"{spent.cpu:.4g} s CPU")


def beside(theirs: dict[str, NDArray[np.float64]], ours: dict[str, NDArray[np.float64]]) -> list[str]:
    """The rows of latencies."""
    lines = []
    for name, values in theirs.items():
        for label, share in (("P50", 0.5), ("P99", 0.99)):
            peer, own = (float(np.nanquantile(one, share)) for one in (values, ours[name]))
            lines.append(f"{name} {label}: peer {peer:.4g} s, fastsim {own:.4g} s, ratio {peer / own:.3f}")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", nargs="?", help="requests, in any format that fastsim reads")
    parser.add_argument("--vidur", metavar="CHECKOUT:PYTHON")
    parser.add_argument("--aisimulate", metavar="COMMAND")
    parser.add_argument("--number", type=int, default=1000, help="of the requests, for --vidur and --aisimulate")
    parser.add_argument("--peer", help="command of the peer, with {requests} and {out}")
    parser.add_argument("--folder", type=Path, help="where it runs")
    parser.add_argument("--latencies", help="file with its latencies, below {out}; may hold ** and *")
    parser.add_argument("--columns", default="e2e=e2e,ttft=ttft", help="OURS=THEIRS of latencies, by comma")
    default = str(Path(__file__).resolve().parents[1] / "data" / "default.yaml")
    parser.add_argument("--deployment", default=default)
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="PATH=VALUE")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args(arguments)
    kinds = [kind for kind in ("vidur", "aisimulate") if getattr(given, kind)]
    if not given.requests or not (given.peer or kinds):
        print(HOW)
    for kind in kinds if given.requests else []:
        print("\n".join(known(given, kind)), flush=True)
    if given.requests and given.peer:
        print("\n".join(compare(given)))


if __name__ == "__main__":
    main()
