"""What engines take beside the operators of a model, by release (data/engines): host, sampler and front end."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

from fastsim.deployment.sections import GIVEN_TIMES
from fastsim.files import DATA
from fastsim.files.documents import shipped

FILES = ("vllm", "sglang")
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class HostTimes:
    """Host time of a step, ms.

    Attributes
    ----------
    host_ms_per_step : that the GPUs wait for, once for a step that has requests.
    host_ms_per_sequence : that they wait for, for each request of its batch.
    hidden_ms_per_step, hidden_ms_per_sequence : the same of what the host does while they run, so that a step takes
        this at the least.
    """

    host_ms_per_step: float = 0.0
    host_ms_per_sequence: float = 0.0
    hidden_ms_per_step: float = 0.0
    hidden_ms_per_sequence: float = 0.0


OF_POLICIES = HostTimes()  # that are no engine's: a scheduler alone


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """The record of a release: coefficients with their units, none of which depends on the model.

    Attributes
    ----------
    host_ms_per_step : host time of a step, ms. With synchronous scheduling the GPUs wait for it; with asynchronous
        scheduling the host works while they run, and a step takes this at the least.
    host_ms_per_sequence : the same for each request of the batch, ms.
    async_host_ms_per_step : what the GPUs wait for with asynchronous scheduling too, ms.
    async_host_ms_per_sequence : the same for each request of the batch, ms.
    eager_us_per_kernel : to launch a kernel without a CUDA graph, us; the GPUs run meanwhile.
    sampler_ms : to draw tokens by top-k or top-p, for a vocabulary of 128,000 tokens, whatever the batch, ms.
    sampler_us_per_sequence : the same for each token that is drawn, us, on a GPU whose memory moves 3,350 GB/s.
    front_end_ms : from when a client sends a request until the scheduler sees it, ms; what its first token takes to the
        client counts here too.
    sources : where the coefficients come from, by term: host, eager, sampler, front_end.
    fitted_on : the measured runs that they were fitted on.
    """

    host_ms_per_step: float
    host_ms_per_sequence: float
    async_host_ms_per_step: float
    async_host_ms_per_sequence: float
    eager_us_per_kernel: float
    sampler_ms: float
    sampler_us_per_sequence: float
    front_end_ms: float
    sources: Mapping[str, str]
    fitted_on: tuple[str, ...]

    def host(self, is_async: bool) -> HostTimes:
        """The host time with or without asynchronous scheduling."""
        work = self.host_ms_per_step, self.host_ms_per_sequence
        return (
            HostTimes(self.async_host_ms_per_step, self.async_host_ms_per_sequence, *work)
            if is_async
            else HostTimes(*work)
        )


@cache
def of(release: str) -> EngineTimes:
    """The record of a release, such as vllm-0.19: what all ranges of releases say that hold it."""
    kind, version = version_of(release)
    found: dict[str, Any] = {"sources": {}, "fitted_on": ()}
    for (of, first, last), values in _ranges():
        if of == kind and first <= version <= last:
            found["sources"] |= values.get("sources", {})
            found["fitted_on"] += tuple(values.get("fitted_on", ()))
            found |= {name: value for name, value in values.items() if name not in ("sources", "fitted_on")}
    return EngineTimes(**found)


def coefficients() -> list[str]:
    """The names of the coefficients, in their order."""
    return [field.name for field in fields(EngineTimes) if field.type is float]


def front_end_ms(engine: str | None, source: str, compose: str) -> float:
    """The front end of a deployment that names none, ms.

    Only an engine whose operator times come from fastsim's data has one: affine times, a user's own tables and Vidur's
    formulas are those of a scheduler alone.
    """
    if engine is None or compose == "vidur" or source.partition(":")[0] in GIVEN_TIMES:
        return 0.0
    return of(engine).front_end_ms


def version_of(release: str) -> tuple[str, Version]:
    """The engine of a release, such as vllm-0.19, and its version."""
    kind, _, number = release.partition("-")
    return kind, tuple(map(int, number.split(".")))


@cache
def _ranges() -> list[tuple[tuple[str, Version, Version], Mapping[str, Any]]]:
    """What the files say, each with its engine and its first and last release."""
    return list(_read())


def _read() -> Iterator[tuple[tuple[str, Version, Version], Mapping[str, Any]]]:
    for name in FILES:
        for releases, values in shipped(DATA / "engines" / f"{name}.yaml").items():
            (kind, first), (_, last) = map(version_of, releases.split(" to "))
            yield (kind, first, last), values
