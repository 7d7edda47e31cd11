"""JSON Schemas of what commands print: inferring them from what was printed, and holding it against them."""

from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any

NAMES = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", dict: "object"}
NAMES |= {list: "array"}
# Mappings whose keys are names that depend on the input: of objectives, operators, metrics, reasons, settings ...
FREE = {
    "definitions",
    "objectives",
    "figures",
    "intervals",
    "dropped",
    "cannot",
    "environment",
    "hit_share",
    "dispersion",
    "kolmogorov_smirnov",
    "tflops",
    "shape",
    "errors",
    "tenants",
    "provenance",
    "rows",
    "series",
    "over_time",
    "by_request",
    "families",
    "unavailable",
    "operators",
    "error_percent",
    "coverage_percent",
    "factors",
}
# Figures that are null where they were not measured, or have no meaning.
NULLABLE = {
    *("value", "met", "share", "busy", "rate", "error", "difference", "interval", "a", "b", "correlation"),
    *("mean_absolute_share", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "margin", "waiting"),
    *("backlog", "mfu", "mbu", "mfu_busy", "mbu_busy", "bubbles", "mean_queue", "mean_running", "mean_kv"),
    *("gap_cv", "rate_per_s", "kwh", "watts", "joules_per_output_token", "dollars", "goodput", "drift", "chance"),
    *("short_of", "part_difference", "token_hit_rate", "request_hit_rate", "kv_traffic", "uneven", "decoding"),
    *("price_per_hour", "num_blocks", "host", "tick_s", "affine", "front_end_ms", "prompts"),
}
DISTRIBUTION = {"mean", "p99"}
# Mappings whose content is a file of its own: a deployment, a machine's log.
OPEN = {"deployment", "settings", "config", "deployments", "winner", "runner_up"}


def inferred(value: Any, key: str = "") -> dict[str, Any]:
    """The schema of a value that is printed under a key."""
    schema = _inferred(value, key)
    return _both(schema, {"type": "null"}) if key in NULLABLE else schema


def _inferred(value: Any, key: str) -> dict[str, Any]:
    if key in OPEN and isinstance(value, dict):
        return {"type": "object"}
    if isinstance(value, dict) and key in FREE:
        return {"type": "object", "additionalProperties": merged([inferred(each) for each in value.values()])}
    if isinstance(value, dict):
        properties = {name: inferred(each, name) for name, each in value.items()}
        if value.keys() >= DISTRIBUTION:  # whose figures are null where nothing was measured
            properties = {name: _both(each, {"type": "null"}) for name, each in properties.items()}
        return {
            "type": "object",
            "properties": properties,
            "required": sorted(properties),
            "additionalProperties": False,
        }
    if isinstance(value, list):
        items = [inferred(each, key if key in OPEN else "") for each in value]
        return {"type": "array", **({"items": merged(items)} if items else {})}
    return {"type": NAMES[type(value)]}


def merged(schemas: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What any of these schemas allows; {} allows everything, and is also that of none."""
    return reduce(_both, schemas) if (schemas := list(schemas)) else {}


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    if not one or not other:
        return {}
    types = dict.fromkeys((*_types(one), *_types(other)))
    if "number" in types:
        types.pop("integer", None)
    made: dict[str, Any] = {"type": sorted(types) if len(types) > 1 else next(iter(types))}
    if items := [schema["items"] for schema in (one, other) if "items" in schema]:
        made["items"] = merged(items)
    have = [schema for schema in (one, other) if "properties" in schema]
    if have:
        names = dict.fromkeys(name for schema in have for name in schema["properties"])
        made["properties"] = {
            name: merged([schema["properties"][name] for schema in have if name in schema["properties"]])
            for name in names
        }
        made["required"] = sorted(set.intersection(*(set(schema["required"]) for schema in have)))
        made["additionalProperties"] = False
    elif free := [schema["additionalProperties"] for schema in (one, other) if "additionalProperties" in schema]:
        made["additionalProperties"] = merged(free)
    return made


def _types(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def faults(value: Any, schema: Mapping[str, Any], place: str = "$") -> Iterator[str]:
    """What of a value a schema does not allow, a sentence each; the words of JSON Schema that ``inferred`` uses."""
    kinds, kind = _types(schema), NAMES[type(value)]
    if kinds and kind not in kinds and not (kind == "integer" and "number" in kinds):
        yield f"{place}: {kind}, not {' or '.join(kinds)}"
        return
    if isinstance(value, dict):
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{place}: no {name}" for name in schema.get("required", ()) if name not in value)
        for name, each in value.items():
            if name in known:
                yield from faults(each, known[name], f"{place}.{name}")
            elif more is False:
                yield f"{place}: {name} is not in the schema"
            elif isinstance(more, dict):
                yield from faults(each, more, f"{place}.{name}")
    if isinstance(value, list) and "items" in schema:
        for each in value:
            yield from faults(each, schema["items"], f"{place}[]")
