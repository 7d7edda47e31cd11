"""The one decorator of every kernel, and where its machine code is cached.

Numba's cache looks only at the file a function stands in, so an edit of a helper elsewhere would go unnoticed
and old machine code would run. The cache folder is therefore named by the digest of all kernel sources.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> str:
    sources = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
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


def kernel(function: F) -> F:
    """Compile an entry that Python calls: cached on disk, without the GIL, arithmetic as written."""
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(CACHE_FOLDER)
    try:
        compiled: F = numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before
    return compiled


def inlined(function: F) -> F:
    """Compile a part of a kernel into its caller.

    A call would pass every array of the state anew, some hundred words, once per iteration. Python cannot call
    it: a test that wants to compiles a function around it.
    """
    part: F = numba.njit(forceinline=True, **_PART_OPTIONS)(function)
    return part


def apart(function: F) -> F:
    """Compile a part of a kernel that is seldom called, and takes little, apart from its callers, out of their way."""
    part: F = numba.njit(**_PART_OPTIONS)(function)
    return part
