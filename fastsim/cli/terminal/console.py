"""What all commands print with: two consoles, one style of table, notes, and figures as text."""

import json
import math
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastsim.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDE = 240  # characters per line in a file or a pipe, so that no table is cut off
MISSING = "-"
QUIET = "fastsim.quiet"  # in the meta data of a command's context: whether --quiet is given


@cache
def stdout() -> "Console":
    """Return the console on which results are printed."""
    console = _console(soft_wrap=True)
    if not console.is_terminal:
        console.width = WIDE
    return console


@cache
def stderr() -> "Console":
    """Return the console for notes and progress bars, on standard error."""
    return _console(stderr=True)


def _console(**settings: Any) -> "Console":
    """Return a console that shows markup, emoji names and control characters in texts as they are written."""
    from rich.console import Console

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Any:
            return super().render_str(printable(text), **options)

    return Plain(highlight=False, markup=False, emoji=False, **settings)


def is_quiet() -> bool:
    """Whether the command that runs prints its answer only, as --quiet asks for."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def note(text: str) -> None:
    """Print a note on standard error, apart from the results on standard output; nothing with --quiet."""
    if is_quiet():
        return
    stderr().print(f"note: {text}", style="yellow", soft_wrap=True)


def of_pool(about: dict[str, Any]) -> str:
    """``prompts, 2 replicas of role prefill``."""
    role = "" if about["role"] == "mixed" else f" of role {about['role']}"
    return f"{about['name']}, {counted(about['num_replicas'], 'replica')}{role}"


def print_json(value: Any) -> None:
    """Print ``value`` as indented JSON; numbers that are not finite, which JSON does not have, become null."""
    print(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(one) for key, one in value.items()}
        case list() | tuple():
            return [_finite(one) for one in value]
    return value


def written(folder: Path) -> None:
    """Say that ``folder`` was written, and which files it holds; nothing with --quiet."""
    if is_quiet():
        return
    stdout().print(f"Written to {folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")


def written_file(file: Path, what: str) -> None:
    """Say that ``file`` was written, and what is in it; nothing with --quiet."""
    if not is_quiet():
        click.echo(f"Written to {printable(str(file))}: {what}")


def table(columns: Sequence[str], left: Collection[str] = ("",), title: str | None = None) -> "Table":
    """Return an empty table in the style of all commands.

    Parameters
    ----------
    columns : sequence of str
        The headings, from left to right.
    left : collection of str, default ("",)
        The headings of columns that hold text, which is aligned to the left and may wrap. The others hold figures.
    title : str, optional
        A line above the headings.
    """
    from rich.table import Table

    made = Table(box=None, pad_edge=False, header_style="bold", title=title, title_justify="left")
    for column in columns:
        text = column in left
        made.add_column(column, justify="left" if text else "right", no_wrap=not text, overflow="fold")
    return made


def number(value: float | None, digits: int = 4) -> str:
    """Return ``value`` with ``digits`` significant digits, or with all digits before the point where there are more."""
    if value is None:
        return MISSING
    if isinstance(value, int) or abs(value) >= 10**digits - 0.5:
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: 1 replica, 2 replicas."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def share(value: float | None, decimals: int = 0) -> str:
    """Return a share of 1 as a percentage with ``decimals`` digits after the point."""
    return MISSING if value is None else f"{value:.{decimals}%}"


def seconds(value: float | None) -> str:
    """Return a time in s as text with three digits, in ms, s or min."""
    if value is None:
        return MISSING
    if abs(value) < 0.9995:
        return f"{value * 1e3:.3g} ms"
    return f"{value:.3g} s" if abs(value) < 999.5 else f"{number(value / 60, 3)} min"


def dollars(value: float | None) -> str:
    """Return an amount of money in dollars and cents."""
    return MISSING if value is None else f"${value:,.2f}"


def size(num_bytes: int) -> str:
    """Return a number of bytes as text, in MB, or in kB below 0.1 MB."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"
