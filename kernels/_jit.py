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
from numba.core.caching import _UserWideCacheLocator

F = TypeVar("F", bound=Callable[..., Any])


def _digest() -> str:
    sources = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        sources.update(source.read_bytes())
    # Bounds checking is compiled in, and is not part of numba's own cache key.
    sources.update(f"bounds={int(numba.config.BOUNDSCHECK or 0)}".encode())
    return sources.hexdigest()[:16]


def _cache_root() -> Path:
    """A writable folder for machine code: the user's cache, else a temporary folder of this user."""
    home = os.environ.get("FASTSIM_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME")
    wanted = Path(home) / "fastsim" if home else Path.home() / ".cache" / "fastsim"
    try:
        wanted.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=wanted):
            return wanted
    except OSError:
        return Path(tempfile.gettempdir()) / f"fastsim-{os.getuid() if hasattr(os, 'getuid') else 'cache'}"
