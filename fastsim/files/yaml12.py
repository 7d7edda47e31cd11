"""YAML 1.2 with PyYAML's C parser: the core schema, no duplicate keys, and the line of each key."""

import re
from typing import Any

import yaml

from fastsim.errors import ConfigError

try:
    from yaml import CSafeLoader as _SafeLoader
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader as _SafeLoader  # type: ignore[assignment]

Key = tuple[str | int, ...]
MAX_DEPTH = 64


class _Loader(_SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's name)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


def _float(loader: _Loader, node: yaml.ScalarNode) -> float:
    text = str(loader.construct_scalar(node)).lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


# The core schema, https://yaml.org/spec/1.2.2/#103-core-schema, and the merge key of YAML 1.1.
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), first)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse(text: str, source: str) -> tuple[Any, dict[Key, int]]:
    """Parse a YAML document, and give the line of every key in it, from 1; errors begin with ``source``.

    Raises ConfigError.
    """
    try:
        _check_depth(text)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, {}
            lines: dict[Key, int] = {}
            _walk(node, (), lines, source, set())
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not text"
        raise ConfigError(f"{source}{line}: not valid YAML: {problem}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{source}: not valid YAML: nested too deeply, or a number too long") from None


def unchecked(text: str) -> Any:
    """Parse a YAML document that is known to be right."""
    return yaml.load(text, Loader=_Loader)  # which makes plain values only


def _check_depth(text: str) -> None:
    """Raise RecursionError for deeply nested text, for which PyYAML would overflow the stack and end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise RecursionError


def _walk(node: yaml.Node, key: Key, lines: dict[Key, int], source: str, visited: set[int]) -> None:
    """Add the line of each key below ``node``, and raise ConfigError for a key that is given twice."""
    # A node that aliases repeat is visited once, as nested aliases would otherwise take exponential time.
    if id(node) in visited or isinstance(node, yaml.ScalarNode):
        return
    visited.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            _walk(item, (*key, position), lines, source, visited)
        return
    seen = set()
    for name, value in node.value:
        line = name.start_mark.line + 1
        if not isinstance(name, yaml.ScalarNode):
            raise ConfigError(f"{source}:{line}: a key is not plain text")
        if name.value in seen:
            raise ConfigError(f"{source}:{line}: {name.value}: given twice")
        seen.add(name.value)
        lines[(*key, name.value)] = line
        _walk(value, (*key, name.value), lines, source, visited)
