"""A space of configurations: a deployment and a workload, fields that vary, and conditions that they keep.

```yaml
deployment: deployment.yaml          # a file, fields, or nothing for the shipped default
workload: {source: chat, rate: 3, num_requests: 5000}
axes:                                # every value with every other
  scheduler.max_num_seqs: {from: 32, to: 512, factor: 2}
  num_replicas: [1, 2, 4]
zip:                                 # values in step
  - {device: [a100, h100], tensor_parallel_size: [2, 1]}
where:
  - num_gpus <= 8
```
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastsim.errors import ConfigError, DoesNotFitError, did_you_mean
from fastsim.files.documents import Document, read, short
from fastsim.sweeps import conditions as expression
from fastsim.sweeps.axes import Axis, fields, read_axes
from fastsim.sweeps.base import Base
from fastsim.sweeps.conditions import Condition
from fastsim.sweeps.configuration import Configuration

KEYS = ("deployment", "workload", "axes", "zip", "where")
GPUS = frozenset(("tensor_parallel_size", "pipeline_parallel_size", "num_replicas"))  # num_gpus is their product
MANY = 100_000  # combinations that somebody may not have meant


@dataclass
class Dropped:
    """Combinations left out for one reason, and the first of them."""

    count: int
    example: str


@dataclass
class Space:
    """Configurations, made one by one as they are asked for."""

    place: str
    base: Base
    axes: tuple[Axis, ...]
    conditions: tuple[Condition, ...]
    dropped: dict[str, Dropped] = field(default_factory=dict)  # by reason, as far as configurations have been made

    @classmethod
    def load(cls, source: "str | Path | Mapping[str, Any] | Space", *, yes: bool = False) -> "Space":
        """A space from a YAML, TOML or JSON file, or from a mapping; names of files are relative to the file.

        Raises ConfigError with the place, the value and a valid value; also for more than 100,000 combinations,
        unless ``yes``.
        """
        if isinstance(source, Space):
            return source
        document = Document(dict(source)) if isinstance(source, Mapping) else read(source)
        for key in document.values:
            if key not in KEYS:
                raise ConfigError(f"{document.where((key,))}: unknown key; {did_you_mean(str(key), KEYS)}")
        axes = read_axes(document)
        space = cls(document.place or "space", Base.read(document), axes, _conditions(document))
        if space.size > MANY and not yes:
            lengths = " x ".join(f"{len(axis.rows):,}" for axis in axes)
            raise ConfigError(f"{space.place}: {space.size:,} combinations ({lengths}); give --yes if you mean it")
        space.base.check(document, axes)
        return space

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that vary."""
        return tuple(name for axis in self.axes for name in axis.names)

    def values(self, name: str) -> list[Any]:
        """The values of a field that varies."""
        axis = next(axis for axis in self.axes if name in axis.names)
        return [row[axis.names.index(name)] for row in axis.rows]

    @property
    def size(self) -> int:
        """Combinations, before any is dropped."""
        return math.prod(len(axis.rows) for axis in self.axes)

    @property
    def digest(self) -> str:
        """Of all that configurations are made of, the files of their workloads included."""
        axes = [(axis.names, axis.rows) for axis in self.axes]
        workloads = self.values("workload") if "workload" in self.names else []
        parts = [self.base.document.values, axes, [one.text for one in self.conditions], self.base.files(workloads)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def configurations(self) -> Iterator[Configuration]:
        """Every valid configuration once, in the order of the axes, the last one changing fastest.

        What a condition or ``resolve`` refuses, and what comes to the same as an earlier one, is counted in
        ``dropped``. Raises ConfigError when none is left, and what the workload and names of the catalog raise.
        """
        self.dropped.clear()
        seen: set[bytes] = set()
        for overrides in self._combinations():
            try:
                described, resolved = self.base.resolved(overrides)
            except DoesNotFitError as problem:
                self._drop("memory", 1, overrides, str(problem))
                continue
            except ConfigError as problem:
                self._drop(str(problem).partition(":")[0], 1, overrides, str(problem))
                continue
            made = self.base.configuration(overrides, described, resolved)
            key = bytes.fromhex(made.digest)
            if key in seen:
                self._drop("the same as another", 1, overrides, "its fields come to what another's do")
                continue
            seen.add(key)
            yield made
        if not seen:
            reasons = "; ".join(
                f"{one.count:,} by {reason}, e.g. {one.example}" for reason, one in self.dropped.items()
            )
            raise ConfigError(f"{self.place}: none of {self.size:,} combinations is left: {reasons}")

    def _combinations(self) -> Iterator[dict[str, Any]]:
        """Combinations that keep the conditions; each is asked as soon as its fields have values."""
        reads = {one: _reads(one) for one in self.conditions}
        known = set().union(*reads.values()) - set(self.names)
        fixed = {name: self.base.value(name) for name in known}
        asked: list[list[Condition]] = []
        for names in ((), *(axis.names for axis in self.axes)):
            known |= set(names)
            asked.append([one for one in reads if reads[one] <= known])
            reads = {one: names for one, names in reads.items() if one not in asked[-1]}
        return self._walk(0, fixed, asked)

    def _walk(self, place: int, values: dict[str, Any], asked: list[list[Condition]]) -> Iterator[dict[str, Any]]:
        for condition in asked[place]:
            gpus = {"num_gpus": math.prod(values[name] for name in GPUS)} if "num_gpus" in condition.fields else {}
            if not condition.holds(values | gpus):
                lost = math.prod(len(axis.rows) for axis in self.axes[place:])
                self._drop(f"where {condition.text}", lost, {name: values[name] for name in _reads(condition)})
                return
        if place == len(self.axes):
            yield {name: values[name] for name in self.names}
            return
        axis = self.axes[place]
        for row in axis.rows:
            yield from self._walk(place + 1, values | dict(zip(axis.names, row, strict=True)), asked)

    def _drop(self, reason: str, count: int, fields: Mapping[str, Any], why: str = "") -> None:
        if reason in self.dropped:
            self.dropped[reason].count += count
        else:
            example = ", ".join(f"{name}={short(value)}" for name, value in sorted(fields.items()))
            self.dropped[reason] = Dropped(count, f"{example}: {why}" if why else example)


def _reads(condition: Condition) -> frozenset[str]:
    return condition.fields - {"num_gpus"} | (GPUS if "num_gpus" in condition.fields else frozenset())


def _conditions(document: Document) -> tuple[Condition, ...]:
    given = document.values.get("where") or []
    found = []
    for number, text in enumerate(given if isinstance(given, list) else [given]):
        condition = expression.parse(text, document.where(("where", number)))
        for name in condition.fields:
            if name not in (valid := [*fields(), "num_gpus"]):
                raise ConfigError(f"{condition.place}: {name!r} is no field; {did_you_mean(name, valid)}")
        found.append(condition)
    return tuple(found)
