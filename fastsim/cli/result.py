"""`fastsim result`."""

from pathlib import Path

import click


@click.group()
def result() -> None:
    """Show a result, write it as CSV or over time, or log it. DIR is a folder that `fastsim simulate --out` wrote."""


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--slo", "slos", multiple=True, metavar="OBJECTIVE", help="Judge it by these, e.g. 'ttft:p90<2s'.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def show(folder: Path, slos: tuple[str, ...], as_json: bool) -> None:
    """Print what the result in DIR says."""
    from fastsim.cli.terminal.result import summary
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.result import Result

    objectives, loaded = parse_all(slos, "--slo"), Result.load(folder)
    if objectives:
        loaded.judge(objectives)
    summary(loaded, as_json)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def csv(folder: Path) -> None:
    """Write the tables of the result in DIR as CSV files beside them."""
    from fastsim.cli.terminal.result import written
    from fastsim.result.result import Result

    Result.load(folder).save_csv(folder)
    written(folder)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--every", default="1s", show_default=True, metavar="TIME", help="Length of an interval, e.g. 10s.")
def series(folder: Path, every: str) -> None:
    """Print figures of the result in DIR over time, as CSV, at any resolution.

    Arrivals, first tokens, completions and queue; of a run with --iterations also tokens and busy stages.
    """
    from fastsim.cli.terminal.series import print_csv
    from fastsim.result.metrics.window import parse_exclude
    from fastsim.result.result import Result

    (width, more) = parse_exclude(every, "--every")
    if more or not width:
        raise click.UsageError(f"--every {every!r} is not a time above 0 (e.g. 10s)")
    print_csv(Result.load(folder), width)


@result.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--project", required=True, help="Project to log to.")
def wandb(folder: Path, project: str) -> None:
    """Log the result in DIR to Weights & Biases: settings, every figure, series and files (`fastsim[wandb]`)."""
    from fastsim.result.result import Result
    from fastsim.result.weights_and_biases import log

    print(log(Result.load(folder), folder, project))
