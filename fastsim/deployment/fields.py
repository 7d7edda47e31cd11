"""How fields of a deployment file are declared: with their meaning, their limits and a valid example."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WrapValidator

from fastsim.deployment import engines
from fastsim.deployment.schedulers import is_function
from fastsim.deployment.sglang import releases as sglang_releases
from fastsim.errors import ConfigError
from fastsim.files.schema import ONE_LINE


def setting(meaning: str, valid: str, example: Any, **limits: Any) -> Any:
    """Declare a field: its meaning, and what completes the message "... is not ``valid`` (e.g. ``example``)"."""
    return Field(description=meaning, examples=[example], json_schema_extra={"valid": valid}, **limits)


def count(meaning: str, example: int, default: int | None, most: int, least: int = 1) -> Any:
    valid = f"a positive integer up to {most}" if least else f"an integer from 0 to {most}"
    return setting(meaning, valid, example, default=default, ge=least, le=most)


def switch(meaning: str) -> Any:
    return setting(meaning, "true or false", True, default=None)


def term(meaning: str, example: float) -> Any:
    return setting(f"{meaning}, ns", "a number from 0 up to 1e15", example, default=0.0, ge=0, le=1e15)


def name(meaning: str, example: str, **default: Any) -> Any:
    return setting(meaning, "a name", example, min_length=1, max_length=4096, pattern=ONE_LINE, **default)


def _or_function(policy: Any, check: Callable[[Any], Any]) -> Any:
    return policy if isinstance(policy, str) and is_function(policy) else check(policy)


def _as_given(policy: str | None) -> str | None:
    return policy


OR_FUNCTION = (WrapValidator(_or_function), PlainSerializer(_as_given))  # which pydantic would warn of


Layers = Annotated[int, Field(ge=1, le=2**16)]


def numbers(value: Any) -> Any:
    """A list as a tuple; text such as "21,20,20", as vLLM writes it, as its numbers."""
    if isinstance(value, str):
        parts = value.strip().removeprefix("[").removesuffix("]").split(",")
        return tuple(int(part) if part.isdecimal() else part for part in map(str.strip, parts))
    return tuple(value) if isinstance(value, list) else value


def listed(value: Any) -> Any:
    """A list, also as JSON or YAML text, as a tuple; null as an empty one."""
    if isinstance(value, str):
        from fastsim.files import yaml12

        with suppress(ConfigError):
            value = yaml12.parse(value, "")[0]
    return () if value is None else tuple(value) if isinstance(value, list) else value


AtTokens = tuple[
    Annotated[int, Field(ge=1, le=2**17)],
    Annotated[float, Field(ge=-1e15, le=1e15)],
]


def pairs(value: Any) -> Any:
    """A list of pairs, also as JSON, as a tuple of tuples."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return tuple(tuple(one) if isinstance(one, list) else one for one in value) if isinstance(value, list) else value


def release_name(engine: str) -> str:
    try:
        if sglang_releases.is_sglang(engine):
            sglang_releases.of(engine)
        else:
            engines.of(engine)
    except ConfigError as problem:
        raise ValueError(str(problem)) from None
    return engine


class Group(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)
