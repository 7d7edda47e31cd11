"""The candidates of a search: the configurations of a space, each with the replicas that the budget pays for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastsim.deployment.resolve import with_copies
from fastsim.deployment.resolved import Resolved
from fastsim.errors import ConfigError
from fastsim.sweeps.configuration import digest
from fastsim.sweeps.space import Space
from fastsim.workload import Workload
from fastsim.workload.loading import is_description, refuse_users_of_tenants

from .budget import Budget
from .ignored import used
from .stream import Source

FOUND_BY_SEARCH = (
    "workload.rate",
    "workload.users",
    "workload.num_requests",
    "workload.seed",
)  # fields that a space may not vary

MERGED = "the same as another, as "  # before the reason


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration of a space, with its number of replicas, and the requests that it is to serve."""

    settings: dict[str, Any]  # by dotted field: those that vary in the space, and the numbers of replicas
    resolved: Resolved
    single: Resolved  # the same deployment with one replica, or with the fewest in the ratio of its pools
    unit: Workload  # at 1 request/s, unless users are looked for
    source: Source  # of longer runs with such requests
    digest: str
    single_digest: str

    @property
    def copies(self) -> int:
        """How many times the deployment has the replicas of ``single``."""
        return self.resolved.copies

    @property
    def dollars_per_hour(self) -> float:
        """Price of all GPUs of the deployment, dollars per hour; every candidate has one, as ``candidates`` checks."""
        return self.resolved.dollars_per_hour or 0.0

    @property
    def watts(self) -> float:
        """Rated power of all GPUs of the deployment, W."""
        return sum(kind.num_gpus * kind.device.power_w for kind in self.resolved.kinds)


def candidates(
    source: Space | str | Path | Mapping[str, Any],
    budget: Budget | None,
    num_requests: int | None,
    default_requests: int,
    *,
    users: bool = False,
    yes: bool = False,
) -> tuple[list[Candidate], dict[str, int]]:
    """List the candidates of a space, and count the combinations that were left out, by reason.

    ``default_requests``: of a workload that is drawn from a description and does not give their number. If the space
    does not vary ``num_replicas``, a candidate has as many replicas as the budget pays for; those of pools keep their
    ratio. ``users``: whether numbers of users are looked for, who send the requests at any rate. Raises ConfigError if
    the space is invalid or no candidate is left.
    """
    space = Space.load(source, yes=yes)
    for name in FOUND_BY_SEARCH:
        if name in space.names:
            raise ConfigError(
                f"{space.source}: {name}: a search finds the rate of each deployment itself; leave it out"
            )
    space = replace(space, base=replace(space.base, workload=_at_one(space, num_requests, default_requests, users)))
    by_digest: dict[str, Candidate] = {}
    sources: dict[str, Source] = {}
    merged: dict[str, int] = {}  # configurations that equal another, by why
    num_over_budget = 0
    for configuration in space.configurations():
        resolved = configuration.resolved
        _check_figures(space.source, resolved)
        if budget is not None:
            affordable = budget.copies(resolved)
            fixed = any(name.rpartition(".")[2] in ("num_replicas", "pools") for name in space.names)
            if affordable < (resolved.copies if fixed else 1):
                num_over_budget += 1
                continue
            if not fixed:
                resolved = with_copies(resolved, affordable)
        single = with_copies(resolved, 1)
        unit = configuration.workload if users else _unit(configuration.workload)
        given = space.base.workload_of(configuration.settings, configuration.deployment.seed)
        key = json.dumps(given, sort_keys=True)
        if key not in sources:
            sources[key] = _source(given, unit, users)
        alike, without_effect = used(resolved, configuration.settings)
        candidate = Candidate(
            settings={**configuration.settings, **_replicas(resolved)},
            resolved=resolved,
            single=single,
            unit=unit,
            source=sources[key],
            digest=digest(alike, unit),
            single_digest=digest(used(single, configuration.settings)[0], unit),
        )
        if (same := by_digest.get(candidate.digest)) is not None:
            reason = "" if same.resolved.deployment == resolved.deployment else without_effect
            merged[reason] = merged.get(reason, 0) + 1
        by_digest.setdefault(candidate.digest, candidate)
    dropped = {reason: combinations.count for reason, combinations in space.dropped.items()}
    for reason, number in merged.items():
        dropped[MERGED + reason if reason else "the same as another"] = number
    if num_over_budget:
        dropped["budget"] = num_over_budget
    if not by_digest:
        raise ConfigError(f"{space.source}: no configuration costs at most {budget}; raise the budget")
    return list(by_digest.values()), dropped


def _replicas(resolved: Resolved) -> dict[str, int]:
    """The number of replicas, and that of each pool, by dotted field."""
    pools = {f"pools.{each.pool.name}.num_replicas": each.pool.num_replicas for each in resolved.pools}
    return {"num_replicas": resolved.num_replicas, **pools}


def _source(given: Mapping[str, Any], unit: Workload, users: bool) -> Source:
    """Where the requests of longer runs come from; ``unit``: those of a recording, which are already loaded."""
    drawn = is_description(given["source"])
    spec = given["source"] if drawn else unit
    number = given.get("num_requests") if drawn else None
    return Source(spec, given["seed"], users=users, num_requests=number, too_long=given.get("too_long", "refuse"))


def _check_figures(source: str, resolved: Resolved) -> None:
    """Raise ConfigError for a GPU that no figure per dollar or per watt can be given for."""
    for kind in resolved.kinds:
        device = kind.device
        if not kind.dollars_per_hour:
            raise ConfigError(
                f"{source}: device: {device.name} has no price_per_hour, by which a search compares; give one (e.g. "
                f"--price {device.name}=2.50)"
            )
        if not device.power_w:
            raise ConfigError(
                f"{source}: device: {device.name} has no power_w, by which a search compares; copy its figures from "
                "'fastsim catalog devices --json' to a file such as my_gpu.yaml, with power_w, and name the file"
            )


def _at_one(space: Space, num_requests: int | None, default_requests: int, users: bool) -> dict[str, Any]:
    """The workload of a space at 1 request/s, or, if ``users`` are looked for, at any rate."""
    workload = {**space.base.workload, "rate": 1.0}
    refuse_users_of_tenants(workload["source"])
    if users:
        workload = {key: value for key, value in workload.items() if key not in ("rate", "users")}
    if num_requests is not None:
        workload["num_requests"] = num_requests
    elif is_description(workload["source"]):
        workload.setdefault("num_requests", default_requests)
    return workload


def _unit(workload: Workload) -> Workload:
    """The workload at 1 request/s, which it may no longer have where requests that are too long were dropped."""
    dropped = workload.origin is not None and workload.origin.dropped
    return workload.at_rate(1.0) if dropped else workload
