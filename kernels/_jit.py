"""The decorators of kernels."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.dispatcher import Dispatcher

from ._cache import KernelCache
from ._compiler import PartCompiler, WholeCompiler, widened
from ._folder import KERNELS

F = TypeVar("F", bound=Callable[..., Any])

# Kernels change arrays that the shell owns and allocate none of their own. Without Numba's runtime they do not count
# references to arrays, which would take fifty times longer than the simulation itself.
_OPTIONS = {"nogil": True, "error_model": "numpy", "_nrt": False}
# A part is called by kernels only, and needs no entry from Python.
_PART_OPTIONS = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def _cache_of(function: Callable[..., Any]) -> KernelCache:
    """The cache of a function: copies of the same kernels share theirs, wherever they are installed.

    The name of the folder is the digest of all kernels' text; other functions are named by path and content.
    """
    file = Path(function.__code__.co_filename).resolve()
    if file.is_relative_to(KERNELS):
        return KernelCache(function, str(file.relative_to(KERNELS).with_suffix("")), "")
    name = hashlib.sha256(str(file).encode()).hexdigest()[:16]
    stamp = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
    return KernelCache(function, f"{file.stem}_{name}", stamp)


def kernel(function: F) -> F:
    """Compile an entry that Python calls: cached on disk, without the GIL, arithmetic as written."""
    compiled: F = numba.njit(pipeline_class=WholeCompiler, no_cfunc_wrapper=True, **_OPTIONS)(function)
    if isinstance(compiled, Dispatcher):  # not where kernels are interpreted
        vars(compiled)["_cache"] = _cache_of(compiled.py_func)
    return compiled


def inlined(function: F) -> F:
    """Compile a part of a kernel into its caller.

    Python cannot call such a part; a test that has to needs a kernel around it. A comparison of an argument with a
    function by ``is`` is always False here: a part that makes one must be ``merged``.
    """
    return _part(function, forceinline=True)


def merged(function: F) -> F:
    """Write a thin part of a kernel into its caller, as if it stood there, before types are inferred.

    Use it for parts that take functions as arguments, and for conditions whose outcome is known when the kernel is
    compiled: branches that cannot be taken are then left out (see _known).
    """
    return _part(function, inline="always")


def apart(function: F) -> F:
    """Compile a part of a kernel that is seldom called, and takes few arguments, as a function of its own."""
    return _part(function)


def _part(function: F, **options: Any) -> F:
    part: F = numba.njit(pipeline_class=PartCompiler, **options, **_PART_OPTIONS)(function)
    if isinstance(part, Dispatcher):
        template = part.get_call_template
        vars(part)["get_call_template"] = lambda args, kws: template([widened(kind) for kind in args], kws)
    return part
