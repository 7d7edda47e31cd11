"""What a sweep did, on a terminal."""

from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import stdout

if TYPE_CHECKING:
    from fastsim.sweeps.sweep import Sweep


def sweep(done: "Sweep") -> None:
    """Print what a sweep came to."""
    console = stdout()
    failed = f", {done.failed:,} of them with an error" if done.failed else ""
    console.print(f"{done.configurations:,} configurations in {done.folder}{failed}")
    console.print(f"Computed {done.computed:,} now, in {done.seconds:.1f} s")
    for reason, one in done.dropped.items():
        console.print(f"Dropped {one.count:,}: {reason} (e.g. {one.example})")
    console.print(f"Read it with pandas.read_parquet({str(done.folder)!r}), or duckdb: '{done.folder}/*.parquet'")
