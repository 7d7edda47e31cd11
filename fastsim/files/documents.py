"""Reading settings from YAML, TOML and JSON, and saying in one sentence what is wrong with them.

YAML is read as version 1.2 means it (yaml12.py): ``no`` is text, ``1e3`` a number, a key given twice an error.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ConfigError

if TYPE_CHECKING:
    pass

Key = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """Values read from one place, and where in it each of them stands."""

    values: dict[str, Any]
    place: str = ""  # a file name, or "" for values that come from Python
    lines: Mapping[Key, int] = field(default_factory=dict)  # counted from 1; only YAML has them
    overridden: frozenset[Key] = frozenset()

    def where(self, key: Key) -> str:
        """``deploy.yaml:7: scheduler.max_num_seqs``, as much of it as is known."""
        dotted = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")
        if any(key[: len(one)] == one for one in self.overridden):
            return f"--set {dotted}"
        line = self.lines.get(key) or self.lines.get(key[:-1])
        place = f"{self.place}:{line}" if line and self.place else self.place
        return ": ".join(part for part in (place, dotted) if part)


def read(path: str | Path) -> Document:
    """Read a mapping from a .yaml, .yml, .toml or .json file; ``-`` is YAML on standard input.

    Raises ConfigError when the file is missing, unreadable, not text, malformed, or does not hold a mapping.
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
    """The text of a UTF-8 file, or a ConfigError that says why there is none."""
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


def parse_yaml(text: str, place: str) -> Document:
    """Parse YAML 1.2 text; ``place`` names it in messages. Raises ConfigError."""
    from fastsim.files import yaml12

    values, lines = yaml12.parse(text, place)
    return Document(_mapping(values, place), place, lines)


def parse_json(text: str, place: str) -> Document:
    """Parse JSON text; ``place`` names it in messages. Raises ConfigError."""

    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen: dict[str, Any] = {}
        for key, value in pairs:
            if key in seen:
                raise ConfigError(f"{place}: {key}: given twice")
            seen[key] = value
        return seen

    try:
        values = json.loads(text, object_pairs_hook=no_duplicates)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{place}:{error.lineno}: not valid JSON: {error.msg}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{place}: not valid JSON: nested too deeply, or a number too long") from None
    return Document(_mapping(values, place), place)


def _parse_toml(text: str, place: str) -> Document:
    import tomllib

    try:
        return Document(tomllib.loads(text), place)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{place}: not valid TOML: {error}") from None
    except (RecursionError, ValueError):
        raise ConfigError(f"{place}: not valid TOML: nested too deeply, or a number too long") from None


def _mapping(values: Any, place: str) -> dict[str, Any]:
    if values is None:
        raise ConfigError(f"{place}: empty; settings are expected (e.g. model: meta-llama/Llama-2-7b-hf)")
    if not isinstance(values, dict):
        raise ConfigError(f"{place}: {short(values)} is not a mapping of settings (e.g. device: h100)")
    return values


def short(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
