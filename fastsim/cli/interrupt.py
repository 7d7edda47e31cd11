"""Ctrl-C and SIGTERM: every command ends within a second, and says in one sentence what it keeps.

Python handles a signal on the main thread, between two instructions. That thread may be in compiled code for a long
time, or wait for a compiler or for other threads. Another thread therefore waits for signals too, and ends the process
if the main thread has not done so within ``GRACE_S``.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fastsim.errors import printable

if TYPE_CHECKING:
    from pathlib import Path

GRACE_S = 0.5  # s from a signal until the process is ended
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTHING = "nothing was written"
SHOW_CURSOR = "\x1b[?25h"  # a progress bar hides it


def _nothing() -> str:
    return NOTHING


_kept: Callable[[], str] = _nothing  # what the sentence says
_arrived: int | None = None  # the first signal
_saying = threading.Lock()  # is never released, so that only one thread says the sentence


@contextmanager
def watched() -> Iterator[None]:
    """End the process with exit code 128 + the signal's number when SIGINT or SIGTERM arrives while the block runs.

    The signal raises KeyboardInterrupt on the main thread, so that open files are closed and what is done is kept.
    Signals that this process was started to ignore stay ignored.
    """
    global _kept
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return
    _kept = _nothing
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number in SIGNALS if before[number] is not signal.SIG_IGN]
    pipe = _watch() if sys.platform != "win32" else None
    for number in handled:
        signal.signal(number, _raise)
    try:
        yield
    except BaseException:
        if _arrived is None:
            raise
        _leave(_arrived)
    finally:
        if _arrived is None:
            for number in handled:
                signal.signal(number, before[number])
            if pipe is not None:
                signal.set_wakeup_fd(-1)
                os.close(pipe)


def keeps(sentence: str) -> None:
    """Let the sentence end with ``sentence``."""
    global _kept
    _kept = lambda: sentence  # noqa: E731


def writes(path: "str | Path | None") -> None:
    """Let the sentence say whether ``path`` was written since this call; "-" and None name no file."""
    global _kept
    before = _content(path)

    def kept() -> str:
        return NOTHING if _content(path) == before else f"{path} was written"

    _kept = kept


def resumes(folder: "Path | None", done: str) -> None:
    """Let the sentence say that ``folder`` holds what is ``done``, and how to resume; None names no folder."""
    global _kept

    def kept() -> str:
        return f"{folder} holds what is {done}, and the same command resumes" if _content(folder) else NOTHING

    _kept = kept


def _raise(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt at the first signal, and ignore those that follow."""
    global _arrived
    if _arrived is None:
        _arrived = number
        # Python prints an exception that a finaliser cannot raise; this one ends the process anyway.
        sys.unraisablehook = lambda problem: None
        raise KeyboardInterrupt


def _watch() -> int:
    """Start the thread that waits for signals; return the end of a pipe, which ends the thread when it is closed."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_wait, args=(reading,), daemon=True).start()
    return writing


def _wait(pipe: int) -> None:
    """End the process ``GRACE_S`` after a signal, whose number the interpreter writes into ``pipe`` at once."""
    number = -1
    while number not in SIGNALS:
        told = os.read(pipe, 1)
        if not told:
            os.close(pipe)
            return
        number = told[0]
    time.sleep(GRACE_S)
    try:
        if sys.stderr.isatty():
            click.echo(SHOW_CURSOR, err=True)
        _say()
        _clean()
    finally:
        os._exit(128 + number)


def _leave(number: int) -> NoReturn:
    """Say what is kept and end the process, without what Python does last: large libraries take seconds to unload."""
    try:
        _say()
        _clean()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(128 + number)


def _say() -> None:
    """Say that the command was interrupted and what it keeps, unless that was said."""
    if _saying.acquire(blocking=False):
        with suppress(OSError):
            click.echo(f"fastsim: interrupted; {printable(_kept())}", err=True)
            # What libraries say of tasks that do not end is no news.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _clean() -> None:
    """Remove temporary files, and end the processes that this one has started."""
    if writing := sys.modules.get("fastsim.files.writing"):
        writing.remove_unfinished()
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import active_children, util

        for child in active_children():
            child.kill()
        util._run_finalizers(0)  # type: ignore[attr-defined]  # removes semaphores


def _content(path: "str | Path | None") -> Any:
    """What tells whether a file or folder was written: when it was changed, or when each visible entry was."""
    if path is None or path == "-":
        return None
    from pathlib import Path

    with suppress(OSError, ValueError):
        if not Path(path).is_dir():
            return Path(path).stat().st_mtime_ns
        return sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(path) if entry.name[0] != ".")
    return None
