"""Conditions over the fields of a configuration, such as ``tensor_parallel_size * num_replicas <= 16``.

The text of a condition is a Python expression made only of the nodes that ``_checked`` lets through, which leaves
nothing that could call, look inside a value, or fill the memory; it is compiled once and evaluated without builtins.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from fastsim.errors import ConfigError
from fastsim.files.documents import short

CONSTANTS = {"true": True, "false": False, "null": None}
MAX_LENGTH = 2000
VALID = "a condition is made of fields, numbers, text, lists, + - * / // %, comparisons, in, and, or, not"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition, where its text comes from, and the dotted names of the fields that it reads."""

    text: str
    source: str
    fields: frozenset[str]
    code: CodeType

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether the condition is true of ``values``, by dotted field. Raises ConfigError if it is not a truth."""
        known = {name: values[name] for name in self.fields}
        try:
            truth = eval(self.code, {"__builtins__": {}, "truth()": _truth, "number()": _number}, known)
        except ZeroDivisionError:
            raise ConfigError(f"{self.source}: {self.text!r} divides by zero") from None
        except (TypeError, OverflowError):
            given = ", ".join(f"{name} {short(known[name])}" for name in sorted(known))
            raise ConfigError(
                f"{self.source}: {self.text!r} cannot be computed with {given} (null has no order: write "
                "`field == null or ...`)"
            ) from None
        if not isinstance(truth, bool):
            raise ConfigError(
                f"{self.source}: {self.text!r} is {short(truth)}, not true or false (e.g. num_gpus <= 16)"
            )
        return truth


def parse(text: Any, source: str) -> Condition:
    """Parse the text of a condition; errors begin with ``source``, where it comes from. Raises ConfigError."""
    if not isinstance(text, str) or not text.strip() or len(text) > MAX_LENGTH:
        raise ConfigError(f"{source}: {short(text)} is not a condition (e.g. num_gpus <= 16)")
    try:
        fields: set[str] = set()
        checked = ast.Expression(_checked(ast.parse(text.strip(), mode="eval").body, fields, source))
        code = compile(ast.fix_missing_locations(checked), "<condition>", "eval")
        return Condition(text.strip(), source, frozenset(fields), code)
    except SyntaxError as problem:
        raise ConfigError(f"{source}: {text!r} is not a condition: {problem.msg} (e.g. num_gpus <= 16)") from None
    except (RecursionError, MemoryError, ValueError):
        raise ConfigError(f"{source}: {text[:60]!r}... is nested too deeply, or not text") from None


def _checked(node: ast.expr, fields: set[str], source: str) -> ast.expr:
    """``node`` with type checks around its operands, and each field as a variable with its dotted name.

    Adds the names of the fields to ``fields``. Raises ConfigError for a node that is not on the list.
    """

    def inner(part: ast.expr, check: str = "") -> ast.expr:
        made = _checked(part, fields, source)
        return ast.Call(ast.Name(check, ast.Load()), [made], []) if check else made

    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None):
            return node
        case ast.Name(id=name) if name in CONSTANTS:
            return ast.Constant(CONSTANTS[name])
        case ast.Name() | ast.Attribute():
            fields.add(field := _dotted(node, source))
            return ast.Name(field, ast.Load())
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return ast.List([inner(element) for element in elements], ast.Load())
        case ast.BoolOp(op=sign, values=terms):
            return ast.BoolOp(sign, [inner(term, "truth()") for term in terms])
        case ast.UnaryOp(op=ast.Not() as sign, operand=operand):
            return ast.UnaryOp(sign, inner(operand, "truth()"))
        case ast.UnaryOp(op=ast.USub() as sign, operand=operand):
            return ast.UnaryOp(sign, inner(operand, "number()"))
        case ast.BinOp(
            left, ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.FloorDiv() | ast.Mod() as sign, right
        ):
            return ast.BinOp(inner(left, "number()"), sign, inner(right, "number()"))
        case ast.Compare(left, signs, others) if not any(isinstance(sign, ast.Is | ast.IsNot) for sign in signs):
            return ast.Compare(inner(left), signs, [inner(other) for other in others])
    raise ConfigError(f"{source}: {ast.unparse(node)!r} cannot stand in a condition; {VALID}")


def _dotted(node: ast.expr, source: str) -> str:
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=name):
            return f"{_dotted(value, source)}.{name}"
    raise ConfigError(f"{source}: {ast.unparse(node)!r} is not a field (e.g. scheduler.max_num_seqs)")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _number(value: Any) -> float:
    """Refuse text and lists as operands: their products could fill the memory."""
    if not isinstance(value, int | float):
        raise TypeError
    return value
