"""Writing files and folders in one atomic step: readers see the old content or the new, never a part of it.

A step writes under a temporary, hidden name beside the final one, flushes to disk, and renames. On failure the
temporary files are removed and the old content stays. What a killed process leaves is removed by the next one that
writes under the same name: temporary files are locked while their process lives.
"""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from fastsim.errors import OutputError

MINUTE = 60  # s
_unfinished: set[Path] = set()  # temporary files and folders that are being filled
_settling = threading.Lock()  # held to take one from there, or to remove them all


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which is renamed to ``path`` when the block ends without an error.

    ``durable``: flush the content to disk before the rename, so that a power failure cannot leave an empty file.
    Raises OSError.
    """
    with _beside(path, lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))) as part:
        with _filling(part):
            yield part
        if durable:
            _flush(part)
        part.replace(path)
        if durable:
            _flush(path.parent)


@contextmanager
def atomic_folder(folder: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``, which is renamed to ``folder`` when the block ends without an error.

    Where ``folder`` exists by then, the files of ``names`` move into it one by one, those of ``names`` that were not
    written are removed from it, and its other files stay. Raises OSError.
    """
    with _beside(folder, os.mkdir) as part:
        with _filling(part):
            yield part
        _flush_all(part)
        if _renamed(part, folder):
            return
        _replace_each(part, folder, names)


@contextmanager
def swapped_folder(folder: Path, names: Sequence[str]) -> Iterator[Path]:
    """``atomic_folder`` in which an existing folder is exchanged whole: readers see all old files or all new ones.

    The files of ``names`` are those of the content; other files in the folder stay, and are moved after the exchange.
    Where the file system cannot exchange two folders, the files of ``names`` move one by one. Raises OSError.
    """
    folder = folder.resolve()
    _bring_back(folder, names)
    with _beside(folder, os.mkdir) as part:
        with _filling(part):
            yield part
        _flush_all(part)
        if _renamed(part, folder):
            return
        part.chmod(folder.stat().st_mode & 0o7777)
        if _exchange(part, folder):
            _flush(folder.parent)
            _move_others(part, folder, names)
            return
        _replace_each(part, folder, names)


@contextmanager
def replacing(folder: Path, names: tuple[str, ...], *, whole: bool = False) -> Iterator[Path]:
    """``atomic_folder`` for a user's results, or ``swapped_folder`` if ``whole``.

    Raises OutputError where the folder cannot be written.
    """
    refuse_file(folder)
    try:
        with (swapped_folder if whole else atomic_folder)(folder, names) as part:
            yield part
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be written ({reason(problem)}); name a folder that can") from None


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """``atomic_file`` for a user's results: raises OutputError where it cannot be written."""
    refuse_folder(path)
    try:
        with atomic_file(path) as part:
            yield part
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written ({reason(problem)}); name a file that can") from None


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file in one atomic step. Raises OutputError."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


def remove_unfinished() -> None:
    """Remove the temporary files and folders that other threads are filling, which then stop: the process must end."""
    _settling.acquire()
    for part in list(_unfinished):
        _remove(part)


def refuse_file(folder: Path) -> None:
    """Raise OutputError if a file has the name of a folder that is to be written."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder; name another folder, or remove it")


def refuse_folder(path: Path, name: str = "result") -> None:
    """Raise OutputError if a folder or device has the name of a file that is to be written.

    ``name``: a file to suggest in the folder.
    """
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file, e.g. {path / name}")
    if path.exists() and not path.is_file():  # which a rename would replace
        raise OutputError(f"{path}: is a pipe, socket or device; name a file")


def reason(problem: OSError) -> str:
    """Why a file cannot be written, in a few words: pyarrow's errors have no ``strerror``."""
    return problem.strerror or str(problem).partition("\n")[0]


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock on a file, which the operating system releases when this process ends, in whatever way.

    Yields False if another process holds the lock and ``wait`` is false. Systems without such locks (Windows) always
    yield True. Raises OSError if the file cannot be written.
    """
    try:
        import fcntl
    except ImportError:
        yield True
        return
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _beside(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a file or folder with a hidden name beside ``path``, with the permissions that new ones get here.

    It is removed in the end, if it is still there, and so is what killed processes left under such names.
    """
    path = path.absolute()  # pyarrow takes a relative name with a colon for the address of a file system
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left_over(path):
        _remove(left)
    part = path.with_name(f".{path.name}.{token_hex(8)}")
    make(part)
    lock = _lock(part)
    try:
        yield part
    finally:
        _remove(part)
        if lock is not None:
            os.close(lock)


@contextmanager
def _filling(part: Path) -> Iterator[None]:
    """Note that a temporary file or folder may be removed in this block."""
    _unfinished.add(part)
    try:
        yield
    finally:
        with _settling:
            _unfinished.discard(part)


def _left_over(path: Path) -> list[Path]:
    """The temporary files and folders beside ``path`` whose processes have ended.

    Those of the last minute stay: a process may have made one and not locked it yet.
    """
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
    left = []
    for other in path.parent.glob(".*") if path.name else ():
        if pattern.fullmatch(other.name) and (lock := _lock(other)) is not None:
            if time.time() - os.fstat(lock).st_mtime > MINUTE:
                left.append(other)
            os.close(lock)
    return left


def _bring_back(folder: Path, names: Sequence[str]) -> None:
    """Move back the other files of a folder, where a process was killed after an exchange and before it moved them."""
    if folder.is_dir():
        for left in _left_over(folder):
            if left.is_dir():
                _move_others(left, folder, names)
                _remove(left)


def _move_others(source: Path, target: Path, names: Sequence[str]) -> None:
    """Move all entries but ``names`` to another folder, unless it has an entry of that name."""
    for entry in source.iterdir():
        if entry.name not in names and not (target / entry.name).exists():
            entry.rename(target / entry.name)


def _lock(path: Path) -> int | None:
    """Lock a file or folder for the life of this process; None if another process holds it, or no lock is possible."""
    try:
        import fcntl

        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except (ImportError, OSError):
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(number)
        return None
    return number


def _renamed(part: Path, folder: Path) -> bool:
    """Give a new folder its final name; False where there is one of that name."""
    if folder.exists():
        return False
    try:
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has just made it
            raise
        return False
    _flush(folder.parent)
    return True


def _replace_each(part: Path, folder: Path, names: Sequence[str]) -> None:
    """Move the files of ``names`` into a folder one by one, and remove those of its own that are not in ``part``."""
    for name in names:
        if (part / name).exists():
            (part / name).replace(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    _flush(folder)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step, as only Linux can; False where that is impossible."""
    import ctypes

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    current, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(current, os.fsencode(first), current, os.fsencode(second), exchange) == 0)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _flush_all(folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            _flush(file)


def _flush(path: Path) -> None:
    """Flush a file's content to disk, or the names in a folder."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        if not path.is_dir():  # some file systems cannot flush folders
            raise
    finally:
        os.close(number)
