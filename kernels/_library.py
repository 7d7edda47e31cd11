"""What LLVM makes of a kernel: its parts are linked as they are written, and become machine code once, together.

Numba would optimise each function with all that it calls, and make machine code of it that nobody runs.
"""

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary

# LLVM's higher levels take two and three times as long; the kernels gain less than 5 % from them.
_LEVEL = {"opt": 1, "loop_vectorize": False, "slp_vectorize": False}

_FROM_PYTHON = "_ZN7cpython"  # how the name of an entry begins that takes Python's arguments apart


class _Nowhere:
    """The code generator as a part sees it, which is nowhere in memory."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, env: Any) -> None:
        """Nothing: only functions that Python calls need Numba's environment."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one function, without that of the functions that it calls."""

    @property
    def codegen(self) -> Any:
        return _Nowhere(self._codegen)

    def _optimize_functions(self, module: Any) -> None:
        """Remove what would otherwise be copied into each caller."""
        module.data_layout = self._codegen._data_layout
        passes, builder = llvm.create_new_function_pass_manager(), self._codegen._pass_builder(**_LEVEL)
        passes.add_sroa_pass()
        passes.add_instruction_combine_pass()
        passes.add_simplify_cfg_pass()
        for function in module.functions:
            if not function.is_declaration:
                passes.run(function, builder)

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

    def add_ir_module(self, module: Any) -> None:
        for function in module.functions:
            if function.name.startswith(_FROM_PYTHON) and not function.is_declaration:
                function.attributes.add("noinline")
                function.attributes.add("optnone")  # it runs once for each call from Python
        super().add_ir_module(module)

    def _optimize_functions(self, module: Any) -> None:
        module.data_layout = self._codegen._data_layout

    def finalize(self) -> None:
        found: dict[Any, None] = {}
        _collect(self, found)
        self._linking_libraries = [each for each in reversed(found) if each is not self]
        super().finalize()

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager(**_LEVEL)
        passes.run(self._final_module, builder)


def _collect(library: Any, found: dict[Any, None]) -> None:
    """Add a library after all that it calls: LLVM links those parts only that are called by what is linked before.

    Others than parts hold what they call.
    """
    if library not in found:
        if isinstance(library, Part | Whole):
            for each in library._linking_libraries:
                _collect(each, found)
        found[library] = None
