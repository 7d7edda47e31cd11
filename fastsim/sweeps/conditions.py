"""Conditions over named fields, such as ``tensor_parallel_size * num_replicas <= 16``; nothing in them can run."""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastsim.errors import ConfigError

Values = Mapping[str, Any]
Part = Callable[[Values], Any]

CONSTANTS = {"true": True, "false": False, "null": None}
ARITHMETIC = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
ORDER = {ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge}
EQUALITY = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda value, choices: value in choices,
    ast.NotIn: lambda value, choices: value not in choices,
}
MAX_LENGTH = 2000
VALID = "a condition is made of fields, numbers, text, lists, + - * / // %, comparisons, in, and, or, not"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, and the fields it speaks of."""

    text: str
    place: str
    fields: frozenset[str]
    holds_for: Part

    def holds(self, values: Values) -> bool:
        """Whether it is true of ``values``, by field. Raises ConfigError where it is neither true nor false."""
        try:
            found = self.holds_for(values)
        except ZeroDivisionError:
            raise ConfigError(f"{self.place}: {self.text!r} divides by zero") from None
        except TypeError:
            given = ", ".join(f"{name} {values[name]!r}" for name in sorted(self.fields))
            raise ConfigError(
                f"{self.place}: {self.text!r} cannot be computed with {given} (null has no order: write "
                "`field == null or ...`)"
            ) from None
        if not isinstance(found, bool):
            raise ConfigError(f"{self.place}: {self.text!r} is {found!r}, not true or false (e.g. num_gpus <= 16)")
        return found


def parse(text: Any, place: str) -> Condition:
    """The condition that ``text`` holds; ``place`` names it in messages. Raises ConfigError."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH:
        raise ConfigError(f"{place}: {str(text)[:60]!r} is not a condition (e.g. num_gpus <= 16)")
    try:
        fields: set[str] = set()
        part = _part(ast.parse(text.strip(), mode="eval").body, fields, place)
        return Condition(text.strip(), place, frozenset(fields), part)
    except SyntaxError as problem:
        raise ConfigError(f"{place}: {text!r} is not a condition: {problem.msg} (e.g. num_gpus <= 16)") from None
    except (RecursionError, MemoryError, ValueError):
        raise ConfigError(f"{place}: {text[:60]!r}... is nested too deeply, or not text") from None


def _part(node: ast.expr, fields: set[str], place: str) -> Part:
    """A function that computes ``node``; the fields that it reads are added to ``fields``."""

    def inner(one: ast.expr) -> Part:
        return _part(one, fields, place)

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return lambda values: value
        case ast.Name(id=name) if name in CONSTANTS:
            constant = CONSTANTS[name]
            return lambda values: constant
        case ast.Name() | ast.Attribute():
            field = _dotted(node, place)
            fields.add(field)
            return lambda values: values[field]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            parts = [inner(one) for one in elements]
            return lambda values: [part(values) for part in parts]
        case ast.BoolOp(op=ast.And(), values=terms):
            parts = [inner(one) for one in terms]
            return lambda values: all(_truth(part(values)) for part in parts)
        case ast.BoolOp(values=terms):
            parts = [inner(one) for one in terms]
            return lambda values: any(_truth(part(values)) for part in parts)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            part = inner(operand)
            return lambda values: not _truth(part(values))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            part = inner(operand)
            return lambda values: -_number(part(values))
        case ast.BinOp(op=sign, left=left, right=right) if type(sign) in ARITHMETIC:
            compute, first, second = ARITHMETIC[type(sign)], inner(left), inner(right)
            return lambda values: compute(_number(first(values)), _number(second(values)))
        case ast.Compare(ops=signs, left=left, comparators=others):
            compares = [ORDER.get(type(sign)) or EQUALITY.get(type(sign)) for sign in signs]
            if None not in compares:
                return _comparison([inner(one) for one in (left, *others)], compares)
    raise ConfigError(f"{place}: {ast.unparse(node)!r} cannot stand in a condition; {VALID}")


def _comparison(parts: list[Part], compares: list[Any]) -> Part:
    """``a < b <= c``, each term computed once at most."""

    def compare(values: Values) -> bool:
        left = parts[0](values)
        for holds, part in zip(compares, parts[1:], strict=True):
            right = part(values)
            if not holds(left, right):
                return False
            left = right
        return True

    return compare


def _dotted(node: ast.expr, place: str) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value, place)}.{name}"
    raise ConfigError(f"{place}: {ast.unparse(node)!r} is not a field (e.g. scheduler.max_num_seqs)")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    """Text and lists must not be multiplied: that could fill the memory."""
    if not isinstance(value, int | float):
        raise TypeError
    return value
