"""The requests that a plan is made with: at one request per second, from which other rates are scaled."""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.workload import Workload
from fastsim.workload.loading import is_description, refuse_users_of_tenants, synthesise
from fastsim.workload.loading import load as load_workload
from fastsim.workload.repeat import repeated
from fastsim.workload.too_long import within

NUM_REQUESTS = 16_000  # of a workload that is drawn from a description, at least
MOST_REQUESTS = 1_000_000  # of a run; one that confirms a plan has three times as many
MOST_HASHES = 20_000_000  # of blocks of tokens in such a run, which take most of the memory where there are any


class Source:
    """Where the requests of a plan come from: draws of a description, or a recording that is played over and over."""

    def __init__(
        self,
        spec: Workload | str | Path | Mapping[str, Any],
        seed: int,
        *,
        users: bool = False,
        num_requests: int | None = None,
        unit: str | None = None,
        too_long: str = "refuse",
    ) -> None:
        """``spec`` is what ``load_workload`` takes, ``seed`` that of a description that has none.

        ``users``: whether users who wait for their answers send the requests; otherwise they come at 1 request/s.
        ``num_requests``: of a run, at least; by default NUM_REQUESTS of a description, and all of a recording. ``unit``
        and ``too_long`` are those of ``load_workload`` and ``simulate``. Raises ConfigError for tenants with users, who
        have no rate.
        """
        refuse_users_of_tenants(spec)
        if not isinstance(spec, Workload) and not is_description(spec):
            spec = load_workload(spec, unit=unit)
        if isinstance(spec, Workload):
            spec = spec if num_requests is None else spec.head(num_requests)
        elif num_requests is None:
            num_requests = NUM_REQUESTS
        self.spec, self.seed, self.users, self.too_long = spec, seed, users, too_long
        self.least = spec.num_requests if isinstance(spec, Workload) else int(num_requests or 0)
        self._drawn: dict[tuple[int, int], Workload] = {}  # the last two

    @property
    def is_drawn(self) -> bool:
        """Whether there are other draws, as there are of a description."""
        return not isinstance(self.spec, Workload)

    def most(self, unit: Workload) -> int:
        """The most requests of a run, by how much memory those of ``unit`` take."""
        hashes = unit.block_hashes
        if hashes is None or not len(hashes.values):
            return max(self.least, MOST_REQUESTS)
        return max(self.least, min(MOST_REQUESTS, MOST_HASHES * unit.num_requests // len(hashes.values)))

    def draw(self, num_requests: int, resolved: Resolved, number: int = 0) -> Workload:
        """The requests of a run of a deployment, at 1 request/s or for users: those it takes, of ``num_requests``.

        ``number``: of the draw, from 0. Draw 0 is what ``simulate`` has. A recording has one draw; a run that is longer
        plays it again from the start.
        """
        return fitting(self._draw(num_requests, number), resolved, self.too_long, self.users)

    def _draw(self, num_requests: int, number: int) -> Workload:
        key = (num_requests, number if self.is_drawn else 0)
        if key not in self._drawn:
            if len(self._drawn) > 1:
                self._drawn.pop(next(iter(self._drawn)))
            self._drawn[key] = self._new(*key)
        return self._drawn[key]

    def _new(self, num_requests: int, number: int) -> Workload:
        rate = None if self.users else 1.0
        spec = self.spec
        if isinstance(spec, Workload):
            if num_requests > spec.num_requests:
                spec = repeated(spec, ceil(num_requests / spec.num_requests))
            return load_workload(spec, rate=rate, num_requests=num_requests)
        if not number:
            return load_workload(spec, rate=rate, num_requests=num_requests, seed=self.seed)
        return synthesise(spec, rate=rate, num_requests=num_requests, seed=self.seed + number)


def fitting(unit: Workload, resolved: Resolved, too_long: str, users: bool) -> Workload:
    """The requests of a workload that a deployment takes, again at 1 request/s unless ``users`` are looked for."""
    within_it = within(unit, resolved.max_model_len, too_long)
    return within_it if users or within_it.num_requests == unit.num_requests else within_it.at_rate(1.0)


def at_rate(unit: Workload, rate: float) -> Workload:
    """Scale the arrivals of a workload at 1 request/s to ``rate``; a description at that rate gives the same bits."""
    return replace(unit, arrived_at=unit.arrived_at / rate)
