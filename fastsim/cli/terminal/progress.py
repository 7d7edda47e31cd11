"""Progress bars."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fastsim.cli.terminal.console import is_quiet, stderr
from fastsim.errors import printable

if TYPE_CHECKING:
    from rich.progress import TextColumn

PATIENCE = 1.0  # s before a progress bar appears


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the share done and draws a bar, on a terminal, once a second has passed."""
    if is_quiet() or not sys.stderr.isatty():
        yield lambda share: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

    columns = (_title(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=stderr(), transient=True)
    task = bar.add_task(printable(title), total=1.0)
    began = time.monotonic()

    def update(share: float) -> None:
        if not bar.live.is_started and time.monotonic() - began > PATIENCE:
            bar.start()
        bar.update(task, completed=share)

    try:
        yield update
    finally:
        if bar.live.is_started:
            bar.stop()


def _title() -> "TextColumn":
    """Return the column with the title of a bar, which may hold names: it shows markup as text."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)


@contextmanager
def counting(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that takes the number done and the total, and draws a bar with the rate and the time left."""
    if is_quiet() or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (_title(), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    bar = Progress(*columns, TimeRemainingColumn(), console=stderr(), transient=True)
    task = bar.add_task(printable(title), total=None, rate="")
    began, before = time.monotonic(), -1

    def update(done: int, total: int) -> None:
        nonlocal before
        before = done if before < 0 else before
        rate = (done - before) / (time.monotonic() - began)
        bar.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

    with bar:
        yield update
