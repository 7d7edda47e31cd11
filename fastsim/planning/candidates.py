"""What a search chooses from: the configurations of a space, each with the replicas that a budget pays for."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.errors import ConfigError
from fastsim.sweeps.configuration import digest
from fastsim.sweeps.space import Space
from fastsim.workload import Workload
from fastsim.workload.loading import is_description

from .budget import Budget


@dataclass(frozen=True, slots=True)
class Candidate:
    """A configuration that a search may choose."""

    fields: dict[str, Any]  # what varies in the space, and num_replicas
    resolved: Resolved
    one: Resolved  # the same with a single replica
    unit: Workload  # its requests at 1 request/s
    digest: str
    one_digest: str

    @property
    def num_replicas(self) -> int:
        return self.resolved.num_replicas

    @property
    def dollars_per_hour(self) -> float:
        return self.resolved.num_gpus * self.resolved.device.price_per_hour


def candidates(
    source: Space | str | Path | Mapping[str, Any],
    budget: Budget | None,
    num_requests: int | None,
    default_requests: int,
    *,
    yes: bool = False,
) -> tuple[list[Candidate], dict[str, int]]:
    """Candidates, and how many combinations were left out by reason.

    Where the space does not vary ``num_replicas``, a deployment has as many as the budget pays for. Raises ConfigError
    for a space that cannot be meant, and when nothing is left.
    """
    space = Space.load(source, yes=yes)
    for name in ("workload.rate", "workload.num_requests", "workload.seed"):
        if name in space.names:
            raise ConfigError(f"{space.place}: {name}: a search finds the rate of each deployment itself; leave it out")
    at_one = {**space.base.workload, "rate": 1.0}
    if num_requests is not None:
        at_one["num_requests"] = num_requests
    elif is_description(at_one["source"]):
        at_one.setdefault("num_requests", default_requests)
    space = replace(space, base=replace(space.base, workload=at_one))
    scaled = "num_replicas" not in space.names
    found: dict[str, Candidate] = {}
    over = 0
    for one in space.configurations():
        resolved = one.resolved
        if budget is not None:
            affordable = budget.replicas(resolved)
            if affordable < (1 if scaled else resolved.num_replicas):
                over += 1
                continue
            if scaled:
                resolved = _with_replicas(one.deployment, affordable)
        single = _with_replicas(one.deployment, 1)
        fields = {**one.overrides, "num_replicas": resolved.num_replicas}
        whole, alone = digest(resolved, one.workload), digest(single, one.workload)
        found.setdefault(whole, Candidate(fields, resolved, single, one.workload, whole, alone))
    dropped = {reason: what.count for reason, what in space.dropped.items()}
    if over:
        dropped["budget"] = over
    if not found:
        raise ConfigError(f"{space.place}: no configuration costs at most {budget}; raise the budget")
    return list(found.values()), dropped


def _with_replicas(deployment: Deployment, number: int) -> Resolved:
    return resolve(deployment.model_copy(update={"num_replicas": number}))
