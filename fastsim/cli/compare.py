"""`fastsim compare`."""

from pathlib import Path

import click


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option("--top", type=click.IntRange(0), default=10, show_default=True, help="Requests to list that got worse.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare(a: Path, b: Path, top: int, as_json: bool) -> None:
    """Compare the results in folders A and B, request by request.

    Both must be of requests of the same lengths, in the same order. Differences of latencies have 95 % intervals from a
    paired bootstrap; the figures of a whole run have none.
    """
    from fastsim.compare import compare as compared
    from fastsim.compare import show
    from fastsim.result import Result

    show(compared(Result.load(a), Result.load(b), top), as_json)
