"""Runs a command in this process and judges how it ends."""

import contextlib
import io
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from tempfile import mkdtemp

from fastsim.cli import run

MAX_SECONDS = 20.0
MAX_BYTES = 2 * 2**30  # of memory, beyond what the process had


def attempt(subject: Callable[[Random, Path], list[str]], random: Random) -> tuple[int, list[str], str]:
    """Run the command that ``subject`` makes.

    Returns its exit code, its arguments and what is wrong with how it ended: "" if it succeeded, or refused its input
    in a sentence, within ``MAX_SECONDS`` and ``MAX_BYTES``.
    """
    folder = Path(mkdtemp(prefix="fuzz-"))
    arguments = subject(random, folder)
    code, wrong, seconds = _run(arguments, folder)
    if seconds > MAX_SECONDS and not wrong:  # perhaps it compiled a kernel
        code, wrong, seconds = _run(arguments, folder)
    if seconds > MAX_SECONDS and not wrong:
        wrong = f"{seconds:.0f} s"
    if not wrong:
        shutil.rmtree(folder)
    return code, arguments, wrong


def _run(arguments: list[str], folder: Path) -> tuple[int, str, float]:
    """Run a command in ``folder``; return its exit code, what is wrong with how it ended, and its CPU time in s."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace") for _ in range(2))
    had = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, before = time.process_time(), Path.cwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _at_most(4 * MAX_BYTES):
            try:
                code = run(arguments)
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else 1
    finally:
        os.chdir(before)
    said = _content(err)
    shown = _content(out) + said
    wrong = ""
    if code not in (0, 2):
        wrong = f"exit code {code}"
    elif "Traceback" in shown or "Exception ignored" in shown:
        wrong = "a traceback"
    elif "\x1b" in shown or "\a" in shown:
        wrong = "an escape sequence"
    elif code == 2 and not said.strip():
        wrong = "no sentence"
    elif (takes := (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - had) * 1024) > MAX_BYTES:  # Linux counts kB
        wrong = f"{takes / 2**30:.1f} GiB"
    return code, wrong and f"{wrong}: {said[-2000:]}", time.process_time() - began


def _content(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode(errors="replace")


@contextlib.contextmanager
def _at_most(num_bytes: int) -> Iterator[None]:
    """Limit the addresses that this process may take in addition to those it has; only Linux can."""
    if sys.platform != "linux":
        yield
        return
    has = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
