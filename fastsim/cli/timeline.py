"""The command `fastsim timeline`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default="trace.json.gz",
    show_default=True,
    help="File to write; .json is not compressed.",
)
@click.option(
    "--from", "begin", type=float, metavar="S", help="Leave out batches and requests that end before, in seconds."
)
@click.option(
    "--to", "end", type=float, metavar="S", help="Leave out batches and requests that start after, in seconds."
)
@click.option(
    "--every",
    type=click.IntRange(1, 10**9),
    metavar="N",
    help="Keep one batch and one request in N.  [default: keeps at most 400,000 batches]",
)
@options.as_json
@options.quiet
def timeline(folder: Path, out: Path, begin: float | None, end: float | None, every: int | None, as_json: bool) -> None:
    """Write the batches and requests of the result in DIR as a timeline for Perfetto or Chrome."""
    from fastsim.cli import interrupt
    from fastsim.cli.terminal import progress as progress_module
    from fastsim.cli.terminal.console import print_json, size, written_file
    from fastsim.report.timeline.timeline import timeline as write

    interrupt.writes(out)
    with progress_module.progress(f"Writing {out.name}") as progress:
        written = write(folder, out, begin, end, every, progress)
    if as_json:
        print_json({"file": str(out), "bytes": out.stat().st_size, **written._asdict()})
        return
    part = "" if written.every == 1 else f", one in {written.every}"
    written_file(
        out,
        f"{written.num_batches:,} batches and {written.num_requests:,} requests "
        f"between {written.begin:g} and {written.end:g} s{part}, {size(out.stat().st_size)}; open it in "
        "ui.perfetto.dev or chrome://tracing.",
    )
