"""The leaderboard: replays runs of real engines, prints how far fastsim is from each, and keeps a dated result."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from fastsim.errors import FastsimError

from . import ablation, cpu_runs, loop_runs, recorded_runs, result_file, serving_runs, throughput_runs
from .replay import Interval, intervals, replayed
from .result_file import Scored
from .runs import METRICS, RunSet
from .table import Table, line

DATA = Path(__file__).resolve().parents[2] / "data" / "fidelity"
# Each folder of the ground truth, and how it is read.
READERS: dict[str, Callable[[Path, int], list[RunSet]]] = {
    serving_runs.FOLDER: serving_runs.serving_runs,
    recorded_runs.FOLDER: recorded_runs.recorded_runs,
    loop_runs.FOLDER: loop_runs.loop_runs,
    cpu_runs.FOLDER: cpu_runs.cpu_runs,
}
DESCRIPTION = """How far fastsim is from measured runs: `python bench/fidelity GROUNDTRUTH`.

Every run is replayed with the engine, release, settings, prompts and arrivals that were used, as far as they are known;
the result says what was assumed. The files are those of a folder with vllm_0_15_serving (figures published by the
authors of BLIS), vllm_0_19_runs (LLMServingSim, MIT), closed_loop_h100_h200 (the silicon samples of aiconfigurator,
Apache License 2.0, mostly InferenceX) and vllm_cpu (recordings of our own); those that are missing are left out. They
are no part of this project.
"""


def run_sets(groundtruth: Path, draws: int, only: str) -> list[RunSet]:
    """The sets of all folders that are there, and whose titles contain ``only``."""
    found = [one for name, read in READERS.items() if (groundtruth / name).is_dir() for one in read(groundtruth, draws)]
    return [one for one in found if only.lower() in one.title.lower()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay, print and write. Returns the exit status."""
    options = argparse.ArgumentParser(
        prog="bench/fidelity", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("groundtruth", type=Path, nargs="?", default=Path("groundtruth"))
    options.add_argument("--only", default="", metavar="TEXT", help="only sets whose titles contain it")
    options.add_argument("--draws", type=int, default=3, help="of arrivals and lengths that were drawn (default 3)")
    options.add_argument("--rows", action="store_true", help="print each row's error as well")
    options.add_argument(
        "--throughput", action="store_true", help="add NVIDIA's figures of offline throughput, which need no files"
    )
    terms = ", ".join(ablation.TERMS)
    options.add_argument("--without", choices=ablation.TERMS, metavar="TERM", help=f"leave a term out: {terms}")
    options.add_argument(
        "--intervals",
        type=int,
        default=0,
        metavar="DRAWS",
        help="print which share of figures lies in 90 %% intervals",
    )
    options.add_argument("--out", type=Path, help="the result (default data/fidelity/DATE.json, where all was run)")
    given = options.parse_args(arguments)
    if not any((given.groundtruth / name).is_dir() for name in READERS):
        names = ", ".join(READERS)
        return _refused(
            f"GROUNDTRUTH: {given.groundtruth} has none of the folders {names}; give a folder that has them"
        )
    if given.draws < 1:
        return _refused(f"--draws: {given.draws} is not a positive number of draws (e.g. 3)")
    if given.intervals:
        _print_intervals(run_sets(given.groundtruth, given.draws, given.only), given.intervals)
        return 0
    try:
        sets = run_sets(given.groundtruth, given.draws, given.only)
        if given.throughput:
            sets += [one for one in throughput_runs.throughput_runs() if given.only.lower() in one.title.lower()]
        with ablation.without(given.without):
            scored = _scored(sets, given.rows)
    except (FastsimError, OSError, KeyError, ValueError) as error:
        return _refused(f"{given.groundtruth}: cannot be read: {type(error).__name__}: {error}")
    path = given.out or (None if given.only or given.without else DATA / f"{date.today().isoformat()}.json")
    if path is not None:
        result_file.write(path, given.groundtruth, scored, given.draws)
        print(f"Written to {path}")
    return 0


def _scored(sets: Sequence[RunSet], each_row: bool) -> list[Scored]:
    """Replay the sets one after the other, and print each as soon as it is scored."""
    began, table, scored = time.perf_counter(), Table(), []
    print(*table.head(), sep="\n")
    for one in sets:
        rows, refused = replayed(one.runs)
        scored.append(Scored(one, rows, [*one.left_out, *refused]))
        print(*table.lines(one.title, rows, scored[-1].left_out), sep="\n", flush=True)
        for row in rows if each_row else ():
            print(line(f"        {row.row.name}", [row]))
    print(*table.notes(), sep="\n")
    print(f"{sum(len(one.rows) for one in scored)} rows in {time.perf_counter() - began:.0f} s")
    return scored


def _print_intervals(sets: Sequence[RunSet], draws: int) -> None:
    """For each set and figure: the share of rows whose measured figure lies in its interval, and its width."""
    print(
        f"Measured figures inside the 90 % interval of {draws} draws, %, and the mean half-width of these intervals, %"
    )
    print(f"{'':60}" + "".join(f"{name:>14}" for name in METRICS))
    every: list[Interval] = []
    for one in sets:
        found = intervals(one.runs, draws)
        every += found
        print(f"{one.title:60}" + _inside(found), flush=True)
    print(f"{'all':60}" + _inside(every))


def _inside(found: Sequence[Interval]) -> str:
    cells = []
    for name in METRICS:
        own = [one for one in found if one.metric == name]
        share = sum(one.holds for one in own) / len(own) if own else 0.0
        wide = sum(one.high / one.low - 1 for one in own) / 2 / len(own) if own else 0.0
        cells.append(f"{100 * share:.0f} ({100 * wide:.0f})" if own else "-")
    return "".join(f"{cell:>14}" for cell in cells)


def _refused(sentence: str) -> int:
    print(f"Error: {sentence}", file=sys.stderr)
    return 2
