"""Numba's compiler, with only the passes that kernels need and with our own libraries and translation to LLVM."""

import gc
from typing import Any

from numba import types
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager

from ._known import KnownFields
from ._library import Part, Whole
from ._lowering import KernelLowering

# Numba's other passes are for closures, lists and array expressions, which kernels do not use.
PASSES = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.GenericRewrites,
    untyped_passes.InlineInlinables,
    KnownFields,
    untyped_passes.ReconstructSSA,
    typed_passes.NopythonTypeInference,
    typed_passes.PreLowerStripPhis,
    typed_passes.NoPythonSupportedFeatureValidation,
    typed_passes.IRLegalization,
    typed_passes.AnnotateTypes,
    KernelLowering,
    typed_passes.NoPythonBackend,
)


class _Compiler(CompilerBase):  # type: ignore[misc]
    kind: type[JITCodeLibrary]

    def __init__(self, typing_context: Any, context: Any, library: Any, *others: Any) -> None:
        own = self.kind(context.codegen(), self.kind.__name__)
        own.enable_object_caching()
        super().__init__(typing_context, context, own, *others)

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager("kernel")
        for each in PASSES:
            manager.add_pass(each, each.__name__)
        manager.finalize()
        return [manager]


class PartCompiler(_Compiler):
    """Compiles a part."""

    kind = Part


class WholeCompiler(_Compiler):
    """Compiles a kernel together with its parts."""

    kind = Whole

    def _compile_core(self) -> Any:
        # Garbage collection would take about a tenth of the compile time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return super()._compile_core()
        finally:
            if collects:
                gc.enable()


def widened(kind: types.Type) -> types.Type:
    """The type under which a part takes an argument.

    A part is compiled once for all integer types and constants, but separately for each known value of a flag.
    """
    if isinstance(kind, types.BooleanLiteral):
        return kind
    kind = types.unliteral(kind)
    return types.int64 if isinstance(kind, types.Integer) and kind.signed else kind
