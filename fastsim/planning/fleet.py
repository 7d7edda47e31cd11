"""How many GPUs of which kind serve so many requests: the cheapest fleet of each kind of GPU."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from fastsim.catalog import load
from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.errors import ConfigError
from fastsim.planning.candidates import Candidate
from fastsim.planning.capacity import TOLERANCE, objectives_of
from fastsim.planning.ranking import Row
from fastsim.planning.rungs import evaluate
from fastsim.planning.search import Found, search
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.run import Progress

SIZES = (1, 2, 4, 8)  # tensor parallel
NUM_REQUESTS = 16_000
STEPS = 8  # replicas added or taken away when all of them are simulated together


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one deployment that serve a rate within the objectives; ``figures`` are those at it, s."""

    device: str
    tensor_parallel_size: int
    num_replicas: int
    gpus: int
    dollars_per_hour: float
    dollars_per_million_requests: float
    margin: float  # share by which the rate may grow, by the capacity of one replica
    figures: dict[str, float | None]
    deployment: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def rate_of(rate: float | None, users: float | None, per_user: float) -> float:
    """Requests/s of a rate, or of users with ``per_user`` requests a minute each. Raises ConfigError."""
    if (rate is None) == (users is None):
        raise ConfigError("fleet: give either a rate or a number of users (e.g. --rate 50, or --users 3000)")
    for name, value, example in (("rate", rate, "50"), ("users", users, "3000"), ("per-user", per_user, "1")):
        if value is not None and not 0 < value < 1e9:
            raise ConfigError(f"{name}: {value:g} is not a number above 0 (e.g. {example})")
    return rate if rate is not None else float(users or 0) * per_user / 60


def fleets(
    rate: float,
    deployment: Deployment | str | Path | None = None,
    workload: str | Mapping[str, Any] = "chat",
    objectives: Sequence[str | Objective] = (),
    *,
    devices: Sequence[str] = (),
    num_requests: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Fleet], Found]:
    """The cheapest fleet of each kind of GPU that serves ``rate`` requests/s, the cheapest first, and the search.

    ``deployment``: what else is so; its device, node, tensor_parallel_size and num_replicas are what is looked for.
    ``devices``: by default all whose operator times are shipped. All replicas are simulated together behind
    the deployment's router: one more is added where they are not enough, and taken away where they are too many.
    """
    wanted = objectives_of(objectives)
    base = Deployment.load(deployment).model_dump(mode="json")
    names = [load.load_device(name).name for name in devices] or known_devices()
    base |= {"device": names[0], "node": None, "tensor_parallel_size": 1, "num_replicas": 1}
    described = {
        "deployment": base,
        "workload": {"source": workload, "num_requests": num_requests or NUM_REQUESTS},
        "axes": {"device": names, "tensor_parallel_size": list(SIZES)},
    }
    found = search(described, None, wanted, rank="cost", rate=rate, threads=threads, progress=progress)
    best: dict[str, tuple[Candidate, Row]] = {}
    for one, row in zip(found.candidates, found.rows, strict=True):
        cost = row.get("dollars_per_hour_at_rate")
        if cost is not None and (
            row["device"] not in best or cost < best[row["device"]][1]["dollars_per_hour_at_rate"]
        ):
            best[row["device"]] = one, row
    made = [fleet for one, row in best.values() if (fleet := _fleet(one, row, rate, wanted)) is not None]
    return sorted(made, key=lambda fleet: (fleet.dollars_per_hour, fleet.gpus)), found


def known_devices() -> list[str]:
    """Devices with shipped operator times."""
    from fastsim.predictors.forests.forest import systems

    return [name for name in load.names("devices") if load.load_device(name).predictor in systems()]


def _fleet(one: Candidate, row: Row, rate: float, wanted: Sequence[Objective]) -> Fleet | None:
    """As many replicas as it takes when all of them are simulated; None when STEPS more are not enough."""
    number = ceil(rate / row["capacity"] - TOLERANCE)
    served = None
    for _ in range(STEPS):
        served = _serves(one, max(1, number), rate, wanted)
        if served is not None:
            break
        number += 1
    while served is not None and number > 1 and (fewer := _serves(one, number - 1, rate, wanted)) is not None:
        number, served = number - 1, fewer
    if served is None:
        return None
    resolved, figures = served
    cost = resolved.num_gpus * resolved.device.price_per_hour
    return Fleet(
        device=resolved.device.name,
        tensor_parallel_size=resolved.tensor_parallel_size,
        num_replicas=resolved.num_replicas,
        gpus=resolved.num_gpus,
        dollars_per_hour=cost,
        dollars_per_million_requests=cost / 3600 / rate * 1e6,
        margin=row["capacity"] * resolved.num_replicas / rate - 1,
        figures=figures,
        deployment=resolved.deployment.model_dump(mode="json"),
    )


def _serves(
    one: Candidate, number: int, rate: float, wanted: Sequence[Objective]
) -> tuple[Resolved, dict[str, float | None]] | None:
    resolved = resolve(one.resolved.deployment.model_copy(update={"num_replicas": number}))
    outcome = evaluate(resolved, one.unit, wanted, TOLERANCE, target=rate)
    return (resolved, outcome.figures or {}) if outcome.rate > 0 else None
