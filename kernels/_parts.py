"""How the parts of a kernel are compiled: to LLVM's language one by one, and from there to machine code once, together.

Numba would optimise each function with all that it calls, and make machine code of it that nobody runs.
"""

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _Nowhere:
    """The code generator as a part sees it, which is nowhere in memory."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, env: Any) -> None:
        """Nothing: only functions that Python calls need Numba's environment."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one function, as it is written."""

    @property
    def codegen(self) -> Any:
        return _Nowhere(self._codegen)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        self._raise_if_finalized()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvm.Linkage.external:
                function.linkage = "linkonce_odr"  # so that it goes once it has been compiled into its callers
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        return self._final_module

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0


class Whole(JITCodeLibrary):  # type: ignore[misc]
    """A kernel with all its parts."""

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        found: dict[Any, None] = {}
        _collect(self, found)
        self._linking_libraries = list(found)
        super().finalize()

    def _optimize_final_module(self) -> None:
        # LLVM's higher levels take two and three times as long; the kernels gain less than 5 % from them.
        passes, builder = self._codegen._module_pass_manager(opt=1, loop_vectorize=False, slp_vectorize=False)
        passes.run(self._final_module, builder)


def _collect(library: Any, found: dict[Any, None]) -> None:
    """Add what a library calls, and what these call, to what was found. Others than parts hold what they call."""
    for each in library._linking_libraries:
        if each not in found:
            found[each] = None
            if isinstance(each, Part):
                _collect(each, found)


class _Compiler(Compiler):  # type: ignore[misc]
    """Numba's compiler with a library of our own."""

    kind: type[JITCodeLibrary]

    def __init__(self, typing_context: Any, context: Any, library: Any, *others: Any) -> None:
        own = self.kind(context.codegen(), self.kind.__name__)
        own.enable_object_caching()
        super().__init__(typing_context, context, own, *others)


class PartCompiler(_Compiler):
    """Compiles a part."""

    kind = Part


class WholeCompiler(_Compiler):
    """Compiles a kernel."""

    kind = Whole
