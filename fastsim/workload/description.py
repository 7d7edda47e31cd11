"""The schema of a synthetic workload: a distribution of lengths, and a distribution of gaps between arrivals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self, TypeVar, get_args

from pydantic import Field, model_validator

from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import Document, Key, short
from fastsim.files.schema import validate
from fastsim.workload.blocks import BLOCK_SIZE, MAX_BLOCK_SIZE
from fastsim.workload.checks import MAX_TOKENS
from fastsim.workload.conversations import Prefix, Sessions
from fastsim.workload.fields import Settings
from fastsim.workload.gaps import ClosedLoop, Gaps
from fastsim.workload.lengths import Lengths
from fastsim.workload.workload import MAX_REQUESTS

S = TypeVar("S", bound=Settings)


class Description(Settings):
    """A synthetic workload: distributions of lengths and gaps, the number of requests, and a seed."""

    lengths: Lengths = Field(description="a group of settings", examples=[{"kind": "fixed"}])
    gaps: Gaps = Field(description="a group of settings", examples=[{"kind": "poisson", "rate": 2.0}])
    num_requests: int = Field(1000, ge=1, le=MAX_REQUESTS, description="a whole number from 1 to 1e9", examples=[1000])
    max_tokens: int | None = Field(
        None, ge=2, le=2 * MAX_TOKENS, description="a whole number from 2 to 20 million", examples=[4096]
    )  # of prompt and output together; longer requests shrink to it in proportion
    prefix: list[Prefix] | None = None  # that prompts begin with, in this order
    sessions: Sessions | None = None
    block_size: int = Field(
        BLOCK_SIZE, ge=1, le=MAX_BLOCK_SIZE, description="a whole number of tokens from 1 to 1,048,576", examples=[16]
    )  # of the hashes that requests with a prefix or sessions have
    max_concurrency: int | None = Field(
        None, ge=1, lt=2**31, description="a whole number of requests from 1", examples=[64]
    )  # that the clients have in flight at most
    seed: int = Field(0, ge=0, lt=2**63, description="an integer from 0", examples=[0])
    about: str | None = Field(None, description="text", examples=["chat, short answers"])

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.sessions is not None and self.sessions.fan_out > 1 and isinstance(self.gaps, ClosedLoop):
            raise ValueError(
                f"sessions.fan_out: {self.sessions.fan_out} branches begin at the same time, which the users of a "
                "closed loop cannot do; give gaps with a rate, or fan_out: 1"
            )
        return self

    @property
    def prefixes(self) -> tuple[Prefix, ...]:
        """The texts that prompts begin with."""
        return tuple(self.prefix or ())


def parse(document: Document, rate: float | None = None, asked: Mapping[str, Any] | None = None) -> Description:
    """Parse the description in a document; ``rate`` and the settings in ``asked`` replace those of the document.

    File names in it are relative to the document. Raises ConfigError when the description is not valid.
    """
    values = document.values | dict(asked or {})
    if "gaps" not in values and "concurrency" in values:
        values["gaps"] = {"kind": "closed_loop", "concurrency": values.pop("concurrency")}
    values.setdefault("gaps", {"kind": "poisson"})
    if rate is not None and isinstance(values["gaps"], dict):
        values["gaps"] = _at_rate(values["gaps"], rate, document.where(("gaps",)))
    document = replace(document, values=values)
    groups: dict[str, Any] = {
        section: chosen(document, (section,), group) for section, group in (("lengths", Lengths), ("gaps", Gaps))
    }
    prefix = values.get("prefix")
    if isinstance(prefix, list):
        groups["prefix"] = [chosen(document, ("prefix", index), Prefix) for index in range(len(prefix))]
    elif prefix is not None:
        groups["prefix"] = [chosen(document, ("prefix",), Prefix)]
    return validate(Description, replace(document, values=values | groups))


def _at_rate(gaps: dict[str, Any], rate: float, where: str) -> dict[str, Any]:
    """The settings of gaps with another mean rate, in place of a scale. Raises ConfigError for a closed loop."""
    if gaps.get("kind") == "closed_loop":
        raise ConfigError(
            f"{where}: rate: {rate:g} cannot be given to a closed loop, whose requests arrive when others have "
            "finished; change its concurrency"
        )
    return {key: value for key, value in gaps.items() if key != "scale"} | {"rate": rate}


def chosen(document: Document, key: Key, group: Any) -> Settings:
    """The group of settings at ``key`` as a value of the class that its ``kind`` names. Raises ConfigError."""
    folder = Path(document.source).parent
    return _moved(validate(_kind(document, key, group), document.part(*key)), folder)


def _moved(settings: S, folder: Path) -> S:
    """The settings with file names relative to the folder of the document."""
    moved: dict[str, Any] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if name == "file" and value is not None:
            moved[name] = str(folder / value)
        elif isinstance(value, Settings):
            moved[name] = _moved(value, folder)
    return settings.model_copy(update=moved)


def _kind(document: Document, key: Key, group: Any) -> type[Settings]:
    """Return the class for the ``kind`` that a section of the document names. Raises ConfigError."""
    kinds: dict[str, type[Settings]] = {
        get_args(one.model_fields["kind"].annotation)[0]: one for one in get_args(group)
    }
    settings: Any = document.values
    for name in key:
        settings = settings.get(name) if isinstance(settings, dict) else settings[name]
    if not isinstance(settings, dict):
        found = "missing" if key[0] not in document.values else f"{short(settings)} is not a group of settings"
        raise ConfigError(f"{document.where(key)}: {found} (e.g. kind: {next(iter(kinds))})")
    if "kind" not in settings:
        raise ConfigError(f"{document.where(key)}: kind is missing; valid: {', '.join(kinds)}")
    kind = settings["kind"]
    if kind not in list(kinds):
        where = document.where((*key, "kind"))
        raise ConfigError(f"{where}: {short(kind)} is unknown; {did_you_mean(short(kind), kinds)}")
    return kinds[kind]
