"""How kernels are translated to LLVM: as by Numba, but with fewer instructions for what they do most often.

For each access to an element of an array, Numba writes about thirty instructions, and it zeroes every variable that is
no longer used. LLVM spends most of its time removing all that again.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.core.typed_passes import BaseNativeLowering

from ._library import Part

NUMBER, ITEM_SIZE, DATA, SHAPE, STRIDES = range(2, 7)  # positions in Numba's struct of an array


def new_array(context: Any, builder: Any, kind: types.Array, data: Any, shape: list[Any]) -> Any:
    """Numba's struct of a contiguous array whose items begin at ``data``."""
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
    strides, number = [size], shape[-1]
    for length in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], length))
    for length in shape[:-1]:
        number = builder.mul(number, length)
    array = ir.Constant(context.get_value_type(kind), ir.Undefined)
    for place, value in ((NUMBER, number), (ITEM_SIZE, size), (DATA, data)):
        array = builder.insert_value(array, value, place)
    for axis in range(kind.ndim):
        array = builder.insert_value(array, shape[axis], (SHAPE, axis))
        array = builder.insert_value(array, strides[axis], (STRIDES, axis))
    return array


class _Lower(Lower):  # type: ignore[misc]
    """Translates one function."""

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def delvar(self, name: str) -> None:
        if name not in self._blk_local_varmap:
            self._singly_assigned_vars.discard(name)

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        kind, indices = self.typeof(value.name), self._indices(value, index)
        if indices is None:
            return super().lower_getitem(resty, expr, value, index, signature)
        array = self.loadvar(value.name)
        address, shape = self._address(array, kind, indices)
        if shape:
            return new_array(self.context, self.builder, resty, address, shape)
        item = self.context.unpack_value(self.builder, kind.dtype, address)
        return self.context.cast(self.builder, item, signature.return_type, resty)

    def lower_setitem(self, target_var: Any, index_var: Any, value_var: Any, signature: Any) -> Any:
        kind, indices = self.typeof(target_var.name), self._indices(target_var, index_var)
        given = self.typeof(value_var.name)
        if indices is None or len(indices) < kind.ndim or not isinstance(given, types.Number | types.Boolean):
            return super().lower_setitem(target_var, index_var, value_var, signature)
        address, _ = self._address(self.loadvar(target_var.name), kind, indices)
        value = self.context.cast(self.builder, self.loadvar(value_var.name), given, kind.dtype)
        self.context.pack_value(self.builder, kind.dtype, value, address)
        return None

    def _lower_call_normal(self, fnty: Any, expr: Any, signature: Any) -> Any:
        """Call a function; the status that Numba returns beside the result is ignored, as parts raise no exceptions."""
        called = fnty.dispatcher.overloads[signature.args] if isinstance(fnty, types.Dispatcher) else None
        if called is None or not isinstance(called.library, Part) or self.context.enable_boundscheck:
            return super()._lower_call_normal(fnty, expr, signature)
        given = self.fold_call_args(fnty, signature, expr.args, expr.vararg, expr.kws)
        self.context.add_linking_libs([called.library])
        function = self.context.declare_function(self.module, called.fndesc)
        returned, error = (kind.pointee for kind in function.function_type.args[:2])
        with self.builder.goto_entry_block():
            place, trouble = self.builder.alloca(returned), self.builder.alloca(error)
        packed = self.context.get_arg_packer(signature.args).as_arguments(self.builder, given)
        self.builder.call(function, [place, trouble, *packed])
        return self.context.get_returned_value(self.builder, signature.return_type, self.builder.load(place))

    def _indices(self, array: Any, index: Any) -> list[tuple[types.Type, Any]] | None:
        """The types and values of integer indices into a contiguous array; None for anything else, left to Numba."""
        kind, given = self.typeof(array.name), self.typeof(index.name)
        kinds = list(given) if isinstance(given, types.BaseTuple) else [given]
        plain = isinstance(kind, types.Array) and kind.layout == "C" and kind.aligned and len(kinds) <= kind.ndim
        if not plain or self.context.enable_boundscheck or not all(isinstance(each, types.Integer) for each in kinds):
            return None
        value = self.loadvar(index.name)
        if not isinstance(given, types.BaseTuple):
            return [(given, value)]
        return [(each, self.builder.extract_value(value, place)) for place, each in enumerate(kinds)]

    def _address(self, array: Any, kind: types.Array, indices: list[tuple[types.Type, Any]]) -> tuple[Any, list[Any]]:
        """The address of an element, or of the first element of a row, and the shape of the row."""
        build, offset = self.builder, None
        shape = [build.extract_value(array, (SHAPE, axis)) for axis in range(kind.ndim)]
        for axis, length in enumerate(shape):
            if offset is not None:
                offset = build.mul(offset, length)
            if axis < len(indices):
                place = self._from_start(*indices[axis], length)
                offset = place if offset is None else build.add(offset, place)
        return build.gep(build.extract_value(array, DATA), [offset]), shape[len(indices) :]

    def _from_start(self, kind: types.Type, index: Any, length: Any) -> Any:
        """An index from the start of the axis. Only a constant may count from its end: no test costs least."""
        build = self.builder
        if isinstance(kind, types.IntegerLiteral):
            place = self.context.get_constant(types.intp, kind.literal_value)
            return place if kind.literal_value >= 0 else build.add(place, length)
        return self.context.cast(build, index, kind, types.intp if kind.signed else types.uintp)


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(BaseNativeLowering):  # type: ignore[misc]
    """Numba's translation to LLVM, with the instructions above."""

    _name = "kernel_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return _Lower
