"""A compiler pass that removes branches which, by the types of the arguments, can never be taken."""

import operator
from typing import Any

from numba import types
from numba.core import ir
from numba.core.analysis import dead_branch_prune
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.ir_utils import build_definitions, find_const, get_definition, guard

from ._pointed import BOUNDS, Pointed

COMPARED = (operator.gt, operator.ge, operator.lt, operator.le, operator.eq, operator.ne)


@register_pass(mutates_CFG=True, analysis_only=False)
class KnownFields(FunctionPass):  # type: ignore[misc]
    """Replaces conditions whose outcome is known by constants, and removes the branches that become unreachable."""

    _name = "known_fields"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        code, before = state.func_ir, 0
        number = len(code.blocks)
        while len(code.blocks) != before:
            before = len(code.blocks)
            _replace_known(code, state.args)
            dead_branch_prune(code, state.args)
            code._definitions = build_definitions(code.blocks)
        return len(code.blocks) < number


def _replace_known(code: Any, given: tuple[types.Type, ...]) -> None:
    """Replace conditions whose outcome is known by constants."""
    for block in code.blocks.values():
        for statement in block.find_insts(ir.Assign):
            answer = _answer(code, given, statement.value)
            if answer is not None:
                defined, constant = code._definitions[statement.target.name], ir.Const(answer, statement.loc)
                defined[defined.index(statement.value)] = statement.value = constant


def _answer(code: Any, given: tuple[types.Type, ...], value: Any) -> bool | None:
    """The outcome of a comparison, or the value of a flag that is an argument; None if it is not known."""
    if isinstance(value, ir.Arg) and isinstance(given[value.index], types.BooleanLiteral):
        return bool(given[value.index].literal_value)
    if not isinstance(value, ir.Expr) or value.op != "binop" or value.fn not in COMPARED:
        return None
    bounds, other = _bounds(code, given, value.lhs), guard(find_const, code, value.rhs)
    if bounds is None or not isinstance(other, int):
        return None
    least, most = bounds
    if value.fn in (operator.eq, operator.ne):
        if least <= other <= most and least < most:
            return None
        return bool(value.fn(least, other))
    answers = {bool(value.fn(each, other)) for each in bounds}
    return answers.pop() if len(answers) == 1 else None


def _bounds(code: Any, given: tuple[types.Type, ...], variable: Any) -> tuple[int, int] | None:
    """The smallest and largest value of a variable, if it is a field with known bounds."""
    value = guard(get_definition, code, variable)
    if not isinstance(value, ir.Expr) or value.op != "getattr":
        return None
    source = guard(get_definition, code, value.value)
    if isinstance(source, ir.Expr) and source.op == "call":
        function: Any = getattr(guard(get_definition, code, source.func), "value", None)
        field, least, most = BOUNDS.get(function, ("", 0, 0))
        return (least, most) if field == value.attr else None
    kind = _type(code, given, value.value)
    if isinstance(kind, types.Array) and value.attr == "ndim":
        return kind.ndim, kind.ndim
    if isinstance(kind, Pointed):
        return next(((least, most) for field, least, most in kind.bounds if field == value.attr), None)
    return None


def _type(code: Any, given: tuple[types.Type, ...], variable: Any) -> types.Type | None:
    """The type of a variable that is an argument or a field of one; None for any other."""
    value = guard(get_definition, code, variable)
    if isinstance(value, ir.Arg):
        kind: types.Type = given[value.index]
        return kind
    kind = _type(code, given, value.value) if isinstance(value, ir.Expr) and value.op == "getattr" else None
    return kind.field(value.attr) if isinstance(kind, Pointed) else None
