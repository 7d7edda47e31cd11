"""Writing files and folders in one atomic step: readers see the old content or the new, never a part of it.

A step writes under a temporary, hidden name beside the final one, flushes to disk, and renames. On failure the
temporary files are removed and the old content stays.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

from fastsim.errors import OutputError


@contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary file beside ``path``, which is renamed to ``path`` when the block ends without an error.

    ``durable``: flush the content to disk before the rename, so that a power failure cannot leave an empty file.
    Raises OSError.
    """
    part = _beside(path, lambda name: os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)))
    try:
        yield part
        if durable:
            _flush(part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, names: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``, which is renamed to ``folder`` when the block ends without an error.

    Where ``folder`` exists by then, the files of ``names`` move into it one by one, those of ``names`` that were not
    written are removed from it, and its other files stay. Raises OSError.
    """
    part = _beside(folder, os.mkdir)
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file():
                _flush(file)
        if not folder.exists():
            try:
                part.rename(folder)
                return
            except OSError:
                if not folder.is_dir():  # otherwise another process has just made it
                    raise
        for name in names:
            if (part / name).exists():
                (part / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def replacing(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """``atomic_folder`` for a user's results: raises OutputError where it cannot be written."""
    refuse_file(folder)
    try:
        with atomic_folder(folder, names) as part:
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


def refuse_file(folder: Path) -> None:
    """Raise OutputError if a file has the name of a folder that is to be written."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder; name another folder, or remove it")


def refuse_folder(path: Path, name: str = "result") -> None:
    """Raise OutputError if a folder has the name of a file that is to be written; ``name``: one to suggest in it."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file, e.g. {path / name}")


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


def _beside(path: Path, make: Callable[[Path], None]) -> Path:
    """Make a file or folder with a hidden name beside ``path``, with the permissions that new ones get here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{token_hex(8)}")
    make(part)
    return part


def _flush(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
