"""Validating documents against a schema, with overrides; each fault is reported in one sentence."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from fastsim.errors import ConfigError, did_you_mean

from .documents import Document, Key, short

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

M = TypeVar("M", bound="BaseModel")
ONE_LINE = r"^[^\p{Cc}\p{Zl}\p{Zp}]*$"  # of names, which terminals, manifests and tables show
SHOWN_ERRORS = 3


def with_overrides(document: Document, overrides: Sequence[str], schema: "type[BaseModel]") -> Document:
    """The document with each ``a.b=value`` of ``--set`` applied; values are YAML. Raises ConfigError."""
    if not overrides:
        return document
    values, overridden = dict(document.values), set(document.overridden)
    for override in overrides:
        dotted, equals, text = override.partition("=")
        key = tuple(dotted.strip().split("."))
        if not equals:
            raise ConfigError(f"--set {override}: no value; write path=value (e.g. scheduler.max_num_seqs=128)")
        if describe(schema, key) is None:
            near = did_you_mean(dotted.strip(), _paths(schema))
            raise ConfigError(f"--set {dotted.strip()}: unknown setting; {near}")
        try:
            put(schema, values, key, value_of(text, is_group=_section(schema, key) is not None))
        except ConfigError as problem:
            raise ConfigError(f"--set {dotted.strip()}: {problem}") from None
        overridden.add(key)
    return replace(document, values=values, overridden=frozenset(overridden))


def put(schema: "type[BaseModel]", values: dict[str, Any], key: Sequence[str], value: Any) -> None:
    """Set a setting in nested groups, which are copied. An item of a list goes by its name: ``pools.large.device``.

    Raises ConfigError for a name that no item of the list has.
    """
    section: Any = schema
    parts = iter(key[:-1])
    for part in parts:
        section, below = _inner(section, part), values.get(part)
        if (item := _item(section)) is None:
            # Text in place of a group of settings is replaced by the group that the setting belongs to.
            group = dict(below) if isinstance(below, dict) else {}
            values[part], values = group, group
        else:
            name, items = next(parts), [dict(one) for one in below or () if isinstance(one, dict)]
            names = [str(one.get("name")) for one in items]
            if name not in names:
                near = did_you_mean(name, names) if names else f"there are no {part}"
                raise ConfigError(f"{part}: none has the name {name!r}; {near}")
            values[part], values, section = items, items[names.index(name)], item
    values[key[-1]] = value


def value_of(text: str, is_group: bool) -> Any:
    """Parse the value of an override as YAML; that of a single setting stays text if it looks like a mapping."""
    from fastsim.files import yaml12

    try:
        value = yaml12.parse(text, "")[0]
    except ConfigError:
        return text
    return text if isinstance(value, dict | list) and not is_group else value


def validate(schema: type[M], document: Document) -> M:
    """Make a value of ``schema`` from a document. Raises ConfigError with a sentence for each of the first faults.

    A sentence says "... is not" and then ``json_schema_extra["valid"]`` of the field, or its description, and shows
    the first of its examples; or what the ValueError of a check of the schema says.
    """
    from pydantic import ValidationError

    try:
        return schema.model_validate(document.values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
    except RecursionError:
        raise ConfigError(f"{document.source or 'settings'}: nested too deeply") from None
    faults.sort(key=lambda fault: document.lines.get(fault["loc"], 0))
    sentences = list(dict.fromkeys(_sentence(schema, document, fault) for fault in faults))
    if len(sentences) > SHOWN_ERRORS:
        sentences[SHOWN_ERRORS:] = [f"and {len(sentences) - SHOWN_ERRORS} more"]
    raise ConfigError("; ".join(sentences))


def _sentence(schema: "type[BaseModel]", document: Document, fault: "ErrorDetails") -> str:
    key, place = fault["loc"], _place(schema, document, fault["loc"])
    where = document.where(place)
    if fault["type"] in ("extra_forbidden", "invalid_key"):
        return f"{where}: unknown key; {_near(schema, key)}"
    info = describe(schema, key)
    example = f" (e.g. {_text(info.examples[0])})" if info and info.examples else ""
    if fault["type"] == "missing":
        return f"{where}: missing{example}"
    value = fault["input"]
    if fault["type"] == "union_tag_invalid":
        kinds = [kind.strip("' ") for kind in fault["ctx"]["expected_tags"].split(",")]
        kind = fault["ctx"]["tag"]
        return f"{document.where((*place, 'kind'))}: {short(kind)} is unknown; {did_you_mean(kind, kinds)}"
    if fault["type"] == "literal_error" and isinstance(value, str):
        # The choices of a field that may be null are one level deeper.
        choices = [choice for part in get_args(info.annotation) for choice in get_args(part) or [part]]
        choices = [choice for choice in choices if isinstance(choice, str)]
        return f"{where}: {short(value)} is unknown; {did_you_mean(value, choices)}"
    if fault["type"] == "value_error" and (said := str(fault["ctx"]["error"])):
        return f"{where}: {said}" if where else said
    valid = ((info.json_schema_extra or {}).get("valid") or info.description) if info else None
    return f"{where}: {short(value)} is not {valid or 'valid'}{example}"


def _place(schema: "type[BaseModel]", document: Document, key: Key) -> Key:
    """The key of a fault in the document: without the kinds that chose a class, and as far as the document has it."""
    place: Key = ()
    section: Any = schema
    values: Any = document.values
    for index, part in enumerate(key):
        if tagged := _of_kind(section, part):
            section = tagged
            continue
        if index and isinstance(part, str) and not isinstance(values, dict):
            break
        place += (part,)
        section = _inner(section, part)
        held = isinstance(values, list) and isinstance(part, int) and part < len(values)
        values = values[part] if held else values.get(part, {}) if isinstance(values, dict) else {}
    return place


def _near(schema: "type[BaseModel]", key: Key) -> str:
    """The key that an unknown one was meant to be: of the same group, of a group below, or of the top level."""
    name, within = str(key[-1]), _section(schema, key[:-1])
    if within is None:
        return did_you_mean(name, ())
    if within is not schema and name in schema.model_fields:
        return f"{name} belongs at the top level"
    names = list(within.model_fields)
    below = [path for path in _paths(within) if path not in names]
    meant = did_you_mean(name, [*names, *below])
    return meant if meant.startswith("did") else did_you_mean(name, names)


def describe(schema: "type[BaseModel]", key: Key) -> Any:
    """The FieldInfo of a setting, or of the list that holds it; None if the schema has no such setting."""
    while key and isinstance(key[-1], int):
        key = key[:-1]
    section = _section(schema, key[:-1])
    info = section.model_fields.get(str(key[-1])) if section and key else None
    if info is None or info.description:
        return info
    inner = [note for part in get_args(info.annotation) for note in getattr(part, "__metadata__", ())]
    return next((note for note in inner if getattr(note, "description", None)), info)  # of a setting that may be null


def _section(schema: "type[BaseModel]", key: Key) -> "type[BaseModel] | None":
    """The group of settings at ``key``; None if that is a single setting, or none."""
    section: Any = schema
    for part in key:
        section = _of_kind(section, part) or _inner(section, part)
    return section if hasattr(section, "model_fields") else None


def _inner(section: Any, part: str | int) -> Any:
    """The type of a setting of a group, or of an item of a list or a mapping; None if there is none."""
    if isinstance(part, int):
        return next(iter(get_args(section)), None)
    if get_origin(section) is dict:
        return get_args(section)[1]
    if (item := _item(section)) is not None:
        return item
    fields: Any = getattr(section, "model_fields", {})
    return _group(fields[part].annotation) if part in fields else None


def _item(kind: Any) -> "type[BaseModel] | None":
    """The group of settings that the items of a list are, if they have names; None of any other type."""
    item = next(iter(get_args(kind)), None) if get_origin(kind) in (list, tuple) else None
    return item if "name" in getattr(item, "model_fields", {}) else None


def _group(kind: Any) -> Any:
    """The type of a setting; that of a group that may be null is the group."""
    groups = [one for one in get_args(kind) if hasattr(one, "model_fields")]
    return groups[0] if len(groups) == 1 and len(get_args(kind)) == 2 and type(None) in get_args(kind) else kind


def _of_kind(section: Any, part: str | int) -> "type[BaseModel] | None":
    """The class of a union whose ``kind`` is ``part``; None if the type is no union, or has no such class."""
    for one in get_args(section):
        kind = getattr(one, "model_fields", {}).get("kind")
        if kind is not None and part in get_args(kind.annotation):
            return one  # type: ignore[no-any-return]
    return None


def _paths(schema: "type[BaseModel]", prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    paths = []
    for name, info in schema.model_fields.items():
        inner = _group(info.annotation)
        paths += _paths(inner, f"{prefix}{name}.") if hasattr(inner, "model_fields") else [prefix + name]
    return paths


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
