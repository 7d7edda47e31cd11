"""How kernels pass on tuples of arrays: as one address, instead of seven words for each array in them.

The state of a simulation has some hundred arrays. By value, each call of a part would pass all their words, which takes
most of the time of compiling, although the part is compiled into its caller afterwards.
"""

import operator
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import (
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    overload,
    register_model,
)

T = TypeVar("T")
_ADDRESS = ir.IntType(8).as_pointer()


class Pointed(types.Type):  # type: ignore[misc]
    """A tuple in memory that stays as it is while the kernel runs; the arrays in it may change."""

    def __init__(self, pointee: types.BaseTuple) -> None:
        self.pointee = pointee
        super().__init__(f"pointed({pointee})")


@register_model(Pointed)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Pointed) -> None:
        super().__init__(manager, kind, _ADDRESS)


def pointed(value: T) -> T:
    """The same tuple, passed on as its address. Arrays in it may change; the tuple stays as it is.

    Parameters
    ----------
    value : tuple of arrays, numbers and such tuples.
    """
    return value


def _element(kind: types.Type) -> types.Type:
    """The type of an element, once it is taken out."""
    return Pointed(kind) if isinstance(kind, types.BaseTuple) else kind


def _take(context: Any, builder: Any, kind: types.Type, address: Any) -> Any:
    """The element of a type that lies at an address: its own address where it is a tuple, else its value."""
    if isinstance(kind, types.BaseTuple):
        return builder.bitcast(address, _ADDRESS)
    model = context.data_model_manager[kind]
    if not isinstance(kind, types.Array):
        return model.from_data(builder, _load(builder, address))
    array = cgutils.create_struct_proxy(kind)(context, builder)
    for place, field in enumerate(model._fields):
        setattr(array, field, _load(builder, cgutils.gep_inbounds(builder, address, 0, place)))
    return array._getvalue()


def _load(builder: Any, address: Any) -> Any:
    """Load what never changes, so that LLVM need not load it again after each store to an array."""
    value = builder.load(address)
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


def _struct(context: Any, builder: Any, kind: Pointed, value: Any) -> Any:
    """The address of a tuple, with its type."""
    return builder.bitcast(value, context.get_data_type(kind.pointee).as_pointer())


def _store(context: Any, builder: Any, kind: types.Type, value: Any, address: Any) -> None:
    if isinstance(kind, types.BaseTuple):
        for place, each in enumerate(kind):
            part = builder.extract_value(value, place)
            _store(context, builder, each, part, cgutils.gep_inbounds(builder, address, 0, place))
    else:
        builder.store(context.data_model_manager[kind].as_data(builder, value), address)


@intrinsic
def _pointed(typing_context: Any, kind: types.Type) -> Any:
    """Store a tuple, and pass on its address in a way that LLVM cannot see through.

    Loads are told that what they read never changes, and so must not be moved before the stores.
    """

    def store(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = cgutils.alloca_once(builder, context.get_data_type(kind))
        _store(context, builder, kind, arguments[0], place)
        hidden = ir.FunctionType(_ADDRESS, [_ADDRESS])
        address = builder.bitcast(place, _ADDRESS)
        return builder.asm(hidden, "", "=r,0,~{memory}", [address], side_effect=True)

    return signature(Pointed(kind), kind), store


@overload(pointed, strict=False, inline="always")  # as the place is in the frame of the function that calls
def _overload_pointed(value: types.Type) -> Any:
    if isinstance(value, types.BaseTuple):
        return lambda value: _pointed(value)
    return None


@infer_getattr
class _Attribute(AttributeTemplate):  # type: ignore[misc]
    key = Pointed

    def generic_resolve(self, kind: Pointed, name: str) -> Any:
        pointee = kind.pointee
        if isinstance(pointee, types.BaseNamedTuple) and name in pointee.fields:
            return _element(pointee[pointee.fields.index(name)])
        return None


@lower_getattr_generic(Pointed)
def _attribute(context: Any, builder: Any, kind: Pointed, value: Any, name: str) -> Any:
    place = kind.pointee.fields.index(name)
    address = cgutils.gep_inbounds(builder, _struct(context, builder, kind, value), 0, place)
    return _take(context, builder, kind.pointee[place], address)


@infer_global(operator.getitem)
class _Item(AbstractTemplate):  # type: ignore[misc]
    def generic(self, arguments: Any, keywords: Any) -> Any:
        kind, _ = arguments
        if isinstance(kind, Pointed) and isinstance(kind.pointee, types.UniTuple | types.NamedUniTuple):
            return signature(_element(kind.pointee.dtype), kind, types.intp)
        return None


@lower_builtin(operator.getitem, Pointed, types.Integer)
def _item(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    kind, (value, index) = sig.args[0], arguments
    address = cgutils.gep_inbounds(builder, _struct(context, builder, kind, value), 0, index)
    return _take(context, builder, kind.pointee.dtype, address)


@overload(len, strict=False)
def _length(value: types.Type) -> Any:
    if isinstance(value, Pointed):
        number = len(value.pointee)
        return lambda value: number
    return None
