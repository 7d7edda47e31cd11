"""Writing a folder of results so that nobody ever sees half of it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastsim.errors import OutputError


@contextmanager
def replacing(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """A temporary folder beside ``folder``; what was written into it takes its place at the end.

    Files of ``names`` that are in ``folder`` and were not written again are removed; other files stay.
    """
    refuse_file(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as problem:
        raise OutputError(
            f"{folder}: cannot be written ({problem.strerror}); name a folder that can, e.g. --out results"
        ) from None
    try:
        yield part
        part.chmod(0o777 & ~_umask())
        if not folder.exists():
            part.rename(folder)
            return
        for name in names:
            if (part / name).exists():
                (part / name).replace(folder / name)
            else:
                (folder / name).unlink(missing_ok=True)
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be written ({problem.strerror})") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, which takes its place at the end, or goes without a trace."""
    refuse_folder(path)
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        os.close(handle)
        part = Path(name)
        yield part
        part.chmod(0o666 & ~_umask())
        part.replace(path)
    except OSError as problem:
        raise OutputError(f"{path}: cannot be written ({problem.strerror}); name a file that can") from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def refuse_file(folder: Path) -> None:
    """Raise OutputError when a file stands where a folder is to be written."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file, not a folder; name another folder, or remove it")


def refuse_folder(path: Path, name: str = "result") -> None:
    """Raise OutputError when a folder stands where a file is to be written, which may be called ``name``."""
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file, e.g. {path / name}")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises OutputError."""
    with writing(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold a lock that ends with this process, however that ends; False: somebody else holds it, and not ``wait``.

    Raises OSError when the file cannot be written. On systems without such locks it is always held.
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
