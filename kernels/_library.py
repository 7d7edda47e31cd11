"""How a kernel and its parts are compiled: the parts are linked into the kernel, which becomes machine code as a whole.

By default, Numba optimises every function together with everything it calls, and compiles each to machine code of its
own, although Python only ever calls the kernel.
"""

from typing import Any

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary

# LLVM's higher optimisation levels take two to three times as long, and make kernels less than 5 % faster.
_LEVEL = {"opt": 1, "loop_vectorize": False, "slp_vectorize": False}

_FROM_PYTHON = "_ZN7cpython"  # prefix of the wrappers through which Python calls kernels


class _Nowhere:
    """The code generator of a part, which is never loaded into memory."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, env: Any) -> None:
        """Do nothing: only functions that Python calls need Numba's environment."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one function, without that of the functions that it calls."""

    @property
    def codegen(self) -> Any:
        return _Nowhere(self._codegen)

    def _optimize_functions(self, module: Any) -> None:
        """Simplify the part before it is copied into its callers."""
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
                function.linkage = "linkonce_odr"  # so that LLVM drops it once it is inlined everywhere
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
                function.attributes.add("optnone")  # it runs only once per call from Python
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
    """Collect a library after everything it calls; the caller reverses the order.

    LLVM only links a part if something linked before it calls it. Libraries other than parts already contain what they
    call.
    """
    if library not in found:
        if isinstance(library, Part | Whole):
            for each in library._linking_libraries:
                _collect(each, found)
        found[library] = None
