"""Reading settings from YAML, TOML and JSON, and saying in one sentence what is wrong with them.

YAML is read as version 1.2 means it (yaml12.py): ``no`` is text, ``1e3`` a number, a key given twice an error.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from fastsim.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

Key = tuple[str | int, ...]
M = TypeVar("M", bound="BaseModel")
SHOWN_ERRORS = 3


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
    from fastsim import yaml12

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


def with_overrides(document: Document, overrides: Sequence[str], schema: "type[BaseModel]") -> Document:
    """The document with each ``a.b=value`` set; values are YAML. Raises ConfigError on an unknown path."""
    values, overridden = dict(document.values), set(document.overridden)
    for override in overrides:
        dotted, equals, text = override.partition("=")
        key = tuple(dotted.strip().split("."))
        if not equals:
            raise ConfigError(f"--set {override}: no value; write path=value (e.g. scheduler.max_num_seqs=128)")
        if describe(schema, key) is None:
            near = did_you_mean(dotted.strip(), _paths(schema))
            raise ConfigError(f"--set {dotted.strip()}: unknown setting; {near}")
        inner = values
        for part in key[:-1]:
            below = inner.get(part)
            # Text where settings belong gives way: the override says what is meant.
            inner[part] = dict(below) if isinstance(below, dict) else {}
            inner = inner[part]
        inner[key[-1]] = _value(text, is_group=_section(schema, key) is not None)
        overridden.add(key)
    return replace(document, values=values, overridden=frozenset(overridden))


def _value(text: str, is_group: bool) -> Any:
    """The YAML value of an override; where one setting is meant, ``tables:`` and the like stay text."""
    from fastsim import yaml12

    try:
        value = yaml12.parse(text, "")[0]
    except ConfigError:
        return text
    return text if isinstance(value, dict | list) and not is_group else value


def validate(schema: type[M], document: Document) -> M:
    """The document as a value of ``schema``. Raises ConfigError: the first few faults, one sentence each.

    What completes "... is not" is a field's ``json_schema_extra["valid"]``, else its description; a valid value is
    the first of its examples.
    """
    from pydantic import ValidationError

    try:
        return schema.model_validate(document.values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    except RecursionError:
        raise ConfigError(f"{document.place or 'settings'}: nested too deeply") from None
    faults.sort(key=lambda fault: document.lines.get(fault["loc"], 0))
    sentences = [_sentence(schema, document, fault) for fault in faults[:SHOWN_ERRORS]]
    if len(faults) > SHOWN_ERRORS:
        sentences.append(f"and {len(faults) - SHOWN_ERRORS} more")
    raise ConfigError("; ".join(sentences))


def _sentence(schema: "type[BaseModel]", document: Document, fault: "ErrorDetails") -> str:
    key, where = fault["loc"], document.where(fault["loc"])
    if fault["type"] in ("extra_forbidden", "invalid_key"):
        within = _section(schema, key[:-1])
        return f"{where}: unknown key; {did_you_mean(str(key[-1]), within.model_fields if within else ())}"
    info = describe(schema, key)
    example = f" (e.g. {_text(info.examples[0])})" if info and info.examples else ""
    if fault["type"] == "missing":
        return f"{where}: missing{example}"
    value = fault["input"]
    if fault["type"] == "literal_error" and isinstance(value, str):
        # Of a field that may be null, the choices stand one level deeper.
        choices = [choice for part in get_args(info.annotation) for choice in get_args(part) or [part]]
        choices = [choice for choice in choices if isinstance(choice, str)]
        return f"{where}: {short(value)} is unknown; {did_you_mean(value, choices)}"
    valid = ((info.json_schema_extra or {}).get("valid") or info.description) if info else None
    return f"{where}: {short(value)} is not {valid or 'valid'}{example}"


def describe(schema: "type[BaseModel]", key: Key) -> Any:
    """pydantic's description (FieldInfo) of a dotted setting, or of the list it stands in; None: no such setting."""
    while key and isinstance(key[-1], int):
        key = key[:-1]
    section = _section(schema, key[:-1])
    return section.model_fields.get(str(key[-1])) if section and key else None


def _section(schema: "type[BaseModel]", key: Key) -> "type[BaseModel] | None":
    section: Any = schema
    for part in key:
        info = section.model_fields.get(str(part))
        section = info.annotation if info else None
        if not hasattr(section, "model_fields"):
            return None
    return section  # type: ignore[no-any-return]


def _paths(schema: "type[BaseModel]", prefix: str = "") -> list[str]:
    found = []
    for name, info in schema.model_fields.items():
        inner: Any = info.annotation
        found += _paths(inner, f"{prefix}{name}.") if hasattr(inner, "model_fields") else [prefix + name]
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def short(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
