"""Print what a sweep computed."""

from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import note, stdout

if TYPE_CHECKING:
    from fastsim.sweeps.sweep import Sweep


def sweep(done: "Sweep") -> None:
    """Print how many configurations a sweep computed, which it dropped and why, and how to read its table."""
    console = stdout()
    failed = f", {done.failed:,} of which failed" if done.failed else ""
    console.print(f"{done.configurations:,} configurations in {done.folder}{failed}")
    console.print(f"Computed {done.computed:,} now, in {done.seconds:.1f} s")
    for reason, dropped in done.dropped.items():
        console.print(f"Dropped {dropped.count:,}: {reason} (e.g. {dropped.example})")
    console.print(
        f"Read the table with pandas.read_parquet({str(done.folder)!r}), or in duckdb as '{done.folder}/*.parquet'"
    )
    for text in done.notes:
        note(text)
