"""How large caches may become on disk: what has not been used for longest is removed.

A file's time of access says when it was last used. It is set here, as many systems are mounted without keeping it. No
lock is needed: processes that make room at once remove the same files, and one that misses a file makes it again.
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

VARIABLE = "FASTSIM_CACHE_GB"
DEFAULT_GB = 4.0
# The share of each folder: machine code takes seconds to make again and tables a tenth of that, in far more bytes.
SHARES = {"kernels": 0.25, "tables": 0.75}
HOUR = 3600  # s
UNFINISHED = (".part", ".lock")  # suffixes of files that a process holds; those of tables begin with a dot


def limit() -> int:
    """How large the caches may become together, bytes: $FASTSIM_CACHE_GB. Raises ValueError."""
    text = os.environ.get(VARIABLE) or str(DEFAULT_GB)
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{VARIABLE}: {text!r} is not a positive number of gigabytes (e.g. {DEFAULT_GB:g})")
    return int(number * 1e9)


def use(file: Path) -> None:
    """Note that a file is used now."""
    with suppress(OSError):
        os.utime(file, ns=(time.time_ns(), file.stat().st_mtime_ns))


def size_of(folder: Path) -> int:
    """The bytes of all files below a folder."""
    return sum(size for _, size, _ in _files(folder))


def make_room(folder: Path) -> None:
    """Remove files below a folder of SHARES, the one that was used longest ago first, until the others are its share.

    They leave at least half of the disk's free space. Call it after a file has been written.
    """
    with suppress(OSError, ValueError):  # what cannot be removed stays
        files = sorted(_files(folder))
        held = sum(size for _, size, _ in files)
        most = min(limit() * SHARES[folder.name], (held + shutil.disk_usage(folder).free) / 2)
        now = time.time()
        for used, size, path in files:
            if held <= most:
                break
            unfinished = path.suffix in UNFINISHED or path.name.startswith(".")
            if not (unfinished and now - used < HOUR):
                path.unlink(missing_ok=True)
                held -= size
                _remove_empty(path.parent, folder)


def _remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder below another one, and those around it, as far as they are empty."""
    with suppress(OSError):  # it holds other files
        while place != folder:
            place.rmdir()
            place = place.parent


def _files(folder: Path) -> list[tuple[float, int, Path]]:
    """When each file below a folder was last used, its bytes and its path."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            with suppress(OSError):
                about = path.lstat()
                found.append((max(about.st_atime, about.st_mtime), about.st_size, path))
    return found
