"""Disturb sweeps for minutes and check that they lose nothing: `python bench/soak.py [--minutes 30] [--seed 0]`.

Each round sweeps a small space into a new folder, in several attempts: on threads, on processes (`--workers`) or on
processes of `dask scheduler` and `dask worker`. Meanwhile clients, workers and schedulers are killed or paused, the
disk runs full or is slow, and other clients start the same sweep in the same folder. After each attempt the folder must
hold a valid table whose rows equal those of an undisturbed sweep to the bit, each at most once. A last, undisturbed
attempt must complete the table, and no process may be left.

The disk is a small one in memory where this user can mount one, and otherwise never full. A slow disk is one on which
each flush and each rename takes up to a second.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
from victims import FAULTS, MODES, SLOW, Lost, Victims

import fastsim
from fastsim.kernels._folder import CACHE_FOLDER

DISK = "8m"  # size of the small disk
REQUESTS = 2000
# How long after the start of the first client a fault comes, at most.
LONGEST_S = {"threads": 4.0, "workers": 8.0, "dask": 8.0}


def rows_of(folder: Path) -> dict[str, str]:
    """The rows of a table as text, floats to the bit, by digest. Raises Lost if a row is there twice."""
    if not any(folder.glob("part-*.parquet")):
        return {}
    rows = pq.read_table(folder).to_pylist()
    found = {row["digest"]: repr(sorted(row.items())) for row in rows}
    if len(found) != len(rows):
        raise Lost(f"{len(rows) - len(found)} of {len(rows)} rows are in the table twice")
    return found


def check(folder: Path, expected: dict[str, str]) -> int:
    """Return the number of rows. Raises Lost if one is not among the expected ones."""
    found = rows_of(folder)
    for digest, row in found.items():
        if expected.get(digest) != row:
            raise Lost(f"row {digest} is {row}, not {expected.get(digest)}")
    return len(found)


def attempt(victims: Victims, faults: list[str]) -> Counter[str]:
    """Run a sweep with faults, and return how its clients ended.

    Half of the faults come at any time, and the others at the moment when a file of the table appears or goes.
    """
    try:
        victims.begin()
        times = sorted(victims.random.uniform(0, LONGEST_S[victims.mode]) for _ in faults)
        began = time.monotonic()
        for at, fault in zip(times, faults, strict=True):
            while victims.working and time.monotonic() - began < at:
                time.sleep(0.01)
            if victims.random.random() < 0.5:
                before = names(victims.disk / "out")
                while victims.working and names(victims.disk / "out") == before:
                    time.sleep(0.0005)
            if victims.working:
                victims.suffer(fault)
        return victims.end()
    finally:
        victims.stop()


def names(folder: Path) -> list[str]:
    """The names in a folder, if there is one."""
    return [path.name for path in folder.iterdir()] if folder.exists() else []


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Yield a small disk in memory; or ``folder``, where this user cannot mount one."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        yield folder
        return
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def make_cache(disk: Path) -> None:
    """Make a cache whose kernels and tables are those of the usual one, as compiling takes minutes."""
    (disk / "cache").mkdir(mode=0o700)
    for name in ("kernels", "tables"):
        (disk / "cache" / name).symlink_to(CACHE_FOLDER.parents[1] / name)


def one_round(folder: Path, expected: dict[str, str], drawn: random.Random, figures: Counter[str]) -> Counter[str]:
    """Disturb a sweep until it is complete, add to the figures, and return how clients ended. Raises Lost."""
    ends: Counter[str] = Counter()
    with small_disk(folder) as disk:
        make_cache(disk)
        for number in range(drawn.randint(2, 6)):
            logs = folder / str(number)
            (logs / "slow").mkdir(parents=True)
            (logs / "slow" / "sitecustomize.py").write_text(SLOW)
            (logs / "space.json").symlink_to(folder / "space.json")
            victims = Victims(logs, disk, drawn.choice(list(MODES)), drawn.random() < 0.3, drawn)
            ends += attempt(victims, drawn.choices(FAULTS, k=drawn.randint(1, 6)))
            figures += victims.suffered
            figures["slow disk"] += victims.slow
            figures[f"attempts on {victims.mode}"] += 1
            figures["rows checked"] += (num_rows := check(disk / "out", expected))
            if num_rows == len(expected):
                break
        calm = folder / "calm"
        calm.mkdir()
        (calm / "space.json").symlink_to(folder / "space.json")
        last = attempt(Victims(calm, disk, drawn.choice(list(MODES)), False, drawn), [])
        if last != {"0: complete": 1}:
            raise Lost(f"the undisturbed attempt ended so: {dict(last)}")
        num_rows = check(disk / "out", expected)
        if num_rows != len(expected):
            raise Lost(f"{len(expected) - num_rows} of {len(expected)} rows are missing")
        figures["rows checked"] += num_rows
        if left := [path.name for path in (disk / "out").glob(".*") if path.name != ".lock"]:
            raise Lost(f"temporary files are left: {', '.join(left)}")
    figures["rounds"] += 1
    return ends + last


def soak(
    folder: Path, minutes: float, rounds: int, configurations: int, seed: int
) -> tuple[Counter[str], Counter[str]]:
    """Run rounds until both limits are reached; return what was done, and how clients ended. Raises Lost."""
    seeds = {"from": 1, "to": configurations // 2, "step": 1}
    axes = {"scheduler.max_num_seqs": [64, 128], "seed": seeds}
    space = {"workload": {"source": "chat", "rate": 4, "num_requests": REQUESTS, "seed": 0}, "axes": axes}
    fastsim.sweep(space, folder / "undisturbed")
    expected = rows_of(folder / "undisturbed")
    drawn, figures, ends = random.Random(seed), Counter[str](), Counter[str]()
    end = time.monotonic() + 60 * minutes
    while figures["rounds"] < rounds or time.monotonic() < end:
        place = folder / f"round-{figures['rounds']}"
        place.mkdir()
        (place / "space.json").write_text(json.dumps(space))
        ends += one_round(place, expected, drawn, figures)
        print(f"{time.strftime('%H:%M:%S')} {figures['rounds']} rounds, {figures['rows checked']:,} rows", flush=True)
    return figures, ends


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=1, help="at least")
    parser.add_argument("--configurations", type=int, default=600, help="of the space")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(given)
    folder = Path(tempfile.mkdtemp(prefix="fastsim-soak-"))
    os.nice(10)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets background processes ignore it
    try:
        figures, ends = soak(folder, asked.minutes, asked.rounds, asked.configurations, asked.seed)
    except Lost as fault:
        sys.exit(f"{fault}\nThe processes' logs are in {folder}")
    shutil.rmtree(folder)
    for counts in (figures, ends):
        print()
        for name, number in sorted(counts.items()):
            print(f"{number:9,}  {name}")


if __name__ == "__main__":
    main()
