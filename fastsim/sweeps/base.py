"""The deployment and the workload that all configurations of a space share."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsim.catalog.load import load_device, load_model, load_node
from fastsim.deployment.description import DEFAULT_FILE
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.errors import CatalogError, ConfigError, did_you_mean
from fastsim.files.documents import Document, Key, read, short
from fastsim.files.schema import describe, validate
from fastsim.sweeps.axes import WORKLOAD_FIELDS, Axis
from fastsim.workload import Workload, presets
from fastsim.workload.loading import load as load_workload
from fastsim.workload.workload import MAX_REQUESTS

from .configuration import Configuration, digest, named

WORKLOAD_KEYS = ("source", "rate", "num_requests", "seed")


# Types, limits and what completes "is not".
NUMBERS: dict[str, tuple[Any, float, float, str]] = {
    "rate": ((int, float), 1e-9, 1e9, "requests per second from 1e-9 to 1e9 (e.g. 2.0)"),
    "num_requests": (int, 1, MAX_REQUESTS, "a whole number from 1 to 1e9 (e.g. 1000)"),
    "seed": (int, 0, 2**63 - 1, "an integer from 0 (e.g. 0)"),
}


KEPT = 256  # workloads


NAMED = {"model": load_model, "device": load_device, "node": load_node}


@dataclass(frozen=True)
class Base:
    """What does not vary; workloads that were loaded are kept, so that all who have the same share its arrays."""

    document: Document  # of the deployment
    workload: dict[str, Any]
    folder: Path  # that the names of workloads are relative to
    loaded: dict[str, Workload] = field(default_factory=dict)

    @classmethod
    def read(cls, space: Document) -> "Base":
        """The deployment and the workload of a space. Raises ConfigError."""
        folder = Path(space.place).parent
        where = space.where(("workload",))
        return cls(_deployment(space, folder), _workload(space.values.get("workload", "chat"), where), folder)

    def check(self, space: Document, axes: tuple[Axis, ...]) -> None:
        """Raise ConfigError or CatalogError for a value of an axis that its field cannot have, in any combination,
        or when the rest of the deployment is wrong."""
        first: dict[str, Any] = {}
        for axis in axes:
            for place, name in enumerate(axis.names):
                for row in axis.rows:
                    _check_value(space, (*axis.place, name), row[place])
                first[name] = axis.rows[0][place]
        validate(Deployment, Document(self.values(first), self.document.place, self.document.lines))

    def values(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the deployment with some of them set."""
        values = deepcopy(self.document.values)
        for name, value in overrides.items():
            if not name.startswith("workload"):
                _put(values, name, value)
        return values

    def value(self, name: str) -> Any:
        """What a field is where it does not vary; the name of a workload for ``workload``."""
        head, *rest = name.split(".")
        if head == "workload":
            return self.workload.get(rest[0]) if rest else named(self.workload["source"])
        found: Any = self.document.values
        for part in (head, *rest):
            found = found.get(part) if isinstance(found, Mapping) else None
        info = describe(Deployment, (head, *rest))
        return info.get_default() if found is None and not info.is_required() else found

    def configuration(self, overrides: dict[str, Any], deployment: Deployment, resolved: Resolved) -> Configuration:
        """A deployment that can run with its workload. Raises what ``load_workload`` raises."""
        workload = self._load(overrides, deployment.seed)
        return Configuration(overrides, deployment, resolved, workload, digest(resolved, workload))

    def resolved(self, overrides: Mapping[str, Any]) -> tuple[Deployment, Resolved]:
        """The deployment as described, and as it can run. Raises what ``resolve`` raises."""
        deployment = Deployment.model_validate(self.values(overrides))
        return deployment, resolve(deployment)

    def _load(self, overrides: Mapping[str, Any], seed: int) -> Workload:
        asked = {"seed": seed, **self.workload}
        if "workload" in overrides:
            asked |= _workload(overrides["workload"], "workload")
        asked |= {name.partition(".")[2]: overrides[name] for name in WORKLOAD_FIELDS[1:] if name in overrides}
        asked = {name: value for name, value in asked.items() if value is not None}
        key = json.dumps(asked, sort_keys=True)
        if key not in self.loaded:
            if len(self.loaded) == KEPT:
                self.loaded.clear()
            self.loaded[key] = load_workload(self._located(asked.pop("source")), **asked)
        return self.loaded[key]

    def _located(self, source: Any) -> Any:
        """A source whose files are relative to the space."""
        if isinstance(source, str):
            return source if source in presets() else str(self.folder / source)
        return {
            key: part | {"file": str(self.folder / part["file"])} if isinstance(part, dict) and "file" in part else part
            for key, part in source.items()
        }

    def files(self, workloads: Sequence[Any]) -> list[Any]:
        """The workload that does not vary, ``workloads``, and digests of the files that they name."""
        every = [self.workload, *(_workload(one, "workload") for one in workloads)]
        texts = [text for one in every for text in _texts(self._located(one["source"]))]
        return [every, [hashlib.sha256(Path(text).read_bytes()).hexdigest() for text in texts if Path(text).is_file()]]


def _deployment(space: Document, folder: Path) -> Document:
    given = space.values.get("deployment")
    if given is None:
        return read(DEFAULT_FILE)
    if isinstance(given, str):
        found = read(folder / given)
        if isinstance(found.values.get("deployment"), dict):  # the config.json of a result
            return Document(found.values["deployment"], found.place)
        return found
    if not isinstance(given, dict):
        raise ConfigError(f"{space.where(('deployment',))}: {short(given)} is neither a file nor fields")
    lines = {key[1:]: line for key, line in space.lines.items() if key[0] == "deployment" and len(key) > 1}
    return Document(given, space.place, lines)


def _workload(given: Any, where: str) -> dict[str, Any]:
    """Source, rate, number of requests and seed of a workload that is a name, a description, or these."""
    if isinstance(given, str):
        return {"source": given}
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: {short(given)} is no workload (e.g. chat)")
    if "lengths" in given:
        return {"source": given}
    for key in given:
        if key not in WORKLOAD_KEYS:
            raise ConfigError(f"{where}.{key}: unknown key; {did_you_mean(str(key), (*WORKLOAD_KEYS, 'lengths'))}")
        if key != "source":
            _check_number(key, given[key], f"{where}.{key}")
    return {"source": "chat", **given}


def _check_number(key: str, value: Any, where: str) -> None:
    """Raise ConfigError for a rate, number of requests or seed that no workload can have."""
    if value is None:
        return
    kinds, least, most, valid = NUMBERS[key]
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ConfigError(f"{where}: {short(value)} is not {valid}")


def _check_value(space: Document, key: Key, value: Any) -> None:
    name, where = str(key[-1]), space.where(key)
    if name == "workload":
        _workload(value, where)
    elif name.startswith("workload"):
        _check_number(name.partition(".")[2], value, where)
    else:
        alone: dict[str, Any] = {"model": "any", "device": "any"}
        _put(alone, name, value)
        lines: dict[Key, int] = {tuple(name.split(".")): space.lines[key]} if key in space.lines else {}
        validate(Deployment, Document(alone, space.place, lines))
        if name in NAMED and value is not None:
            try:
                NAMED[name](value)
            except CatalogError as problem:
                raise CatalogError(f"{where}: {problem}") from None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)


def _put(values: dict[str, Any], dotted: str, value: Any) -> None:
    *sections, last = dotted.split(".")
    for section in sections:
        if not isinstance(values.get(section), dict):
            values[section] = {}
        values = values[section]
    values[last] = value
