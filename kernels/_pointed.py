"""How kernels pass tuples of arrays to their parts: as a single address instead of seven words for each array.

The state of a simulation has more than a hundred arrays. Passed by value, all their words would appear in every call of
a part, and take most of the compile time even though the part is then inlined into its caller.
"""

import hashlib
import operator
from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import lower_builtin, lower_getattr_generic, overload, register_model

from ._lowering import DATA, SHAPE, new_array

T = TypeVar("T")
BOUNDS: dict[Callable[..., Any], tuple[str, int, int]] = {}  # field, least and most value, by function: see bound
_ADDRESS = ir.IntType(8).as_pointer()


class Pointed(types.Type):  # type: ignore[misc]
    """The address of a tuple that does not change while the kernel runs, although the contents of its arrays may.

    Attributes
    ----------
    pointee : the type of the tuple.
    bounds : fields whose smallest and largest values are known, with these values.
    """

    def __init__(self, pointee: types.BaseTuple, bounds: tuple[tuple[str, int, int], ...] = ()) -> None:
        self.pointee, self.bounds = pointee, bounds
        # Compiled functions are named after the types of their arguments, and the full name has thousands of letters.
        super().__init__(f"pointed_{hashlib.sha256(f'{pointee} {bounds}'.encode()).hexdigest()[:16]}")

    def field(self, name: str) -> types.Type | None:
        """The type that reading a field gives; None if there is no such field."""
        if not isinstance(self.pointee, types.BaseNamedTuple) or name not in self.pointee.fields:
            return None
        return _element(self.pointee[self.pointee.fields.index(name)])

    def bounded(self, field: str, least: int, most: int) -> "Pointed":
        """The same type, with bounds for a field."""
        return Pointed(self.pointee, (*self.bounds, (field, least, most)))


@register_model(Pointed)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Pointed) -> None:
        super().__init__(manager, kind, _ADDRESS)


def pointed(value: T) -> T:
    """Return the same tuple, passed as an address from here on. The contents of its arrays may change.

    Parameters
    ----------
    value : tuple of arrays, numbers and such tuples.
    """
    return value


def bound(function: Callable[[T], T], field: str, least: int, most: int) -> None:
    """Declare the bounds of a field of the tuple that ``function`` takes and returns unchanged."""

    class Call(AbstractTemplate):  # type: ignore[misc]
        def generic(self, arguments: Any, keywords: Any) -> Any:
            (kind,) = arguments
            return signature(kind.bounded(field, least, most), kind)

    BOUNDS[function] = field, least, most
    infer_global(function)(Call)
    lower_builtin(function, Pointed)(lambda context, builder, sig, arguments: arguments[0])


def _element(kind: types.Type) -> types.Type:
    """The type that reading an element gives."""
    return Pointed(kind) if isinstance(kind, types.BaseTuple) else kind


def _take(context: Any, builder: Any, kind: types.Type, address: Any) -> Any:
    """Read the element at an address: a tuple is passed on as its address, anything else as its value."""
    if isinstance(kind, types.BaseTuple):
        return builder.bitcast(address, _ADDRESS)
    if not isinstance(kind, types.Array):
        return context.data_model_manager[kind].from_data(builder, _load(builder, address))
    if kind.layout != "C":
        return _load(builder, address)
    data = _load(builder, cgutils.gep_inbounds(builder, address, 0, DATA))
    shape = [_load(builder, cgutils.gep_inbounds(builder, address, 0, SHAPE, axis)) for axis in range(kind.ndim)]
    return new_array(context, builder, kind, data, shape)


def _load(builder: Any, address: Any, bounds: tuple[int, int] | None = None) -> Any:
    """Load a value that never changes, so that LLVM does not reload it after every store to an array."""
    value = builder.load(address)
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    if bounds is not None:
        least, most = bounds
        value.set_metadata("range", builder.module.add_metadata([value.type(least), value.type(most + 1)]))
    return value


def _struct(context: Any, builder: Any, kind: Pointed, value: Any) -> Any:
    """Cast the address of a tuple to a pointer to its type."""
    return builder.bitcast(value, context.get_data_type(kind.pointee).as_pointer())


def _store(context: Any, builder: Any, kind: types.Type, value: Any, address: Any) -> None:
    if isinstance(kind, types.BaseTuple):
        for place, each in enumerate(kind):
            part = builder.extract_value(value, place)
            _store(context, builder, each, part, cgutils.gep_inbounds(builder, address, 0, place))
    else:
        builder.store(context.data_model_manager[kind].as_data(builder, value), address)


# Not an ``overload``: when Numba inlines one, it removes stores to arrays whose origin it cannot follow as dead code.
@infer_global(pointed)
class _Call(AbstractTemplate):  # type: ignore[misc]
    def generic(self, arguments: Any, keywords: Any) -> Any:
        (kind,) = arguments
        return signature(Pointed(kind), kind) if isinstance(kind, types.BaseTuple) else None


@lower_builtin(pointed, types.BaseTuple)
def _pointed(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
    """Store a tuple, and return its address in a way that LLVM cannot see through.

    Loads are marked as reading memory that never changes, so LLVM could otherwise move them before these stores.
    """
    (kind,), (value,) = sig.args, arguments
    place = cgutils.alloca_once(builder, context.get_data_type(kind))
    _store(context, builder, kind, value, place)
    hidden = ir.FunctionType(_ADDRESS, [_ADDRESS])
    address = builder.bitcast(place, _ADDRESS)
    return builder.asm(hidden, "", "=r,0,~{memory}", [address], side_effect=True)


@infer_getattr
class _Attribute(AttributeTemplate):  # type: ignore[misc]
    key = Pointed

    def generic_resolve(self, kind: Pointed, name: str) -> Any:
        return kind.field(name)


@lower_getattr_generic(Pointed)
def _attribute(context: Any, builder: Any, kind: Pointed, value: Any, name: str) -> Any:
    place, known = kind.pointee.fields.index(name), {field: (least, most) for field, least, most in kind.bounds}
    address = cgutils.gep_inbounds(builder, _struct(context, builder, kind, value), 0, place)
    if name in known:
        return _load(builder, address, known[name])
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
