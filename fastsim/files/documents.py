"""Reading settings from YAML, TOML and JSON files; each fault is reported in one sentence.

YAML is read as version 1.2: ``no`` is text, ``1e3`` is a number, and a key that is given twice is an error.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsim.errors import ConfigError

Key = tuple[str | int, ...]  # of a value in nested mappings and lists, such as ("where", 0)


@dataclass(frozen=True, slots=True)
class Document:
    """Settings, the file that they come from, and the line of each of them."""

    values: dict[str, Any]
    source: str = ""  # a file name, or "" for values that come from Python
    lines: Mapping[Key, int] = field(default_factory=dict)  # counted from 1; only YAML has them
    overridden: frozenset[Key] = frozenset()  # keys that --set has set

    def where(self, key: Key) -> str:
        """How errors name a key: ``deploy.yaml:7: scheduler.max_num_seqs``, as far as it is known."""
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        if any(key[: len(prefix)] == prefix for prefix in self.overridden):
            return f"--set {dotted}"
        line = self.lines.get(key) or self.lines.get(key[:-1])
        source = f"{self.source}:{line}" if line and self.source else self.source
        return ": ".join(part for part in (source, dotted) if part)


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
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: a folder, not a file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{str(path)!r}: cannot be read: {reason}") from None


def parse_yaml(text: str, source: str) -> Document:
    """Parse YAML 1.2; errors begin with ``source``, a file name. Raises ConfigError."""
    from fastsim.files import yaml12

    values, lines = yaml12.parse(text, source)
    return Document(_mapping(values, source), source, lines)


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


def short(value: Any) -> str:
    """A value as errors show it: its repr, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
