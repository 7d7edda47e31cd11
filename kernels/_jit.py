"""The one decorator of every kernel, and where its machine code is cached.

Numba's cache looks only at the file a function stands in, so an edit of a helper elsewhere would go unnoticed
and old machine code would run. The cache folder is therefore named by the digest of all kernel sources.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numba
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])


KERNELS = Path(__file__).resolve().parent


def _digest() -> str:
    sources = hashlib.sha256()
    for source in sorted(KERNELS.rglob("*.py")):
        sources.update(source.read_bytes())
    # Bounds checking is compiled in, and is no part of numba's own cache key.
    sources.update(f"bounds={int(numba.config.BOUNDSCHECK or 0)}".encode())
    return sources.hexdigest()[:16]


def _cache_root() -> Path:
    """A writable folder: $FASTSIM_CACHE_DIR, the user's cache, else a temporary folder of this user's."""
    if chosen := os.environ.get("FASTSIM_CACHE_DIR"):
        wanted = Path(chosen)
    else:
        wanted = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fastsim"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        return Path(tempfile.gettempdir()) / f"fastsim-{os.getuid()}"


CACHE_FOLDER = _cache_root() / "kernels" / _digest()

# Kernels change arrays that the shell owns and allocate none of their own. Without numba's runtime they count
# no references to them, which would otherwise take fifty times longer than the simulation itself.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
# A part is called by kernels only: the way in from Python, which unpacks the whole state, would take most of the
# time of compiling.
_PART_OPTIONS = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Locator:
    """Where the machine code of one function is kept: below CACHE_FOLDER, in a folder named by the function's file.

    CACHE_FOLDER stands for the text of all kernels, so that every copy of the same kernels shares their machine code,
    wherever it is installed. Other functions have a folder by path, and are compiled again when their file changes.
    Numba asks it what it asks its own locators. Setting ``numba.config.CACHE_DIR`` while a kernel is defined would do
    the same, but a thread that puts the setting back between two looks that another takes at it sends the machine
    code to the working directory.
    """

    def __init__(self, function: Any, file: str) -> None:
        self._py_file = file  # numba reads it under this name
        self._line = function.__code__.co_firstlineno
        parent = Path(file).parent.resolve()
        self._is_kernel = parent.is_relative_to(KERNELS)
        name = parent.relative_to(KERNELS) if self._is_kernel else hashlib.sha256(str(parent).encode()).hexdigest()[:16]
        self._folder = CACHE_FOLDER / name

    @classmethod
    def from_function(cls, function: Any, file: str) -> "_Locator":
        return cls(function, file)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def ensure_cache_path(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def get_source_stamp(self) -> tuple[float, int]:
        if self._is_kernel:
            return 0.0, 0
        about = Path(self._py_file).stat()
        return about.st_mtime, about.st_size

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Files(FunctionCache._impl_class):  # type: ignore[misc]
    _locator_classes: ClassVar[list[Any]] = [_Locator]


class _Cache(FunctionCache):  # type: ignore[misc]
    _impl_class = _Files


def kernel(function: F) -> F:
    """Compile an entry that Python calls: cached on disk, without the GIL, arithmetic as written."""
    compiled: F = numba.njit(**_OPTIONS)(function)
    if isinstance(compiled, Dispatcher):  # not where kernels are interpreted
        vars(compiled)["_cache"] = _Cache(compiled.py_func)
    return compiled


def inlined(function: F) -> F:
    """Compile a part of a kernel into its caller.

    A call would pass every array of the state anew, some hundred words, once per iteration. Python cannot call
    it: a test that wants to compiles a function around it.
    """
    part: F = numba.njit(forceinline=True, **_PART_OPTIONS)(function)
    return part


def merged(function: F) -> F:
    """Write a thin part of a kernel into its caller, as if it stood there, before types are inferred.

    For parts that do little but pass the state on, or that take functions as arguments: they add nothing to the time
    of compiling, which ``inlined`` does with every function that takes the state.
    """
    part: F = numba.njit(inline="always", **_PART_OPTIONS)(function)
    return part


def apart(function: F) -> F:
    """Compile a part of a kernel that is seldom called, and takes little, apart from its callers, out of their way."""
    part: F = numba.njit(**_PART_OPTIONS)(function)
    return part
