"""A space of configurations: a deployment, a workload, the settings that vary, and conditions on them.

```yaml
deployment: deployment.yaml          # a file, fields, or nothing for the shipped default
workload: {source: chat, rate: 3, num_requests: 5000}
axes:                                # every combination of these values
  scheduler.max_num_seqs: {from: 32, to: 512, factor: 2}
  num_replicas: [1, 2, 4]
zip:                                 # fields that change together
  - {device: [a100, h100], tensor_parallel_size: [2, 1]}
where:                               # conditions that every configuration meets
  - num_gpus <= 8
```
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError, DoesNotFitError, did_you_mean
from fastsim.files.documents import Document, read, short
from fastsim.files.schema import describe
from fastsim.sweeps.axes import Axis, fields, read_axes
from fastsim.sweeps.base import Base
from fastsim.sweeps.conditions import Condition, parse
from fastsim.sweeps.configuration import Configuration

KEYS = ("deployment", "workload", "axes", "zip", "where")
# num_gpus is their product, with pools the sum of the products of each.
GPUS = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "num_replicas")
MANY = 100_000  # combinations; more may be a mistake


@dataclass
class Dropped:
    """How many combinations were left out for one reason, and the settings of the first."""

    count: int
    example: str


@dataclass
class Space:
    """A space whose configurations are made one by one, when they are needed."""

    source: str  # the file it was read from, or "space"
    base: Base
    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...]
    dropped: dict[str, Dropped] = field(default_factory=dict)  # by reason, as far as ``configurations`` has got

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | Space", *, yes: bool = False) -> "Space":
        """Load a space from a YAML, TOML or JSON file, or from a mapping; file names in it are relative to the file.

        Raises ConfigError if it is not valid, or has more than 100,000 combinations and ``yes`` is false.
        """
        if isinstance(source, Space):
            return source
        document = Document(dict(source)) if isinstance(source, Mapping) else read(source)
        for key in document.values:
            if key not in KEYS:
                raise ConfigError(f"{document.where((key,))}: unknown key; {did_you_mean(str(key), KEYS)}")
        axes = read_axes(document)
        space = cls(document.source or "space", Base.read(document), axes, _conditions(document))
        if space.size > MANY and not yes:
            lengths = " x ".join(f"{len(axis):,}" for axis in axes)
            raise ConfigError(f"{space.source}: {space.size:,} combinations ({lengths}); give --yes if you mean it")
        space.base.check(document, axes)
        for condition in space.conditions:
            for name in condition.fields:
                head, _, own = name.partition(".")
                if head == "pools" and own and (pool := own.partition(".")[0]) not in space.base.pool_names:
                    near = did_you_mean(pool, space.base.pool_names) if space.base.pool_names else "there are no pools"
                    raise ConfigError(f"{condition.source}: no pool has the name {pool!r}; {near}")
        return space

    def with_workload(self, **keys: Any) -> "Space":
        """The same space with other keys of its workload, those that are not None.

        Raises ConfigError for a key that is not valid, or that the space varies.
        """
        given = {key: value for key, value in keys.items() if value is not None}
        for key in given:
            self._refuse_varied("workload" if key == "source" else f"workload.{key}")
        return replace(self, base=self.base.with_workload(given)) if given else self

    def with_overrides(self, overrides: Sequence[str]) -> "Space":
        """The same space with other fields of its deployment, as ``--set`` writes them.

        Raises ConfigError for a field that is not valid, or that the space varies.
        """
        if not overrides:
            return self
        base = self.base.with_overrides(overrides)
        for key in base.document.overridden:
            self._refuse_varied(".".join(map(str, key)))
        return replace(self, base=base)

    def _refuse_varied(self, name: str) -> None:
        if name in self.names:
            raise ConfigError(f"{self.source}: {name} is one of its axes; leave it out there, or here")

    @property
    def names(self) -> tuple[str, ...]:
        """The dotted names of the fields that vary."""
        return tuple(name for axis in self.axes for name in axis.names)

    def values(self, name: str) -> list[Any]:
        """The values of a field that varies, at each step of its axis."""
        axis = next(axis for axis in self.axes if name in axis.names)
        return [step[axis.names.index(name)] for step in axis.steps]

    @property
    def size(self) -> int:
        """The number of combinations, before any is dropped."""
        return math.prod(len(axis) for axis in self.axes)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of all that the configurations depend on, with the files of their workloads."""
        axes = [(axis.names, axis.steps) for axis in self.axes]
        workloads = self.values("workload") if "workload" in self.names else []
        parts = [
            self.base.document.values,
            axes,
            [condition.text for condition in self.conditions],
            self.base.files(workloads),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def configurations(self) -> Iterator[Configuration]:
        """Yield every valid configuration once, in the order of the axes; the last axis changes fastest.

        Combinations that a condition or ``resolve`` refuses, and those that duplicate an earlier one, are counted in
        ``dropped``. Raises ConfigError if no configuration is left, and the errors of the workload and the catalog.
        """
        self.dropped.clear()
        seen: set[bytes] = set()
        for settings in self._combinations():
            try:
                described, resolved = self.base.resolved(settings)
            except DoesNotFitError as problem:
                self._drop("memory", 1, settings, str(problem))
                continue
            except ConfigError as problem:
                self._drop(str(problem).partition(":")[0], 1, settings, str(problem))
                continue
            configuration = self.base.configuration(settings, described, resolved)
            key = bytes.fromhex(configuration.digest)
            if key in seen:
                self._drop("the same as another", 1, settings, "duplicates another configuration")
                continue
            seen.add(key)
            yield configuration
        if not seen:
            reasons = "; ".join(
                f"{dropped.count:,} by {reason}, e.g. {dropped.example}" for reason, dropped in self.dropped.items()
            )
            raise ConfigError(f"{self.source}: none of {self.size:,} combinations is left: {reasons}")

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """The combinations that meet the conditions.

        A condition is checked as soon as all its fields have values, so that it rules out many combinations at once.
        """
        reads = {condition: self._reads(condition) for condition in self.conditions}
        known = set().union(*reads.values()) - set(self.names)
        fixed = {name: self.base.value(name) for name in known}
        checks: list[list[Condition]] = []  # by how many axes must have values before they can be checked
        for names in ((), *(axis.names for axis in self.axes)):
            known |= set(names)
            checks.append([condition for condition in reads if reads[condition] <= known])
            reads = {condition: names for condition, names in reads.items() if condition not in checks[-1]}
        return self._walk(0, fixed, checks)

    def _walk(self, depth: int, values: dict[str, Any], checks: list[list[Condition]]) -> Iterator[dict[str, Any]]:
        """The combinations whose first ``depth`` axes have these values."""
        for condition in checks[depth]:
            gpus = {"num_gpus": self._num_gpus(values)} if "num_gpus" in condition.fields else {}
            if not condition.holds(values | gpus):
                lost = math.prod(len(axis) for axis in self.axes[depth:])
                self._drop(f"where {condition.text}", lost, {name: values[name] for name in self._reads(condition)})
                return
        if depth == len(self.axes):
            yield {name: values[name] for name in self.names}
            return
        axis = self.axes[depth]
        for step in axis.steps:
            yield from self._walk(depth + 1, values | dict(zip(axis.names, step, strict=True)), checks)

    def _num_gpus(self, values: Mapping[str, Any]) -> int:
        if "pools" in self.names and (pools := values["pools"]):  # which vary as a whole
            own = [{name: pool.get(name) or values[name] for name in GPUS[:3]} for pool in pools]
            return sum(
                math.prod(each.values()) * pool.get("num_replicas", 1) for each, pool in zip(own, pools, strict=True)
            )
        return sum(math.prod(values[name] for name in names) for names in self._gpu_fields())

    def _gpu_fields(self) -> list[list[str]]:
        """The fields whose product is the number of GPUs; those of each pool, of a deployment with pools."""
        pools = self.base.pool_names
        return [[self._field_of(pool, name) for name in GPUS] for pool in pools] or [list(GPUS)]

    def _field_of(self, pool: str, name: str) -> str:
        """The field that says what ``name`` is of a pool: its own where it has one, or that of the deployment."""
        own = f"pools.{pool}.{name}"
        has_own = name == "num_replicas" or own in self.names or self.base.value(own) is not None
        return own if has_own and describe(Deployment, tuple(own.split("."))) else name

    def _reads(self, condition: Condition) -> frozenset[str]:
        """The fields that a condition depends on; those that num_gpus is made of in its place."""
        gpus = {name for names in self._gpu_fields() for name in names} if "num_gpus" in condition.fields else set()
        if gpus and "pools" in self.names:
            gpus.add("pools")
        return condition.fields - {"num_gpus"} | gpus

    def _drop(self, reason: str, count: int, settings: Mapping[str, Any], why: str = "") -> None:
        """Count combinations that are left out; the settings of the first for each reason become its example."""
        if reason in self.dropped:
            self.dropped[reason].count += count
        else:
            example = ", ".join(f"{name}={short(value)}" for name, value in sorted(settings.items()))
            self.dropped[reason] = Dropped(count, f"{example}: {why}" if why else example)


def _conditions(document: Document) -> tuple[Condition, ...]:
    given = document.values.get("where") or []
    made = []
    for number, text in enumerate(given if isinstance(given, list) else [given]):
        condition = parse(text, document.where(("where", number)))
        for name in condition.fields:
            known = name.startswith("pools.") and describe(Deployment, tuple(name.split("."))) is not None
            if not known and name not in (valid := [*fields(), "num_gpus"]):
                raise ConfigError(f"{condition.source}: {name!r} is no field; {did_you_mean(name, valid)}")
        made.append(condition)
    return tuple(made)
