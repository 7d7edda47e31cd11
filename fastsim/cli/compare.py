"""`fastsim compare`."""

from pathlib import Path

import click


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="Requests to list that got worse.")
@click.option("--slo", "slos", multiple=True, metavar="OBJECTIVE", help="Judge both by these, e.g. 'ttft:p90<2s'.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, top: int, slos: tuple[str, ...], as_json: bool) -> None:
    """Compare the results in folders A and B, request by request.

    Both must be of requests of the same lengths, in the same order. Differences of latencies have 95 % intervals from a
    paired bootstrap; the figures of a whole run have none.
    """
    from fastsim.cli.terminal.compare import show
    from fastsim.result.compare import compare as compared
    from fastsim.result.metrics.objectives import parse_all
    from fastsim.result.result import Result

    objectives, one, two = parse_all(slos, "--slo"), Result.load(a), Result.load(b)
    if objectives:
        one.judge(objectives)
        two.judge(objectives)
    show(compared(one, two, top), as_json)
