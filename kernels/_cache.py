"""Numba's compiled functions on disk: one file for each function, signature and CPU.

Numba's own cache keeps an index beside numbered files of machine code. Two processes that compile two signatures at
once can give both the same number, and a damaged file ends every later run. Here there is no index: see _folder.
"""

import fcntl
import hashlib
import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Timer
from typing import Any

import numba
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from ._folder import folders, load, save

MAGIC = b"fastsim kernel 1\n"
SILENT_S = 1.0  # compiling that takes longer is said, to Python's logger "fastsim"


class KernelCache(_Cache):  # type: ignore[misc]
    """The files of one function. ``folder``: within CACHE_FOLDER; ``stamp``: names the function's source."""

    def __init__(self, function: Callable[..., Any], folder: str, stamp: str) -> None:
        self._function, self._stamp = function, stamp
        what = f"the scheduler {Path(folder).name}" if folder.startswith("schedulers/") else "a policy"
        self._said = f"compiling {what}; later runs load it"
        self._folders = folders(folder)
        self._folder = self._folders[0]
        self._enabled = True
        self._lock: int | None = None
        self._notice: Timer | None = None

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
        # Loading needs none of numba's registries, which compiling loads itself: half a second of CPU.
        if not self._enabled:
            return None
        name = self._name(sig, target_context.codegen())
        compiled = self._load(name, target_context)
        if compiled is None:
            self._announce()
            if self._acquire():
                compiled = self._load(name, target_context)
                if compiled is not None:
                    self._release()
        return compiled

    def _announce(self) -> None:
        self._notice = Timer(SILENT_S, logging.getLogger("fastsim").warning, (self._said,))
        self._notice.daemon = True
        self._notice.start()

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the compiled function of a signature. Where that is impossible, say so once; the run goes on."""
        try:
            if self._enabled and not data.lifted and not data.library.has_dynamic_globals:
                path = self._folder / self._name(sig, data.codegen)
                save(path, MAGIC, dumps(data._reduce()), f"{self._function.__name__}.")
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
            found = load(folder / name, MAGIC, lambda payload: _rebuilt(target_context, payload))
            if found is not None:
                return found
        return None

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
        if self._notice is not None:
            self._notice.cancel()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _rebuilt(target_context: Any, payload: bytes) -> Any:
    """Numba's compile result, with its object code, which loading would take away: _machine_code keeps it."""
    library, *rest = pickle.loads(payload)
    compiled = CompileResult._rebuild(target_context, library, *rest)
    _, _, (compiled.library._compiled_object, _) = library
    return compiled
