"""The cheapest fleet of each kind of GPU that serves a rate within the objectives."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from fastsim.catalog import load
from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError
from fastsim.planning.candidates import Candidate
from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.replicas import FACTOR, Smallest, smallest, tightness
from fastsim.planning.rungs import WATCHED
from fastsim.planning.search import SearchResult, search
from fastsim.planning.stream import NUM_REQUESTS, at_rate
from fastsim.planning.trials import Trials
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.simulation.probe import Probed
from fastsim.simulation.run import Progress, simulate
from fastsim.sweeps.configuration import Row
from fastsim.workload import Workload
from fastsim.workload.loading import is_description

SIZES = (1, 2, 4, 8)  # GPUs of a replica that are tried
LAYOUT = ("tensor_parallel_size", "data_parallel_size", "enable_expert_parallel")
REPLICATES = 8
SEARCHED = 0.5  # share of the progress that the search has


@dataclass(frozen=True, slots=True)
class Fleet:
    """Replicas of one deployment that together serve a rate within the objectives.

    Attributes
    ----------
    device : str
        The GPU; of pools those of all.
    tensor_parallel_size : int or None
        GPUs that share each layer of a replica; None where pools differ.
    data_parallel_size : int
        Ranks of a replica.
    enable_expert_parallel : bool
        Whether the GPUs of a replica share the experts.
    num_replicas : int
        Replicas of the fleet.
    pools : dict of str to int
        Replicas of each pool by its name; empty without pools.
    gpus : int
        GPUs of all replicas.
    dollars_per_hour : float
        Price of all GPUs.
    dollars_per_million_requests : float
        Price of a million requests at the rate.
    margin : float
        Share by which the load may grow before an objective is missed or the queue grows, as simulations of the fleet
        show.
    margin_is_least : bool
        Whether the fleet bore all that was tried, so that the margin may be larger.
    chance : float or None
        Share of the replicates, with other requests and operator times from their 90 % intervals, that meet the
        objectives. None without replicates.
    goodput : float
        Share of the requests that meet every objective.
    tight : str
        Why one replica less would not do, a clause.
    num_requests : int
        Requests of a run; the run that confirms the fleet, with another draw and 1 % more load, has three times as
        many.
    span : float
        Length of a run, from the first arrival to the last, s.
    figures : dict of str to float
        Latencies at the rate, by ``metric:statistic``, s.
    deployment : dict
        The fields of the deployment, as its file has them.
    """

    device: str
    tensor_parallel_size: int | None
    data_parallel_size: int
    enable_expert_parallel: bool
    num_replicas: int
    pools: dict[str, int]
    gpus: int
    dollars_per_hour: float
    dollars_per_million_requests: float
    margin: float
    margin_is_least: bool
    chance: float | None
    goodput: float
    tight: str
    num_requests: int
    span: float
    figures: dict[str, float | None]
    deployment: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The fields, as JSON has them."""
        return asdict(self)


def rate_of(rate: float | None, users: float | None, per_user: float | None) -> float:
    """The requests/s that are given, or those of ``users`` who send ``per_user`` requests a minute each.

    Parameters
    ----------
    rate : float or None
        Requests/s; None if users are given.
    users : float or None
        Number of users; None if a rate is given.
    per_user : float or None
        Requests a minute of each user; None if a rate is given.

    Returns
    -------
    float
        Requests/s.

    Raises
    ------
    errors.ConfigError
        When both or neither of ``rate`` and ``users`` are given, users without ``per_user`` or that without users, or a
        number that is not above 0.

    Examples
    --------
    >>> from fastsim.planning.fleet import rate_of
    >>> rate_of(None, users=3000, per_user=2.0)
    100.0
    """
    if (rate is None) == (users is None):
        raise ConfigError("fleet: give either a rate or a number of users (e.g. --rate 50, or --users 3000)")
    if (per_user is None) != (users is None):
        raise ConfigError("per-user: the requests a minute belong to users (e.g. --users 3000 --per-user 2)")
    for name, value, example in (("rate", rate, "50"), ("users", users, "3000"), ("per-user", per_user, "1")):
        if value is not None and not 0 < value < 1e9:
            raise ConfigError(f"{name}: {value:g} is not a number above 0 (e.g. {example})")
    return rate if rate is not None else float(users or 0) * (per_user or 0) / 60


def fleets(
    rate: float,
    deployment: Deployment | str | Path | None = None,
    workload: str | Mapping[str, Any] = "chat",
    objectives: Sequence[str | Objective] = (),
    *,
    devices: Sequence[str] = (),
    num_requests: int | None = None,
    replicates: int = REPLICATES,
    too_long: str = "refuse",
    unit: str | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Fleet], SearchResult]:
    """Find the cheapest fleet of each kind of GPU that serves a rate within the objectives.

    A search finds the best layout of a replica of up to 8 GPUs of each kind, and the replicas that should be enough:
    tensor parallel, and of models with experts also expert parallel, with and without ranks. All of them are then
    simulated together behind the deployment's router: replicas are added while they are too few, and taken away while
    fewer are enough. Runs last as for ``capacity``, and a fleet must hold in one that is three times as long, with
    another draw and 1 % more requests/s; otherwise it gets more replicas.

    Parameters
    ----------
    rate : float
        The rate to serve, requests/s.
    deployment : Deployment, str, Path or None
        The model, scheduler, router and all other fields of the deployment, or a file that describes them. Its device,
        node, layout and num_replicas are what is looked for. By default Llama-3-8B.
    workload : str or mapping
        A file, a preset or a description of the requests; their rate is replaced. By default ``"chat"``.
    objectives : sequence of str
        What the latencies must keep to, such as ``"ttft:p90<2s"``. By default those of Vidur:
        ``scheduling_delay:p99<5s``, ``ttft:p90<2s`` and ``tbt:p99<200ms``.
    devices : sequence of str
        GPUs to try, by their names in the catalog. By default all whose operator times come with fastsim.
    num_requests : int, optional
        Requests in each full simulation, at least. By default 16,000 of a preset or description, and all of a file.
    replicates : int
        Further simulations of each fleet that give ``chance``. By default 8.
    too_long : str
        What becomes of requests with more tokens than max_model_len, as for ``simulate``. By default ``"refuse"``.
    unit : str, optional
        The unit of the arrival times in a file, as for ``load_workload``. By default that of its layout.
    threads : int, optional
        Threads of this process. By default one per core.
    progress : callable, optional
        A function that is called with the share of the search that is done, 0 to 1.

    Returns
    -------
    list of Fleet
        A fleet for each kind of GPU that can serve the rate, the cheapest first.
    SearchResult
        The search behind them, with a row for each GPU and layout.

    Raises
    ------
    errors.InputError
        When a GPU is unknown, or the deployment, the workload or an objective is not valid.

    Examples
    --------
    >>> from fastsim.planning.fleet import fleets
    >>> made, _ = fleets(60.0, devices=["h100"], num_requests=1000)
    >>> made[0].num_replicas, made[0].tensor_parallel_size, round(made[0].dollars_per_million_requests, 2)
    (2, 1, 39.35)
    """
    wanted = parse_all(objectives, "--slo") or DEFAULTS
    base = Deployment.load(deployment).model_dump(mode="json")
    names = [load.load_device(name).name for name in devices] or known_devices()
    base |= {"device": names[0], "node": None, "tensor_parallel_size": 1, "num_replicas": 1}
    space = {
        "deployment": base,
        "workload": {
            "source": workload,
            "num_requests": num_requests or (NUM_REQUESTS if is_description(workload) else None),
            "too_long": too_long,
            "unit": unit,
        },
        "axes": {"device": names},
        "zip": [dict(zip(LAYOUT, map(list, zip(*layouts(base), strict=True)), strict=True))],
    }

    def share(done: float) -> None:
        if progress:
            progress(SEARCHED * done)

    result = search(space, None, wanted, rank="cost", rate=rate, threads=threads, progress=share, confirmed=False)
    cheapest: dict[str, tuple[Candidate, Row]] = {}  # by device
    for candidate, row in zip(result.candidates, result.rows, strict=True):
        cost, device = row.get("dollars_per_hour_at_rate"), row["device"]
        if cost is not None and (device not in cheapest or cost < cheapest[device][1]["dollars_per_hour_at_rate"]):
            cheapest[device] = candidate, row
    made = []
    for done, (candidate, row) in enumerate(cheapest.values(), start=1):
        trials = Trials(candidate.resolved, candidate.source, (*wanted, *WATCHED))
        guess = max(1, ceil(rate / row["capacity"] - TOLERANCE))
        found = smallest(trials, rate, guess, TOLERANCE, replicates)
        if isinstance(found, Smallest):
            made.append(fleet_of(found, trials, rate, wanted))
        else:
            row["error"] = f"{FACTOR * guess:,} replicas miss {', '.join(found.broken)}"
        if progress:
            progress(SEARCHED + (1 - SEARCHED) * done / len(cheapest))
    return sorted(made, key=lambda fleet: (fleet.dollars_per_hour, fleet.gpus)), result


def layouts(deployment: Mapping[str, Any]) -> list[tuple[int, int, bool]]:
    """The values of LAYOUT that are tried for a deployment, with as many GPUs as SIZES has.

    Those of a model without experts have the ranks that the deployment has, none.
    """
    shared, ranks = bool(deployment["enable_expert_parallel"]), int(deployment["data_parallel_size"])
    if not load.load_model(deployment["model"]).num_experts:
        return [(size, ranks, shared) for size in SIZES]
    made = [(size, 1, False) for size in SIZES]
    for size in SIZES[1:]:
        made += [(tensor, size // tensor, True) for tensor in SIZES if tensor <= size]
    return made


def known_devices() -> list[str]:
    """The GPUs of the catalog whose operator times come with fastsim."""
    from fastsim.predictors.forests.forest import systems

    return [name for name in load.names("devices") if load.load_device(name).predictor in systems()]


def fleet_of(found: Smallest, trials: Trials, load: float, objectives: Sequence[Objective]) -> Fleet:
    """The fleet of the fewest replicas that bear a load, requests/s or users."""
    resolved = found.resolved
    requests = trials.source.draw(found.number, resolved)
    users = trials.source.users
    loaded: Workload = requests.with_users(int(load)) if users else at_rate(requests, load)
    summary = simulate(resolved.deployment, loaded, objectives=objectives, detail=False).summary
    rate = summary["throughput"]["requests_per_s"] if users else load
    cost = resolved.dollars_per_hour or 0.0  # the search refuses GPUs without a price
    probed: Probed = found.at_load
    sizes = {kind.tensor_parallel_size for kind in resolved.kinds}
    return Fleet(
        device=" + ".join(dict.fromkeys(kind.device.name for kind in resolved.kinds)),
        tensor_parallel_size=sizes.pop() if len(sizes) == 1 else None,
        data_parallel_size=resolved.data_parallel_size,
        enable_expert_parallel=resolved.enable_expert_parallel,
        num_replicas=resolved.num_replicas,
        pools={each.pool.name: each.pool.num_replicas for each in resolved.pools},
        gpus=resolved.num_gpus,
        dollars_per_hour=cost,
        dollars_per_million_requests=cost / 3600 / rate * 1e6,
        margin=found.margin,
        margin_is_least=found.margin_is_least,
        chance=found.chance,
        goodput=summary["goodput"]["share"],
        tight=tightness(found, load),
        num_requests=requests.num_requests,
        span=probed.span,
        figures={name.partition("<")[0]: value for name, value in probed.figures.items()},
        deployment=resolved.deployment.model_dump(mode="json"),
    )
