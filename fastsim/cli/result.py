"""The command `fastsim result`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.group()
def result() -> None:
    """Show a result, export it as CSV or as time series, or log it. DIR is an output folder of `fastsim simulate`."""


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@options.slos
@options.check
@options.as_json
@options.quiet
def show(folder: Path, slos: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Print the headline figures of the result in DIR."""
    from fastsim.cli.objectives import needs, refuse_missed
    from fastsim.cli.terminal.result import summary
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.result import Result

    needs(check, slos)
    objectives, loaded = parse_all(slos, "--slo"), Result.load(folder)
    if objectives:
        loaded.judge(objectives)
    summary(loaded, as_json)
    refuse_missed(check, objectives, loaded.summary)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@options.quiet
def csv(folder: Path) -> None:
    """Write the tables of the result in DIR as CSV files into the same folder."""
    from fastsim.cli.terminal.result import written
    from fastsim.result.result import Result

    Result.load(folder).save_csv(folder)
    written(folder)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--every", default="1s", show_default=True, metavar="TIME", help="Length of an interval, e.g. 10s.")
@options.as_json
@options.quiet
def series(folder: Path, every: str, as_json: bool) -> None:
    """Print time series of the result in DIR as CSV or JSON, at any resolution.

    The series are arrivals, first tokens and completions per second and the queue; a run with --iterations also has
    tokens per second and the share of busy stages.
    """
    from fastsim.cli.terminal.series import show as print_series
    from fastsim.result.metrics.window import parse_exclude
    from fastsim.result.result import Result

    (width, more) = parse_exclude(every, "--every")
    if more or not width:
        raise click.UsageError(f"--every {every!r} is not a time above 0 (e.g. 10s)")
    print_series(Result.load(folder), width, as_json)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--project", required=True, help="Project to log to.")
def wandb(folder: Path, project: str) -> None:
    """Log settings, figures, series and files of the result in DIR to Weights & Biases; needs `fastsim[wandb]`."""
    from fastsim.result.result import Result
    from fastsim.result.weights_and_biases import log

    print(log(Result.load(folder), folder, project))
