"""The command `fastsim report`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="HTML file to write."
)
@click.option(
    "--curve/--no-curve", default=True, show_default=True, help="Simulate other loads, for latency against load."
)
@options.quiet
def report(folders: tuple[Path, ...], out: Path, curve: bool) -> None:
    """Write an HTML page about the results in DIR..., or about a sweep, as one file that needs no network."""
    from fastsim.cli import interrupt
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.console import size, written_file
    from fastsim.report.report import report as write

    interrupt.writes(out)
    with progress_module.progress(f"Reading {len(folders):,} results") as progress:
        write(folders, out, progress, curves=curve)
    written_file(out, f"{size(out.stat().st_size)}; open it in any browser.")
