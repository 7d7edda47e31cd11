"""What engines take beside their GPUs, by release (data/engines): host time of a step, and the front end."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastsim.files import DATA
from fastsim.files.documents import parse_yaml

FILES = ("vllm", "sglang")


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Host time of a step that its GPUs wait for, ms.

    Attributes
    ----------
    host_ms_per_step : once for a step that has requests.
    host_ms_per_sequence : for each request of its batch.
    """

    host_ms_per_step: float
    host_ms_per_sequence: float


# What policies that are no engine's take.
OF_POLICIES = HostTimes(0.0, 0.02)


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """The record of a range of releases.

    Attributes
    ----------
    synchronous, asynchronous : host time without and with asynchronous scheduling.
    front_end_ms : from when a client sends a request until the scheduler sees it, ms.
    source : where these come from.
    fitted_on : the measured runs that they were fitted on.
    """

    synchronous: HostTimes
    asynchronous: HostTimes
    front_end_ms: float
    source: str
    fitted_on: tuple[str, ...]

    def host(self, is_async: bool) -> HostTimes:
        """The host time with or without asynchronous scheduling."""
        return self.asynchronous if is_async else self.synchronous


def of(release: str) -> EngineTimes:
    """The record of a release, such as vllm-0.19, whose range holds it."""
    kind, version = _version(release)
    return next(times for (of, first, last), times in _records() if of == kind and first <= version <= last)


def front_end_ms(engine: str | None, source: str, compose: str) -> float:
    """The front end of a deployment that names none, ms.

    Only an engine whose operator times come from fastsim's data has one: affine times, a user's own tables and Vidur's
    formulas are those of a scheduler alone.
    """
    if engine is None or compose == "vidur" or source.partition(":")[0] in ("affine", "tables", "vidur"):
        return 0.0
    return of(engine).front_end_ms


def _version(release: str) -> tuple[str, tuple[int, ...]]:
    kind, _, number = release.partition("-")
    return kind, tuple(map(int, number.split(".")))


@cache
def _records() -> list[tuple[tuple[str, tuple[int, ...], tuple[int, ...]], EngineTimes]]:
    """Records, each with its engine and its first and last release."""
    found = []
    for name in FILES:
        path = DATA / "engines" / f"{name}.yaml"
        for releases, values in parse_yaml(path.read_text(encoding="utf-8"), path.name).values.items():
            (kind, first), (_, last) = map(_version, releases.split(" to "))
            found.append(((kind, first, last), _record(values)))
    return found


def _record(values: Mapping[str, Any]) -> EngineTimes:
    return EngineTimes(
        synchronous=HostTimes(**values["synchronous"]),
        asynchronous=HostTimes(**values["asynchronous"]),
        front_end_ms=values["front_end_ms"],
        source=values["source"],
        fitted_on=tuple(values["fitted_on"]),
    )
