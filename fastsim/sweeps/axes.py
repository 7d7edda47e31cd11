"""The axes of a space: fields with lists or ranges of values, and fields that change together."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.deployment.pool import Pool
from fastsim.deployment.vllm.flags import ELSEWHERE, TAKEN, spelled
from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import Document, Key, short
from fastsim.files.schema import describe

WORKLOAD_FIELDS = (
    "workload",
    "workload.rate",
    "workload.users",
    "workload.max_concurrency",
    "workload.num_requests",
    "workload.seed",
)
RANGE_KEYS = ("from", "to", "step", "factor", "num", "spacing")
RANGE = "e.g. {from: 32, to: 512, factor: 2}"
MAX_VALUES = 100_000  # of one axis


@dataclass(frozen=True, slots=True)
class Axis:
    """Fields that change together, by dotted name, and the values that they take at each step of the axis."""

    names: tuple[str, ...]
    steps: tuple[tuple[Any, ...], ...]  # each has a value for each name
    key: Key  # where the axis is in the document

    def __len__(self) -> int:
        return len(self.steps)


def read_axes(document: Document) -> tuple[Axis, ...]:
    """Read the axes of a space: those of ``axes``, one field each, then those of ``zip``. Raises ConfigError."""
    axes, zips = document.values.get("axes") or {}, document.values.get("zip") or []
    if not isinstance(axes, dict):
        raise ConfigError(f"{document.where(('axes',))}: {short(axes)} is not fields and their values")
    if not isinstance(zips, list):
        zips = [zips]
    made = [
        Axis((name,), tuple((value,) for value in values), ("axes",))
        for name, values in _group(document, axes, ("axes",))
    ]
    for number, group in enumerate(zips):
        key: Key = ("zip", number)
        if not isinstance(group, dict) or not group:
            raise ConfigError(f"{document.where(key)}: {short(group)} is not fields and their values")
        made.append(_zip(document, key, _group(document, group, key)))
    names = [name for axis in made for name in axis.names]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{document.where(('axes', name))}: given twice, in axes and in zip")
    if not made:
        raise ConfigError(f"{document.where(('axes',))}: missing; name the fields to vary (e.g. num_replicas: [1, 2])")
    return tuple(made)


def _group(document: Document, group: Mapping[str, Any], key: Key) -> list[tuple[str, list[Any]]]:
    return [(name, _values(document, name, given, (*key, name))) for name, given in group.items()]


def _zip(document: Document, key: Key, group: Sequence[tuple[str, list[Any]]]) -> Axis:
    first, values = group[0]
    for name, others in group:
        if len(others) != len(values):
            raise ConfigError(
                f"{document.where((*key, name))}: {len(others)} values, and {first} has {len(values)}; "
                "fields of a zip change together, so each needs the same number"
            )
    return Axis(tuple(name for name, _ in group), tuple(zip(*(values for _, values in group), strict=True)), key)


def _values(document: Document, name: str, given: Any, key: Key) -> list[Any]:
    """The values of one field, which are a list, a range, or a single value."""
    where = document.where(key)
    whole = _check_name(name, where)
    if isinstance(given, dict) and not (name == "workload" and "from" not in given):
        values = _range(given, where, whole)
    else:
        values = given if isinstance(given, list) else [given]
    if not values:
        raise ConfigError(f"{where}: an empty list, so the space is empty; give at least one value")
    if len(values) > MAX_VALUES:
        raise ConfigError(f"{where}: {len(values):,} values, and an axis may have {MAX_VALUES:,}")
    return values


def _check_name(name: str, where: str) -> bool:
    """Check the name of a field, and return whether it takes whole numbers only. Raises ConfigError if unknown."""
    if name.partition(".")[0] == "workload":
        if name not in WORKLOAD_FIELDS:
            raise ConfigError(f"{where}: unknown field; {did_you_mean(name, WORKLOAD_FIELDS)}")
        return name in ("workload.num_requests", "workload.seed")
    info = describe(Deployment, tuple(name.split(".")))
    if info is None:
        head, _, own = name.partition(".")
        if head == "pools" and own:
            within = f"pools.{own.partition('.')[0]}."
            raise ConfigError(f"{where}: unknown field; {did_you_mean(name, fields(Pool, within))}")
        meant = TAKEN.get(spelled(name), (ELSEWHERE.get(name, name),))[0]
        raise ConfigError(f"{where}: unknown field; {did_you_mean(meant, fields())}")
    if hasattr(info.annotation, "model_fields"):
        inner = next(iter(info.annotation.model_fields))
        raise ConfigError(f"{where}: a group of fields; name one of them (e.g. {name}.{inner})")
    return info.annotation in (int, int | None)


def fields(schema: Any = Deployment, prefix: str = "") -> list[str]:
    """The dotted names of all fields that a space can vary."""
    names = list(WORKLOAD_FIELDS) if not prefix else []
    for name, info in schema.model_fields.items():
        inner = info.annotation
        names += fields(inner, f"{prefix}{name}.") if hasattr(inner, "model_fields") else [prefix + name]
    return names


def _range(given: Mapping[str, Any], where: str, whole: bool) -> list[Any]:
    """Values from ``from`` to ``to``: by ``step``, by ``factor``, or ``num`` of them (``spacing: geometric``)."""
    for key in given:
        if key not in RANGE_KEYS:
            raise ConfigError(f"{where}.{key}: unknown key; {did_you_mean(str(key), RANGE_KEYS)}")
    for key in ("from", "to"):
        if key not in given:
            raise ConfigError(f"{where}: a range has no {key!r} ({RANGE})")
    for key in ("from", "to", "step", "factor", "num"):
        if key in given and (type(given[key]) not in (int, float) or not math.isfinite(given[key])):
            raise ConfigError(f"{where}.{key}: {short(given[key])} is not a number ({RANGE})")
    ways = [key for key in ("step", "factor", "num") if key in given]
    if len(ways) != 1:
        raise ConfigError(f"{where}: a range has one of step, factor and num ({RANGE})")
    first, last = given["from"], given["to"]
    if last < first:
        raise ConfigError(f"{where}: from {first} is above to {last}, so the range is empty ({RANGE})")
    values = _spaced(given, ways[0], first, last, where)
    if not all(map(math.isfinite, values)):
        raise ConfigError(f"{where}: from {first} to {last} is too wide a range ({RANGE})")
    if not whole:
        exact = all(type(given[key]) is int for key in ("from", "to", ways[0])) and ways[0] != "num"
        return [round(value) if exact else float(f"{value:.12g}") for value in values]
    return list(dict.fromkeys(round(value) for value in values))


def _spaced(given: Mapping[str, Any], way: str, first: float, last: float, where: str) -> list[float]:
    """Values from ``first`` to ``last``, spaced by the key ``way`` of the range: step, factor or num."""
    by = given[way]
    geometric = way == "factor" or given.get("spacing", "linear") == "geometric"
    if given.get("spacing", "linear") not in ("linear", "geometric") or ("spacing" in given and way != "num"):
        raise ConfigError(f"{where}.spacing: {short(given['spacing'])} is not linear or geometric, beside num")
    if geometric and first <= 0:
        raise ConfigError(f"{where}.from: {first} is not above 0, as a geometric range needs ({RANGE})")
    if by <= (1 if way == "factor" else 0) or (way == "num" and type(by) is not int):
        raise ConfigError(f"{where}.{way}: {by} does not lead from {first} to {last} ({RANGE})")
    match way:
        case "num":
            number = by - 1
        case "step":
            rounding = 4e-16 * max(abs(first), abs(last)) / by  # of the difference, in steps
            number = (last - first) / by * (1 + 1e-12) + rounding
        case _:
            number = (math.log(last) - math.log(first)) / math.log(by) * (1 + 1e-12)
    if number >= MAX_VALUES:
        raise ConfigError(f"{where}: {number + 1:,.0f} values, and an axis may have {MAX_VALUES:,}")
    number = math.floor(number)
    if way == "num":
        by = 0.0 if not number else (last / first) ** (1 / number) if geometric else (last - first) / number
    return [first * by**index if geometric else first + index * by for index in range(number + 1)]
