"""`fastsim timeline`."""

from pathlib import Path

import click


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), default="trace.json.gz", show_default=True, help="The timeline."
)
@click.option("--from", "begin", type=float, metavar="S", help="Leave out what ends before, in seconds.")
@click.option("--to", "end", type=float, metavar="S", help="Leave out what starts after, in seconds.")
@click.option(
    "--every", type=click.IntRange(1), metavar="N", help="One batch and request in N.  [default: 400,000 batches]"
)
def timeline(folder: Path, out: Path, begin: float | None, end: float | None, every: int | None) -> None:
    """Write the batches and requests of the result in DIR as a timeline for Perfetto or Chrome."""
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.console import size
    from fastsim.report.timeline.timeline import timeline as write

    with progress_module.progress(f"Writing {out.name}") as progress:
        told = write(folder, out, begin, end, every, progress)
    part = "" if told.every == 1 else f", one in {told.every}"
    click.echo(
        f"Written to {out}: {told.num_batches:,} batches and {told.num_requests:,} requests between {told.begin:g} and "
        f"{told.end:g} s{part}, {size(out.stat().st_size)}; open it in ui.perfetto.dev or chrome://tracing."
    )
