"""A guard against regressions: benchmarks of bench/suites on two commits, in turns, as ratios.

    python bench/guard.py OLD [NEW] [--only 'kernels.*,tables.*'] [--rounds 5] [--worse 1.1]

OLD and NEW are commits, NEW by default the checkout itself. Both run the suites of this checkout, in one process each
and one after the other, and are compared by CPU time, which other processes disturb less than wall time; what a suite
tracks itself is compared as it tracks it. The exit code is 1 where a ratio is above --worse. Kernels are compiled for
each commit, which takes minutes the first time. Peak memory is left to `asv continuous OLD NEW`, which installs each
commit and runs everything, in hours.
"""

import argparse
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
# By default those whose time users wait for, at sizes that take less than a second.
GUARDED = (
    "kernels.Policies.track_kernel_ms[*-10000]",
    "kernels.Pipelines.time_simulate[*-10000]",
    "kernels.MicroBatches.track_ns[*-64]",
    "kernels.Replicas.time_simulate[*-100]",
    "engines.Kernels.track_kernel_ms[*-20000]",
    "results.Results.time_*[1000]",
    "startup.Startup.*",
    "sweep.Making.*[1000]",
    "sweep.Sweep.time_simulate_many[100-1-100]",
    "tables.Tables.time_*[64-4096]",
)
LEAST_S = 0.1  # of a round: calls that are shorter are repeated


def names() -> Iterator[tuple[str, type, str, tuple[Any, ...]]]:
    """Each benchmark with each of its parameters: its name, class, method and parameters."""
    for path in sorted((BENCH / "suites").glob("*.py")):
        module = import_module(f"suites.{path.stem}")
        for kind_name, kind in inspect.getmembers(module, inspect.isclass):
            if kind.__module__ != module.__name__:
                continue
            params: Any = getattr(kind, "params", ())
            axes = params if params and isinstance(params[0], list | tuple) else [params] if params else []
            for method in vars(kind):
                if method.startswith(("time_", "track_")):
                    for given in product(*axes):
                        label = f"[{'-'.join(map(str, given))}]" if given else ""
                        yield f"{path.stem}.{kind_name}.{method}{label}", kind, method, given


def serve() -> None:
    """Measure what is asked for on standard input, a name per line; an empty line ends it."""
    known = {name: (kind, method, given) for name, kind, method, given in names()}
    ready: tuple[str, Any] | None = None
    for line in sys.stdin:
        name = line.strip()
        if not name:
            break
        kind, method, given = known[name]
        try:
            if ready is None or ready[0] != name:
                if ready is not None and hasattr(ready[1], "teardown"):
                    ready[1].teardown(*known[ready[0]][2])
                suite = kind()
                suite.setup(*given)
                ready = name, suite
                getattr(suite, method)(*given)  # compiles, and fills caches
            answer: dict[str, Any] = {"value": _tracked(ready[1], method, given)}
        except Exception as problem:  # a benchmark of what one of the commits does not have
            answer, ready = {"error": f"{type(problem).__name__}: {problem}"[:200]}, None
        print(json.dumps(answer), flush=True)


def _tracked(suite: Any, method: str, given: Sequence[Any]) -> float:
    """What a benchmark tracks, or the CPU time of a call of it and of the processes that it starts, s."""
    call = getattr(suite, method)
    if method.startswith("track_"):
        return float(call(*given))
    calls, began, before = 0, time.perf_counter(), _worked()
    while not calls or time.perf_counter() - began < LEAST_S:
        call(*given)
        calls += 1
    return (_worked() - before) / calls


def _worked() -> float:
    """CPU time of this process and of those that it started and that have ended, s."""
    return time.process_time() + sum(os.times()[2:4])


class Side:
    """A process that measures one of the two commits."""

    def __init__(self, folder: Path) -> None:
        paths = [str(folder), str(BENCH)]
        surroundings = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve"]
        self._process = subprocess.Popen(
            command, cwd=folder, env=surroundings, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def measure(self, name: str) -> dict[str, Any]:
        """What is measured of a benchmark, or its error."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        sys.exit(f"{name}: the process that measures it ended")

    def end(self) -> None:
        """Ask it to end, and wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def compare(old: Path, new: Path, patterns: Sequence[str], rounds: int) -> Iterator[tuple[str, float, float] | str]:
    """For each benchmark its name and what it takes on both sides, medians; or why there is none."""
    chosen = [name for name, *_ in names() if any(fnmatchcase(name, _literal(each)) for each in patterns)]
    if not chosen:
        sys.exit(f"--only: no benchmark is called {' or '.join(patterns)}; e.g. {next(names())[0]}")
    sides = Side(old), Side(new)
    for name in chosen:
        taken: list[list[float]] = [[], []]
        for _ in range(rounds):
            answers = [side.measure(name) for side in sides]
            if wrong := [answer["error"] for answer in answers if "error" in answer]:
                yield f"{name}: {wrong[0]}"
                break
            for values, answer in zip(taken, answers, strict=True):
                values.append(answer["value"])
        else:
            yield name, statistics.median(taken[0]), statistics.median(taken[1])
    for side in sides:
        side.end()


def _literal(pattern: str) -> str:
    """A pattern in which brackets mean themselves."""
    return pattern.replace("[", "[[]")


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare, print a table, and say whether anything became worse."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", nargs="?", default="HEAD")
    parser.add_argument("new", nargs="?", help="by default the checkout as it is")
    parser.add_argument("--only", help="names, by comma; * stands for anything")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worse", type=float, default=1.1, help="the highest ratio that is no regression")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        serve()
        return 0
    patterns = given.only.split(",") if given.only else GUARDED
    worse = 0
    with tempfile.TemporaryDirectory() as place:
        old = _checkout(given.old, Path(place, "old"))
        new = _checkout(given.new, Path(place, "new")) if given.new else BENCH.parent
        print(f"{'benchmark':66} {'old':>11} {'new':>11} {'ratio':>7}")
        for row in compare(old, new, patterns, given.rounds):
            if isinstance(row, str):
                print(row, flush=True)
                continue
            name, before, after = row
            ratio = after / before if before else 1.0
            worse += ratio > given.worse
            print(f"{name:66} {before:11.4g} {after:11.4g} {ratio:7.3f}{' !' * (ratio > given.worse)}", flush=True)
    return int(worse > 0)


def _checkout(commit: str, folder: Path) -> Path:
    """The files of a commit, in a folder."""
    folder.mkdir()
    with subprocess.Popen(["git", "-C", str(BENCH.parent), "archive", commit], stdout=subprocess.PIPE) as files:
        subprocess.run(["tar", "-x", "-C", str(folder)], stdin=files.stdout, check=True)
    if files.returncode:
        sys.exit(f"{commit}: is no commit of this repository")
    return folder


if __name__ == "__main__":
    sys.exit(main())
