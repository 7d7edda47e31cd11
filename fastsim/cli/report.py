"""`fastsim report`."""

from pathlib import Path

import click


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="report.html", show_default=True, help="The page."
)
def report(folders: tuple[Path, ...], out: Path) -> None:
    """Write a page for the browser about the results in DIR..., in one file that needs no network."""
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.console import size
    from fastsim.report.report import report as write

    with progress_module.progress(f"Reading {len(folders):,} results") as progress:
        write(folders, out, progress)
    click.echo(f"Written to {out}: {size(out.stat().st_size)}, opens in any browser.")
