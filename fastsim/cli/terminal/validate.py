"""Print how far a prediction is from a measured run."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import MISSING, note, number, print_json, seconds, share, stdout, table, written
from fastsim.cli.terminal.result import subject
from fastsim.errors import FastsimError
from fastsim.measured.statistics import STATISTICS, Pair
from fastsim.measured.validation import RATES, UNITS, Validation
from fastsim.report.words import signed, statistic, title

if TYPE_CHECKING:
    from rich.table import Table


def validation(found: Validation, limit: float | None, missed: Sequence[str], out: Path | None, json: bool) -> None:
    """Print a validation as text or as JSON; what it lacks goes to standard error.

    Raises FastsimError, which ends the command with 1, where figures are ``missed``: further off than ``limit``, a
    share.
    """
    if json:
        judged = {} if limit is None else {"within": {"limit": limit, "met": not missed, "missed": list(missed)}}
        print_json(found.as_dict() | judged)
    else:
        for text in found.notes:
            note(text)
        console = stdout()
        console.print(subject(found.result))
        for shown in _tables(found):
            console.print(shown)
            console.print()
        if limit is not None and not missed:
            console.print(f"Every mean latency and throughput is within {_percent(limit)} of what was measured")
        if out is not None:
            written(out)
    if limit is not None and missed:
        raise FastsimError(f"not within {_percent(limit)} of what was measured: {', '.join(missed)}")


def _percent(limit: float) -> str:
    return f"{100 * limit:.4g} %"


def _tables(found: Validation) -> "Iterator[Table]":
    figures = table(("", "measured", "predicted", "error", "absolute error"))
    for name, pairs in found.latency.items():
        word = "ITL" if name == "itl" else title(name)
        for key in STATISTICS:
            if key in pairs:
                figures.add_row(*_row(f"{word} {statistic(key)}", pairs[key], seconds))
    for name, pair in found.throughput.items():
        figures.add_row(*_row(RATES[name].capitalize(), pair, _in(UNITS[name])))
    yield figures
    if found.over_time:
        over_time = table(
            ("Requests over time", "measured", "predicted", "mean absolute difference"), left=("Requests over time",)
        )
        for name, counts in found.over_time.items():
            means = (float(counts.measured.mean()), float(counts.predicted.mean()), counts.mean_absolute_difference)
            over_time.add_row(name.replace("_", " "), *(number(value, 3) for value in means))
        yield over_time
    by_request = table(("Request by request", "correlation", "mean absolute error", ""), left=("Request by request",))
    for name, one in found.by_request.items():
        correlation = MISSING if one.correlation is None else f"{one.correlation:.3f}"
        by_request.add_row(
            title(name), correlation, seconds(one.mean_absolute_error), share(one.mean_absolute_share, 1)
        )
    yield by_request


def _in(unit: str) -> Callable[[float], str]:
    return lambda value: f"{number(value, 3)} {unit}"


def _row(name: str, pair: Pair, words: Callable[[float], str]) -> tuple[str, ...]:
    return (
        name,
        words(pair.measured),
        words(pair.predicted),
        signed(pair.error),
        words(abs(pair.predicted - pair.measured)),
    )
