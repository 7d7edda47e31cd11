"""The command `fastsim compare`."""

from pathlib import Path

import click

from fastsim.cli import options


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--top",
    type=click.IntRange(0, 10**9),
    default=10,
    show_default=True,
    help="How many of the requests that got slower to list.",
)
@options.slos
@click.option("--check", is_flag=True, help="Exit with 1 if B misses an objective.")
@options.as_json
@options.quiet
def compare(a: Path, b: Path, top: int, slos: tuple[str, ...], check: bool, as_json: bool) -> None:
    """Compare the results in folders A and B, request by request.

    Both results must hold requests of the same lengths in the same order. Differences of latencies come with 95 %
    intervals from a paired bootstrap; figures of a whole run come without intervals.
    """
    from fastsim.cli.objectives import needs, refuse_missed
    from fastsim.cli.terminal.compare import show
    from fastsim.result.compare import compare as compared
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.result import Result
    from fastsim.result.wording import of

    needs(check, slos)
    objectives, first, second = parse_all(slos, "--slo"), Result.load(a), Result.load(b)
    if objectives:
        first.judge(objectives)
        second.judge(objectives)
    show(compared(first, second, top), of(first.config, second.config), as_json)
    refuse_missed(check, objectives, second.summary)
