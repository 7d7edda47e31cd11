"""Reading settings from YAML, TOML and JSON files; each fault is reported in one sentence.

YAML is read as version 1.2: ``no`` is text, ``1e3`` is a number, and a key that is given twice is an error.
"""

import json
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from reprlib import Repr
from typing import Any

from fastsim.errors import ConfigError

Key = tuple[str | int, ...]  # of a value in nested mappings and lists, such as ("where", 0)
MAX_SIZE = 2**26  # bytes of a file of settings
MAX_VALUES = 1_000_000  # of a document
MAX_DEPTH = 64  # of mappings and lists within each other


@dataclass(frozen=True, slots=True)
class Document:
    """Settings, the file that they come from, and the line of each of them.

    Raises ConfigError for values that no setting can have: keys that are not text, whole numbers of more than 64 bits,
    and more values or deeper nests than a file that a person writes can have.
    """

    values: dict[str, Any]
    source: str = ""  # a file name, or "" for values that come from Python
    lines: Mapping[Key, int] = field(default_factory=dict)  # counted from 1; only YAML has them
    overridden: frozenset[Key] = frozenset()  # keys that --set has set
    place: Key = ()  # of these values in the file, where they are a part of it

    def __post_init__(self) -> None:
        waiting: list[tuple[Key, Any]] = [((), self.values)]
        number = 0
        while waiting:
            key, value = waiting.pop()
            number += 1
            if number > MAX_VALUES:
                raise ConfigError(f"{self.source or 'settings'}: more than {MAX_VALUES:,} values")
            if len(key) > MAX_DEPTH:
                raise ConfigError(f"{self.where(key[:1])}: nested more than {MAX_DEPTH} deep")
            if isinstance(value, dict):
                for name, inner in value.items():
                    if not isinstance(name, str):
                        raise ConfigError(f"{self.where((*key, str(name)[:60]))}: a key that is not text; quote it")
                    waiting.append(((*key, name), inner))
            elif isinstance(value, list | tuple):
                waiting += [((*key, index), inner) for index, inner in enumerate(value)]
            elif isinstance(value, int) and abs(value) >= 2**64:
                raise ConfigError(f"{self.where(key)}: {short(value)}, and numbers have at most 64")

    def where(self, key: Key) -> str:
        """How errors name a key: ``deploy.yaml:7: scheduler.max_num_seqs``, as far as it is known."""
        key = (*self.place, *key)
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        if any(key[: len(prefix)] == prefix for prefix in self.overridden):
            return f"--set {dotted}"
        line = self.lines.get(key) or self.lines.get(key[:-1])
        source = f"{self.source}:{line}" if line and self.source else self.source
        return ": ".join(part for part in (source, dotted) if part)

    def part(self, *key: str | int) -> "Document":
        """The group of settings at ``key``, of which errors say where it is in the file."""
        values: Any = self.values
        for name in key:
            values = values[name]
        return replace(self, values=values, place=(*self.place, *key))


def read(path: str | Path) -> Document:
    """Read settings from a .yaml, .yml, .toml or .json file; ``-`` is YAML on standard input.

    Raises ConfigError if the file is missing, cannot be read, is not text, is malformed, or holds no mapping.
    """
    if str(path) == "-":
        return parse_yaml(sys.stdin.read(), "standard input")
    path = Path(path)
    text, suffix = read_text(path), path.suffix.lower()
    if suffix not in (".yaml", ".yml", ".toml", ".json"):
        raise ConfigError(f"{path}: the name ends in {suffix!r}, not in .yaml, .yml, .toml or .json")
    if suffix in (".yaml", ".yml"):
        return parse_yaml(text, str(path))
    return _parse_toml(text, str(path)) if suffix == ".toml" else parse_json(text, str(path))


def read_text(path: Path) -> str:
    """Read a UTF-8 file. Raises ConfigError."""
    try:
        if why := unreadable(path):
            raise ConfigError(f"{path}: {why}")
        if path.stat().st_size > MAX_SIZE:
            raise ConfigError(f"{path}: {path.stat().st_size:,} bytes, and a file of settings has at most {MAX_SIZE:,}")
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}") from None


def unreadable(path: Path) -> str:
    """Say why a path that exists is not a file that can be read to its end, or return "". Raises OSError."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return ""
    if stat.S_ISDIR(mode):
        return "a folder, not a file"
    return "not a regular file but a pipe, socket or device; copy its content to a file"


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML 1.2; errors begin with ``source``, a file name. Raises ConfigError."""
    from fastsim.files import yaml12

    values, lines = yaml12.parse(text, source)
    return Document(_mapping(values, source), source, lines)


def shipped(path: Path) -> dict[str, Any]:
    """The values of a YAML file that comes with fastsim, without the checks that other files need."""
    from fastsim.files import yaml12

    values: dict[str, Any] = yaml12.unchecked(path.read_text(encoding="utf-8"))
    return values


def parse_json(text: str, source: str) -> Document:
    """Parse JSON; errors begin with ``source``, a file name. Raises ConfigError."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{source}: {key}: given twice")
            seen[key] = value
        return seen

    try:
        values = json.loads(text, object_pairs_hook=no_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{source}:{error.lineno}: not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{source}: not valid JSON: nested too deeply, or a number too long") from None
    return Document(_mapping(values, source), source)


def _parse_toml(text: str, source: str) -> Document:
    import tomllib

    try:
        return Document(tomllib.loads(text), source)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{source}: not valid TOML: nested too deeply, or a number too long") from None


def _mapping(values: Any, source: str) -> dict[str, Any]:
    if values is None:
        raise ConfigError(f"{source}: empty; settings are expected (e.g. model: meta-llama/Llama-2-7b-hf)")
    if not isinstance(values, dict):
        raise ConfigError(f"{source}: {short(values)} is not a mapping of settings (e.g. device: h100)")
    return values


class _Repr(Repr):
    """``repr`` of the first levels and items of a value, so that no value takes long to show."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 4, 200, 200
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdeque = 30

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return "{...}"
        items = [f"{self.repr1(key, 0)}: {self.repr1(x[key], level - 1)}" for key in islice(x, self.maxdict)]
        return "{" + ", ".join(items) + "}"  # in their order, as reprlib would sort them

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if abs(x) < 2**64 else f"a whole number of {x.bit_length():,} bits"


def short(value: Any) -> str:
    """A value as errors show it: its repr, cut to 60 characters."""
    text = _Repr().repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
