"""The deployment and the workload that the configurations of a space start from."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastsim.catalog.load import load_device, load_model, load_node
from fastsim.deployment.description import DEFAULT_FILE, Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.deployment.schedulers import is_function
from fastsim.deployment.vllm.words import translated, translated_overrides
from fastsim.errors import CatalogError, ConfigError, InputError, WorkloadError, did_you_mean
from fastsim.files.documents import Document, Key, read, short
from fastsim.files.schema import describe, put, validate, with_overrides
from fastsim.sweeps.axes import WORKLOAD_FIELDS, Axis
from fastsim.workload import Workload, presets
from fastsim.workload.checks import check_unit
from fastsim.workload.loading import load as load_workload
from fastsim.workload.mixes import is_mix
from fastsim.workload.too_long import check_too_long, within
from fastsim.workload.workload import MAX_REQUESTS

from .configuration import Configuration, digest, workload_name

WORKLOAD_KEYS = ("source", "rate", "users", "max_concurrency", "num_requests", "seed", "unit", "too_long")
# Of the keys of a workload: their types, least and greatest value, and what completes "is not".
NUMBERS: dict[str, tuple[Any, float, float, str]] = {
    "rate": ((int, float), 1e-9, 1e9, "requests per second from 1e-9 to 1e9 (e.g. 2.0)"),
    "users": (int, 1, 2**31 - 1, "a whole number of users from 1 (e.g. 64)"),
    "max_concurrency": (int, 1, 2**31 - 1, "a whole number of requests from 1 (e.g. 64)"),
    "num_requests": (int, 1, MAX_REQUESTS, "a whole number from 1 to 1e9 (e.g. 1000)"),
    "seed": (int, 0, 2**63 - 1, "an integer from 0 (e.g. 0)"),
}
MAX_LOADED = 256  # workloads that are kept in memory
LOADERS = {"model": load_model, "device": load_device, "node": load_node}  # of fields that name a catalog entry


@dataclass(frozen=True)
class Base:
    """A deployment and a workload, to which the settings of a configuration are applied.

    Loaded workloads are kept, so that configurations with the same workload share its arrays.
    """

    document: Document  # of the deployment
    workload: dict[str, Any]  # what of WORKLOAD_KEYS is given
    space: str  # the file of the space, for messages, or "" for one from Python
    loaded: dict[str, Workload] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)  # of the workloads that were loaded

    @classmethod
    def read(cls, space: Document) -> "Base":
        """Read the deployment and the workload of a space. Raises ConfigError."""
        where = space.where(("workload",))
        workload = _workload(space.values.get("workload", "chat"), where)
        return cls(_deployment(space, Path(space.source).parent), workload, space.source)

    def with_workload(self, given: Mapping[str, Any]) -> "Base":
        """The same with other keys of the workload. Raises ConfigError."""
        return replace(self, workload=self.workload | _workload({**self.workload, **given}, "workload"), loaded={})

    def with_overrides(self, overrides: Sequence[str]) -> "Base":
        """The same with other fields of the deployment. Raises ConfigError."""
        changes = translated_overrides(overrides, self.document.values.get("model"))
        return replace(self, document=with_overrides(self.document, changes, Deployment))

    @property
    def folder(self) -> Path:
        """The folder that file names of workloads are relative to."""
        return Path(self.space).parent

    def check(self, space: Document, axes: tuple[Axis, ...]) -> None:
        """Check that each field may have the values of its axis, and that the rest of the deployment is valid.

        Values that are valid on their own may still be impossible together. Raises ConfigError or CatalogError.
        """
        first: dict[str, Any] = {}
        for axis in axes:
            for index, name in enumerate(axis.names):
                for step in axis.steps:
                    _check_value(space, (*axis.key, name), step[index], self.pool_names)
                first[name] = axis.steps[0][index]
        validate(Deployment, Document(self.values(first), self.document.source, self.document.lines))

    def values(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of the deployment with ``settings`` applied."""
        values = deepcopy(self.document.values)
        for name, value in settings.items():
            if not name.startswith("workload"):
                put(Deployment, values, name.split("."), value)
        return values

    @property
    def pool_names(self) -> list[str]:
        """The names of the pools of the deployment, by which a space varies their settings."""
        pools = self.document.values.get("pools")
        given = pools if isinstance(pools, list | tuple) else ()
        return [str(pool.get("name")) for pool in given if isinstance(pool, Mapping)]

    def value(self, name: str) -> Any:
        """The value of a field that does not vary; of ``workload``, its name."""
        head, *rest = name.split(".")
        if head == "workload":
            return self.workload.get(rest[0]) if rest else workload_name(self.workload["source"])
        value: Any = self.document.values
        for part in (head, *rest):
            if isinstance(value, list | tuple):  # of pools, by their names
                value = next((one for one in value if isinstance(one, Mapping) and one.get("name") == part), None)
            else:
                value = value.get(part) if isinstance(value, Mapping) else None
        info = describe(Deployment, (head, *rest))
        if info is None:
            return None
        return info.get_default() if value is None and not info.is_required() else value

    def configuration(self, settings: dict[str, Any], deployment: Deployment, resolved: Resolved) -> Configuration:
        """The configuration of a resolved deployment with its workload. Raises the errors of ``load_workload``."""
        workload = self._load(settings, deployment.seed, resolved.max_model_len)
        return Configuration(settings, deployment, resolved, workload, digest(resolved, workload))

    def resolved(self, settings: Mapping[str, Any]) -> tuple[Deployment, Resolved]:
        """The deployment as described with ``settings``, and resolved. Raises the errors of ``resolve``."""
        deployment = Deployment.model_validate(self.values(settings))
        return deployment, resolve(deployment)

    def workload_of(self, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """The keys of the workload of a configuration, with the paths of its files; ``seed``: of the deployment."""
        given = self._given(settings, seed)
        return {**given, "source": self._located(given["source"])}

    def _given(self, settings: Mapping[str, Any], seed: int) -> dict[str, Any]:
        given = {"seed": seed, **self.workload}
        if "workload" in settings:
            given |= _workload(settings["workload"], "workload")
        given |= {name.partition(".")[2]: settings[name] for name in WORKLOAD_FIELDS[1:] if name in settings}
        return {name: value for name, value in given.items() if value is not None}

    def _load(self, settings: Mapping[str, Any], seed: int, max_model_len: int) -> Workload:
        given = self._given(settings, seed)
        too_long = given.pop("too_long", "refuse")
        whole = self._kept(json.dumps(given, sort_keys=True), lambda: self._read(given))
        if too_long == "refuse":
            return whole
        key = json.dumps([given, too_long, max_model_len], sort_keys=True)
        return self._kept(key, lambda: _fitting(whole, max_model_len, too_long))

    def _kept(self, key: str, make: Callable[[], Workload]) -> Workload:
        """The workload of a key, made when it is first needed."""
        if key not in self.loaded:
            if len(self.loaded) >= MAX_LOADED:
                self.loaded.clear()
            self.loaded[key] = made = make()
            self.notes.update(dict.fromkeys(made.notes))
        return self.loaded[key]

    def _read(self, given: Mapping[str, Any]) -> Workload:
        """Load the workload with these keys. Raises the errors of ``load_workload``."""
        source = self._located(given["source"])
        try:
            return load_workload(source, **{key: value for key, value in given.items() if key != "source"})
        except InputError as problem:
            if isinstance(source, str):
                raise
            raise type(problem)(": ".join(filter(None, (self.space, "workload", str(problem))))) from None

    def _located(self, source: Any) -> Any:
        """The source of a workload with the paths of its files, which are relative to the space."""
        if isinstance(source, str):
            return source if source in presets() or is_mix(source) else str(self.folder / source)
        return {
            key: part | {"file": str(self.folder / part["file"])}
            if isinstance(part, dict) and isinstance(part.get("file"), str)
            else part
            for key, part in source.items()
        }

    def files(self, workloads: Sequence[Any]) -> list[Any]:
        """The workload that does not vary and ``workloads``, with digests of the files that any of them names."""
        every = [self.workload, *(_workload(workload, "workload") for workload in workloads)]
        texts = [text for workload in every for text in _texts(self._located(workload["source"]))]
        return [every, [hashlib.sha256(Path(text).read_bytes()).hexdigest() for text in texts if Path(text).is_file()]]


def _deployment(space: Document, folder: Path) -> Document:
    given = space.values.get("deployment")
    if given is None:
        return read(DEFAULT_FILE)
    if isinstance(given, str):
        document = read(folder / given)
        if isinstance(document.values.get("deployment"), dict):  # the config.json of a result
            return Document(document.values["deployment"], document.source)
        return translated(document)
    if not isinstance(given, dict):
        raise ConfigError(f"{space.where(('deployment',))}: {short(given)} is neither a file nor fields")
    lines = {key[1:]: line for key, line in space.lines.items() if key[0] == "deployment" and len(key) > 1}
    return translated(Document(given, space.source, lines))


def _workload(given: Any, where: str) -> dict[str, Any]:
    """The keys of a workload that is a name, a description, or these keys."""
    if isinstance(given, str):
        return {"source": given}
    if not isinstance(given, dict) or not given:
        raise ConfigError(f"{where}: {short(given)} is no workload (e.g. chat)")
    if "lengths" in given:
        return {"source": given}
    source = given.get("source", "chat")
    if not isinstance(source, str) and not (isinstance(source, dict) and "lengths" in source):
        raise ConfigError(f"{where}.source: {short(source)} is no workload (e.g. chat)")
    for key in given:
        if key not in WORKLOAD_KEYS:
            raise ConfigError(f"{where}.{key}: unknown key; {did_you_mean(str(key), (*WORKLOAD_KEYS, 'lengths'))}")
        if key == "unit":
            check_unit(given[key], f"{where}.unit")
        elif key == "too_long":
            check_too_long(given[key], f"{where}.too_long")
        elif key != "source":
            _check_number(key, given[key], f"{where}.{key}")
    return {"source": "chat", **given}


def _fitting(workload: Workload, max_model_len: int, too_long: str) -> Workload:
    """The requests that a configuration takes; all of them if it takes none, and its simulation then says so."""
    try:
        return within(workload, max_model_len, too_long)
    except WorkloadError:
        return workload


def _check_number(key: str, value: Any, where: str) -> None:
    """Raise ConfigError if a number of a workload is not within its limits."""
    if value is None:
        return
    kinds, least, most, valid = NUMBERS[key]
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ConfigError(f"{where}: {short(value)} is not {valid}")


def _check_value(space: Document, key: Key, value: Any, pools: Sequence[str]) -> None:
    """Raise ConfigError or CatalogError if the field that ``key`` ends with cannot have ``value``.

    ``pools``: the names of those of the deployment.
    """
    name, where = str(key[-1]), space.where(key)
    if name == "workload":
        _workload(value, where)
    elif name.startswith("workload"):
        _check_number(name.partition(".")[2], value, where)
    else:
        alone: dict[str, Any] = {"model": "any", "device": "any", "pools": [{"name": pool} for pool in pools]}
        try:
            put(Deployment, alone, name.split("."), value)
        except ConfigError as problem:
            raise ConfigError(f"{where}: {problem}") from None
        place: Key = tuple(name.split("."))
        if place[0] == "pools" and len(place) > 1:
            place = ("pools", pools.index(str(place[1])), *place[2:])
        lines: dict[Key, int] = {place: space.lines[key]} if key in space.lines else {}
        validate(Deployment, Document(alone, space.source, lines))
        if name.endswith(".policy") and is_function(value) and not (file := Path(value.rpartition(":")[0])).is_file():
            raise ConfigError(f"{where}: {file}: no such file (e.g. my_policies.py:shortest_first)")
        if (field := name.rpartition(".")[2]) in LOADERS and value is not None:
            try:
                LOADERS[field](value)
            except CatalogError as problem:
                raise CatalogError(f"{where}: {problem}") from None


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
