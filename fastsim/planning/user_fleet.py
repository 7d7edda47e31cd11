"""The cheapest fleet of each kind of GPU for users who wait for their answers."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from fastsim.catalog import load
from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError, InputError
from fastsim.planning.capacity import TOLERANCE
from fastsim.planning.fleet import LAYOUT, REPLICATES, Fleet, fleet_of, known_devices, layouts
from fastsim.planning.replicas import FACTOR, Smallest, smallest
from fastsim.planning.rungs import WATCHED
from fastsim.planning.settle import bracketed
from fastsim.planning.stream import Source
from fastsim.planning.trials import Trials
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.simulation.probe import ROUNDS
from fastsim.simulation.run import Progress
from fastsim.workload import Workload

ROUGHLY = 0.1  # tolerance of the users of one replica


def fleets_for_users(
    users: int,
    deployment: Deployment,
    workload: Workload | str | Mapping[str, Any],
    objectives: Sequence[str | Objective] = (),
    *,
    devices: Sequence[str] = (),
    num_requests: int | None = None,
    replicates: int = REPLICATES,
    too_long: str = "refuse",
    unit: str | None = None,
    progress: Progress | None = None,
) -> tuple[list[Fleet], dict[str, str]]:
    """Find the cheapest fleet of each kind of GPU that serves a number of users within the objectives.

    The users that one replica serves say how many replicas to begin with. The users are then simulated with all
    replicas behind the deployment's router: replicas are added while they are too few, and taken away while fewer are
    enough. Runs last as for ``capacity``, and a fleet must hold in one that is three times as long, with another draw
    and 1 % more users.

    Parameters
    ----------
    users : int
        Users who each wait for their answer before they send the next request.
    deployment : Deployment
        All fields but device, node, layout (see ``fleet.layouts``) and num_replicas, which are what is looked for.
    workload : Workload, str or mapping
        The requests that the users send, see ``Workload.with_users``: a file, a preset or a description.
    objectives : sequence of str
        What the latencies must keep to. By default those of ``capacity``.
    devices : sequence of str
        GPUs to try. By default all whose operator times come with fastsim.
    num_requests : int, optional
        Requests in each simulation, at least. By default all of a file, and of others 16,000, or ten for each user.
    replicates : int
        Further simulations of each fleet that give ``chance``. By default 8.
    too_long : str
        What becomes of requests with more tokens than max_model_len, as for ``simulate``. By default ``"refuse"``.
    unit : str, optional
        The unit of the arrival times in a file, as for ``load_workload``. By default that of its layout.
    progress : callable, optional
        A function that is called with the share of the GPUs that are done, 0 to 1.

    Returns
    -------
    list of Fleet
        A fleet for each kind of GPU that can serve the users, the cheapest first.
    dict of str to str
        Why other kinds cannot, by device.

    Raises
    ------
    errors.InputError
        When there are no users, a GPU is unknown, or the workload or an objective is not valid.
    """
    if not 1 <= users < 10**9:
        raise ConfigError(f"users: {users:,} is not a whole number of users from 1 (e.g. 3000)")
    wanted = parse_all(objectives, "--slo") or DEFAULTS
    source = Source(workload, deployment.seed, users=True, num_requests=num_requests, unit=unit, too_long=too_long)
    if isinstance(source.spec, Workload):
        source.spec.with_users(users if users <= source.least else 1)  # refused if users cannot send it
    names = [load.load_device(name).name for name in devices] or known_devices()
    made: list[Fleet] = []
    reasons: dict[str, str] = {}
    for done, name in enumerate(names):
        best: Fleet | None = None
        for layout in layouts(deployment.model_dump()):
            settings = {"device": name, "node": None, "num_replicas": 1, **dict(zip(LAYOUT, layout, strict=True))}
            try:
                found = _fleet(Deployment.load(deployment.model_dump() | settings), source, users, wanted, replicates)
            except InputError as error:
                reasons.setdefault(name, str(error))
                continue
            if isinstance(found, str):
                reasons[name] = found
            elif best is None or found.dollars_per_hour < best.dollars_per_hour:
                best = found
        if best is not None:
            made.append(best)
            reasons.pop(name, None)
        if progress:
            progress((done + 1) / len(names))
    return sorted(made, key=lambda fleet: (fleet.dollars_per_hour, fleet.gpus)), reasons


def _fleet(
    deployment: Deployment, source: Source, users: int, wanted: Sequence[Objective], replicates: int
) -> Fleet | str:
    """The smallest fleet of these replicas, or why there is none."""
    resolved = resolve(deployment)
    if resolved.price is None:
        return "no price of this GPU is known"
    trials = Trials(resolved, source, (*wanted, *WATCHED))
    one = trials.prober(source.least)
    number = max(source.least, ROUNDS)
    slots = resolved.num_engines * resolved.scheduler.max_num_seqs
    bracket = bracketed(trials, number, min(slots, one.most_users), 0.0, ROUGHLY)
    if bracket.low is None or not bracket.low.users:
        return f"no number of replicas meets {', '.join(bracket.probes[-1].broken)}"
    guess = ceil(users / bracket.low.users)
    found = smallest(trials, users, guess, TOLERANCE, replicates)
    if isinstance(found, Smallest):
        return fleet_of(found, trials, users, wanted)
    return f"{FACTOR * guess:,} replicas miss {', '.join(found.broken)}"
