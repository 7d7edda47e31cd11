"""Compiled kernels on disk: one file for each kernel, signature and CPU, read only where no other user can write.

Numba's own cache keeps an index beside numbered files of machine code. Two processes that compile two signatures at
once can give both the same number, and a damaged file ends every later run. Here there is no index: the name of a file
holds the digest of all that its content depends on, and its first bytes hold the digest of its content. A file that is
damaged, or that another user could have written, is never unpickled; the kernel is compiled again.
"""

import atexit
import fcntl
import hashlib
import os
import pickle
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

MAGIC = b"fastsim kernel 1\n"
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


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
_said: set[str] = set()


def _say_once(subject: str, message: str) -> None:
    if subject not in _said:
        _said.add(subject)
        warnings.warn(message, stacklevel=2)


class KernelCache(_Cache):  # type: ignore[misc]
    """The files of one function. ``folder``: below ROOT and READ_ONLY_ROOT; ``stamp``: names the function's source."""

    def __init__(self, function: Callable[..., Any], folder: str, stamp: str) -> None:
        self._function, self._stamp = function, stamp
        self._folder = ROOT / folder
        self._folders = [self._folder, *([READ_ONLY_ROOT / folder] if READ_ONLY_ROOT else [])]
        self._enabled = True
        self._lock: int | None = None

    @property
    def cache_path(self) -> str:
        """The folder that files are written to."""
        return str(self._folder)

    def enable(self) -> None:
        """Use the files."""
        self._enabled = True

    def disable(self) -> None:
        """Neither read nor write files."""
        self._enabled = False

    def flush(self) -> None:
        """Remove the function's files."""
        for path in self._folder.glob(f"{self._function.__name__}-*.bin"):
            path.unlink(missing_ok=True)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function for a signature; None where it has to be compiled.

        In that case the function is locked against other processes until ``save_overload``, so that each signature is
        compiled once and the processes that wait then find it here.
        """
        target_context.refresh()
        if not self._enabled:
            return None
        name = self._name(sig, target_context.codegen())
        compiled = self._load(name, target_context)
        if compiled is None and self._acquire():
            compiled = self._load(name, target_context)
            if compiled is not None:
                self._release()
        return compiled

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function of a signature. Where that is impossible, say so once; the run goes on."""
        try:
            if self._enabled and not data.lifted and not data.library.has_dynamic_globals:
                self._save(self._folder / self._name(sig, data.codegen), dumps(data._reduce()))
        except OSError as problem:
            reason = problem.strerror or str(problem)
            _say_once(str(ROOT), f"{ROOT}: compiled kernels cannot be kept ({reason}); set FASTSIM_CACHE_DIR")
        finally:
            self._release()

    def _name(self, sig: Any, codegen: Any) -> str:
        code, closure = self._function.__code__, self._function.__closure__
        cells = dumps(tuple(cell.cell_contents for cell in closure)) if closure else b""
        parts = (
            repr(sig),
            repr(codegen.magic_tuple()),  # the CPU and its features
            f"{numba.__version__} {sys.version_info[:3]} {sys.implementation.cache_tag}",
            self._stamp,
            f"{self._function.__module__}.{self._function.__qualname__}",
            hashlib.sha256(code.co_code).hexdigest(),
            hashlib.sha256(cells).hexdigest(),
        )
        return f"{self._function.__name__}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}.bin"

    def _load(self, name: str, target_context: Any) -> Any:
        for folder in self._folders:
            path = folder / name
            try:
                payload = _read(path)
                if payload is not None:
                    return CompileResult._rebuild(target_context, *pickle.loads(payload))
            except FileNotFoundError:
                continue
            except Exception as problem:
                # The kernel can always be compiled again.
                _say_once(str(path), f"{path}: unusable ({problem or type(problem).__name__}); compiled again")
                with suppress(OSError):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        return None

    def _save(self, path: Path, payload: bytes) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        prefix = f"{self._function.__name__}."
        for left in path.parent.glob(f"{prefix}*.part"):  # of a process that was killed: this one holds the lock
            left.unlink(missing_ok=True)
        number, part = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=".part")
        try:
            with os.fdopen(number, "wb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
            Path(part).replace(path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def _acquire(self) -> bool:
        """Lock the function against other processes; return False if that is impossible, or if it is locked already."""
        if self._lock is not None:
            return False
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            number = os.open(self._folder / f"{self._function.__name__}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            return False
        try:
            fcntl.flock(number, fcntl.LOCK_EX)
        except BaseException as problem:
            os.close(number)
            if isinstance(problem, OSError):
                return False
            raise
        self._lock = number
        return True

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _read(path: Path) -> bytes | None:
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
    head, payload = content[: len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if head != MAGIC + hashlib.sha256(payload).digest():
        raise ValueError("damaged")
    return payload
