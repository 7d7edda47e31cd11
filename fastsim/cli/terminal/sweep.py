"""Print what a sweep computed."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import note, print_json, stdout

if TYPE_CHECKING:
    from fastsim.sweeps.sweep import Sweep


def sweep(done: "Sweep", as_json: bool) -> None:
    """Print how many configurations a sweep computed, which it dropped and why, and how to read its table."""
    if as_json:
        print_json({**asdict(done), "folder": str(done.folder)})
        return
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
