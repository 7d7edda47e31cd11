"""The table of speed: `python bench/speed.py [--trace TRACE.csv] [--runs 5] [--scale 1] [--only WORD]`.

Each row with its bar, the median of runs that take turns with those of the other rows, and how much longer Vidur's loop
needs for the same batches, without metrics and traces (48 us per batch and 1.8 us per batch and request). Then how the
kernel's time grows with requests and iterations. `bench/peers.py` times Vidur itself, and whole runs.
"""

import argparse
import platform
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import figures
import growth
import traffic
from figures import Figure, Row


def rows(trace: Path | None, scale: float) -> list[Row]:
    """All rows. ``scale`` below 1 makes every one of them smaller, for a quick look; the bars stay."""
    many, jobs, each = max(100, int(10_000_000 * scale)), max(5, int(1000 * scale)), max(20, int(5000 * scale))
    clusters = ((100, "round_robin", 6.0, 1536.0), (1000, "least_outstanding", 60.0, 2048.0))
    return [
        *figures.azure(trace, scale),
        *figures.custom(trace, scale),
        *((figures.cluster_name(many, *one[:2]), partial(figures.cluster, many, *one)) for one in clusters),
        (f"{jobs:,} configurations x {each:,} requests", partial(figures.sweep, jobs, each)),
        (f"{jobs:,} configurations x {each:,} requests, Dask", partial(figures.sweep_on_dask, jobs, each)),
        *((one.name, partial(lambda known: known, one)) for one in figures.processes(trace, scale)),
    ]


def measure(table: Sequence[Figure], runs: int) -> None:
    """Take every row's measure in turn, ``runs`` times."""
    for number in range(runs):
        for row in table:
            if number < row.most_runs:
                row.taken.append(row.measure())


def show(table: Sequence[Figure]) -> None:
    """Print the table."""
    print(f"{'work':74} {'at most':>9} {'median':>10}   {'runs':>4} {'Vidur':>8} {'times':>7}")
    for row in table:
        seconds = row.median()
        vidur = "" if row.vidur_s is None else f"{row.vidur_s:6.1f} s {row.vidur_s / seconds:7,.0f}"
        kept = "  " if row.kept else " !"
        print(f"{row.name:74} {_time(row.most_s):>9} {_time(seconds):>10} {kept} {len(row.taken):3} {vidur:>17}")
        if row.notes():
            most = "" if row.most_mib is None else f" (at most {row.most_mib:,.0f} MiB)"
            print(f"    {row.notes()}{most}")


def show_growth(scale: float) -> None:
    """Print the fits."""
    sizes = tuple(max(2**place, int(10**place * scale)) for place in (1, 2, 3, 4))
    for policy in ("sarathi", "vllm"):
        found = growth.fit(policy, sizes)
        print(
            f"{policy}: {found.us_per_run:,.0f} us + {found.ns_per_request:,.0f} ns per request + "
            f"{found.ns_per_iteration:.1f} ns per iteration "
            f"(R2 {found.r_squared:.4f}; time grows as size^{found.slope:.3f}, from {found.points[:, 1].min():,.0f} to "
            f"{found.points[:, 1].max():,.0f} iterations)"
        )
    waves = max(2, int(100 * scale))
    steady = ", ".join(f"{growth.steady_decode_ns(batch, waves=waves):.1f} ns ({batch})" for batch in (1, 8, 32))
    print(f"an iteration of a steady decode, by batch: {steady}")
    for stages in (2, 4):
        batches = [(batch, growth.micro_batch_ns(stages, batch)) for batch in (8, 32, 128, 512)]
        grown = ", ".join(f"{ns:.0f} ns ({batch})" for batch, ns in batches)
        print(f"a micro-batch through {stages} pipeline stages, by batch: {grown}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=Path, default=traffic.TRACE)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--only", default="", help="rows whose name holds this; no other one is prepared")
    given = parser.parse_args(arguments)
    table = [prepared() for name, prepared in rows(given.trace, given.scale) if given.only in name]
    measure(table, given.runs)
    print(f"{traffic.azure(given.trace)[1]}; Llama-3-8B on one H100 where nothing else is said; {platform.machine()}")
    show(table)
    if not given.only:
        show_growth(given.scale)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
