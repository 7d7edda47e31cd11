"""The folder of compiled kernels, and its files: read only where no other user can write, and never half-written.

The name of a file holds the digest of all that its content depends on, and its first bytes hold the digest of its
content. A file that is damaged, or that another user could have written, is never used; the kernel is compiled again.
The file that defines a function does not tell whether its machine code is up to date, since a helper in another file
may have been edited: the folder is therefore named by the digest of all kernel sources.
"""

import atexit
import hashlib
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._limit import make_room, use

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
LEFT_S = 60.0  # s after which no process still writes a part of a file


def _is_private(about: os.stat_result, owners: tuple[int, ...]) -> bool:
    """Return whether no user but ``owners`` can have written a file or folder."""
    return about.st_uid in owners and not about.st_mode & OTHERS_WRITE


def _can_write(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _own(folder: Path) -> bool:
    """Create a folder unless it exists; return whether this user can write to it and no other user can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.stat()
        if about.st_uid == os.getuid() and about.st_mode & OTHERS_WRITE:
            folder.chmod(0o700)
            about = folder.stat()
    except OSError:
        return False
    return _is_private(about, (os.getuid(),)) and _can_write(folder)


def _temporary() -> Path:
    """Return this user's folder for caches in the temporary folder, or a new one if another user owns that name."""
    usual = Path(tempfile.gettempdir()) / f"fastsim-{os.getuid()}"
    with suppress(OSError):
        usual.mkdir(mode=0o700, exist_ok=True)
        about = usual.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077:
            return usual
    fresh = Path(tempfile.mkdtemp(prefix="fastsim-"))
    atexit.register(shutil.rmtree, fresh, ignore_errors=True)
    return fresh


def find_roots() -> tuple[Path, Path | None]:
    """Return the folder that caches are written to, and the folder that is only read, or None.

    Caches are written to $FASTSIM_CACHE_DIR, or else to the user's cache folder, if no other user can write there;
    otherwise to a folder in the temporary folder. A folder that cannot be written, and belongs to this user or to root,
    is read: the image of a container may hold compiled kernels.
    """
    if chosen := os.environ.get("FASTSIM_CACHE_DIR"):
        wanted = Path(chosen).expanduser().resolve()
    else:
        wanted = (Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fastsim").resolve()
    if _own(wanted):
        return wanted, None
    with suppress(OSError):
        if _is_private(wanted.stat(), (os.getuid(), 0)):
            return _temporary(), wanted
    return _temporary(), None


ROOT, READ_ONLY_ROOT = find_roots()
KERNELS = Path(__file__).resolve().parent
# How machine code is kept changes none of it.
KEEPING = ("_cache.py", "_entry.py", "_folder.py", "_limit.py", "_machine_code.py")
_said: set[str] = set()


def _digest() -> str:
    sources = hashlib.sha256()
    for source in sorted(KERNELS.rglob("*.py")):
        if source.name not in KEEPING:
            sources.update(source.read_bytes())
    # Bounds checking is compiled in, and is no part of numba's own cache key.
    sources.update(f"bounds={int(os.environ.get('NUMBA_BOUNDSCHECK') or 0)}".encode())
    return sources.hexdigest()[:16]


CACHE_FOLDER = ROOT / "kernels" / _digest()


def folders(below: str) -> list[Path]:
    """The folders that ``below``, a path within CACHE_FOLDER, is read from; it is written to the first."""
    path = CACHE_FOLDER.relative_to(ROOT) / below
    return [ROOT / path, *([READ_ONLY_ROOT / path] if READ_ONLY_ROOT else [])]


def say_once(subject: str, message: str) -> None:
    if subject not in _said:
        _said.add(subject)
        warnings.warn(message, stacklevel=2)


def load(path: Path, magic: bytes, use: Callable[[bytes], Any]) -> Any:
    """What ``use`` makes of the content of a file; None where there is no such file, or it cannot be used.

    One that cannot be used is removed, and that is said once.
    """
    try:
        payload = _read(path, magic)
        return None if payload is None else use(payload)
    except FileNotFoundError:
        return None
    except Exception as problem:
        # The kernel can always be compiled again.
        say_once(str(path), f"{path}: unusable ({problem or type(problem).__name__}); compiled again")
        with suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return None


def _read(path: Path, magic: bytes) -> bytes | None:
    """The content of a file, or None where another user may have written it. Raises OSError and ValueError."""
    if not _is_private(path.parent.lstat(), (os.getuid(), 0)) or path.parent.is_symlink():
        return None
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(number, "rb") as file:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if not _is_private(about, (os.getuid(), 0)):
            raise ValueError("another user can write it")
        content = file.read()
    head, payload = content[: len(magic) + 32], content[len(magic) + 32 :]
    if head != magic + hashlib.sha256(payload).digest():
        raise ValueError("damaged")
    use(path)
    return payload


def save(path: Path, magic: bytes, payload: bytes, prefix: str) -> None:
    """Write a file whole, or not at all; what a killed process left a while ago that began with ``prefix`` is removed.

    Where that is impossible it is said once; the run goes on. Machine code that was used longest ago is removed where
    there is more than the limit.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in path.parent.glob(f"{prefix}*.part"):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > LEFT_S:
                    left.unlink()
        number, part = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(magic + hashlib.sha256(payload).digest() + payload)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise
    except OSError as problem:
        reason = problem.strerror or str(problem)
        say_once(str(ROOT), f"{ROOT}: compiled kernels cannot be kept ({reason}); set FASTSIM_CACHE_DIR")
    make_room(ROOT / "kernels")
