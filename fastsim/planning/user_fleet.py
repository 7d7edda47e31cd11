"""The cheapest fleet of each kind of GPU for users who wait for their answers."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from fastsim.catalog import load
from fastsim.deployment.resolved import Deployment, resolve
from fastsim.errors import ConfigError, InputError
from fastsim.planning.capacity import TOLERANCE, capacity
from fastsim.planning.fleet import SIZES, STEPS, Fleet, known_devices
from fastsim.planning.stream import NUM_REQUESTS
from fastsim.result.metrics.objectives import DEFAULTS, Objective, met, parse_all, value
from fastsim.simulation.many import simulate_many
from fastsim.simulation.probe import ROUNDS
from fastsim.simulation.run import Progress
from fastsim.workload import Workload
from fastsim.workload.loading import is_description
from fastsim.workload.loading import load as load_workload


def fleets_for_users(
    users: int,
    deployment: Deployment,
    workload: Workload | str | Mapping[str, Any],
    objectives: Sequence[str | Objective] = (),
    *,
    devices: Sequence[str] = (),
    num_requests: int | None = None,
    too_long: str = "refuse",
    unit: str | None = None,
    progress: Progress | None = None,
) -> tuple[list[Fleet], dict[str, str]]:
    """Find the cheapest fleet of each kind of GPU that serves a number of users within the objectives.

    The users that one replica serves say how many replicas to begin with. The users are then simulated with all
    replicas behind the deployment's router, and replicas are added while they are too few.

    Parameters
    ----------
    users : int
        Users who each wait for their answer before they send the next request.
    deployment : Deployment
        All fields but device, node, tensor_parallel_size and num_replicas, which are what is looked for.
    workload : Workload, str or mapping
        The requests that the users send, see ``Workload.with_users``: a file, a preset or a description.
    objectives : sequence of str
        What the latencies must keep to. By default those of ``capacity``.
    devices : sequence of str
        GPUs to try. By default all whose operator times come with fastsim.
    num_requests : int, optional
        Requests in each simulation. By default all of a file, and of others 16,000, or ten for each user.
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
    number = num_requests
    if number is None and is_description(workload):
        number = max(NUM_REQUESTS, ROUNDS * users)
    stream = load_workload(workload, num_requests=number, seed=deployment.seed, unit=unit).with_users(users)
    names = [load.load_device(name).name for name in devices] or known_devices()
    made: list[Fleet] = []
    reasons: dict[str, str] = {}
    for done, name in enumerate(names):
        best: Fleet | None = None
        for size in SIZES:
            settings = {"device": name, "node": None, "tensor_parallel_size": size, "num_replicas": 1}
            try:
                found = _fleet(Deployment.load(deployment.model_dump() | settings), stream, wanted, too_long)
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


def _fleet(deployment: Deployment, stream: Workload, wanted: Sequence[Objective], too_long: str) -> Fleet | str:
    """The smallest fleet of these replicas, or why there is none."""
    users = stream.max_concurrency or 1
    price = resolve(deployment).device.price_per_hour
    if price is None:
        return "no price of this GPU is known"
    one = capacity(deployment, stream, wanted, users=True, too_long=too_long, tolerance=10 * TOLERANCE)
    if not one.users:
        return f"no number of replicas meets {', '.join(one.limited_by)}"
    first = ceil(users / one.users)
    for number in range(first, first + STEPS):
        whole = deployment.model_copy(update={"num_replicas": number})
        resolved = resolve(whole)
        run = simulate_many([(resolved, stream)], too_long=too_long)[0]
        if run.summary is None:
            assert run.error is not None
            raise run.error
        if all(met(each, run.summary) for each in wanted):
            cost, rate = resolved.num_gpus * price, run.summary["throughput"]["requests_per_s"]
            return Fleet(
                device=resolved.device.name,
                tensor_parallel_size=resolved.tensor_parallel_size,
                num_replicas=number,
                gpus=resolved.num_gpus,
                dollars_per_hour=cost,
                dollars_per_million_requests=cost / 3600 / rate * 1e6,
                margin=one.users * number / users - 1,
                figures={str(each): value(each, run.summary) for each in wanted},
                deployment=whole.model_dump(mode="json"),
            )
    return f"{first + STEPS - 1:,} replicas do not meet the objectives"
