"""What the processes of the page ask of the C library and of Linux."""

import ctypes
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8  # of mallopt
MOST_KEPT = 2**30  # bytes of free memory
LARGEST = 2**25  # bytes of an array, the most that mallopt takes
DEATH_SIGNAL = 1  # of prctl
RESERVED, PIECE = 2**28, 2**24  # bytes


def keep_memory() -> None:
    """Let the C library keep what is freed for what comes next, where it can be told so (glibc).

    An answer takes and frees tens of arrays of megabytes; to get as much from the operating system each time can take
    longer than to simulate.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        for name, value in ((TRIM_THRESHOLD, MOST_KEPT), (MMAP_THRESHOLD, LARGEST), (ARENA_MAX, 1)):
            mallopt(name, value)


def reserve() -> list[Callable[[], None]]:
    """Steps that take memory from the operating system before the answers need it; the last one frees it for them."""
    pieces: list[bytes] = []
    return [lambda: pieces.append(b"." * PIECE)] * (RESERVED // PIECE) + [pieces.clear]


def end_with_parent() -> None:
    """Let this process be killed when its parent ends, where the system can (Linux)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DEATH_SIGNAL, signal.SIGKILL)
