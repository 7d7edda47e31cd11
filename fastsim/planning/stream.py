"""The requests that a plan is made with: at one request per second, from which other rates are scaled."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.workload import Workload
from fastsim.workload.loading import is_description, refuse_users_of_tenants
from fastsim.workload.loading import load as load_workload
from fastsim.workload.too_long import within

NUM_REQUESTS = 16_000  # of a workload that is drawn from a description


def unit_requests(
    workload: Workload | str | Path | Mapping[str, Any], num_requests: int | None, seed: int, users: bool = False
) -> Workload:
    """Load a workload at 1 request/s, or, if ``users`` are looked for, at any rate.

    NUM_REQUESTS are drawn of a description unless ``num_requests`` is given. Raises ConfigError for tenants with users.
    """
    refuse_users_of_tenants(workload)
    if num_requests is None and is_description(workload):
        num_requests = NUM_REQUESTS
    return load_workload(workload, rate=None if users else 1.0, num_requests=num_requests, seed=seed)


def fitting(unit: Workload, resolved: Resolved, too_long: str, users: bool) -> Workload:
    """The requests of a workload that a deployment takes, again at 1 request/s unless ``users`` are looked for."""
    within_it = within(unit, resolved.max_model_len, too_long)
    return within_it if users or within_it.num_requests == unit.num_requests else within_it.at_rate(1.0)


def at_rate(unit: Workload, rate: float) -> Workload:
    """Scale the arrivals of a workload at 1 request/s to ``rate``; a description at that rate gives the same bits."""
    return replace(unit, arrived_at=unit.arrived_at / rate)
