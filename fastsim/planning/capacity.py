"""The capacity of a deployment: the highest rate that it serves within its objectives."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.errors import ConfigError
from fastsim.planning import notes
from fastsim.planning.bracket import Bracket, highest_rate, most_users
from fastsim.planning.stream import at_rate, fitting, unit_requests
from fastsim.predictors.build import build_cost, build_costs, times_notes
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse_all
from fastsim.result.metrics.replicates import HIGH, LOW
from fastsim.simulation.many import simulate_many
from fastsim.simulation.probe import Probed, Prober
from fastsim.simulation.run import Progress
from fastsim.workload import Workload
from fastsim.workload.loading import is_description, is_loop, synthesise
from fastsim.workload.loading import load as load_workload

TOLERANCE = 0.01


@dataclass(frozen=True)
class Capacity:
    """What a deployment can serve, and the simulations that show it.

    Attributes
    ----------
    rate : float
        The highest rate tried that meets all objectives, requests/s; 0 if no rate does. With users, the requests that
        finish per second.
    users : int or None
        The highest number of users tried that meets all objectives, who each wait for their answer before they send the
        next request; 0 if no number does. None if the rate was looked for.
    above : float or None
        The lowest rate tried that does not, requests/s, or number of users; at most ``1 + tolerance`` times the highest
        that does. None: every one meets the objectives.
    tolerance : float
        As given.
    objectives : tuple of str
        The objectives, such as ``"ttft:p90<2s"``.
    limited_by : tuple of str
        The objectives that are not met at ``above``.
    ceiling : float
        The requests/s that the deployment finishes while its queue is never empty.
    gpus : int
        GPUs of all replicas.
    dollars_per_hour : float
        Price of all GPUs, None if no price of the GPU is known.
    interval : tuple of two floats, or None
        90 % interval of ``replicates``, requests/s. None without replicates.
    replicates : tuple of float
        Capacities with other requests and other operator times, requests/s.
    notes : tuple of str
        What the simulations cannot show, one sentence each.
    probes : tuple of Probed
        The rates that were tried, in order, and the figures of the objectives at each.
    summary : dict or None
        The summary of a simulation at ``rate``, as ``Result.summary``. None if no rate meets the objectives.
    num_requests : int
        Requests in each simulation.
    num_runs, num_simulated : int
        Simulations of this search and its replicates, and the requests that finished in all of them.
    seconds : float
        Time that the search took, s.
    """

    rate: float
    users: int | None
    above: float | None
    tolerance: float
    objectives: tuple[str, ...]
    limited_by: tuple[str, ...]
    ceiling: float
    gpus: int
    dollars_per_hour: float | None
    interval: tuple[float, float] | None
    replicates: tuple[float, ...]
    notes: tuple[str, ...]
    probes: tuple[Probed, ...]
    summary: dict[str, Any] | None
    num_requests: int
    num_runs: int
    num_simulated: int
    seconds: float

    @property
    def qps_per_dollar(self) -> float | None:
        """Requests/s for $1 an hour, None if no price of the GPU is known."""
        return self.rate / self.dollars_per_hour if self.dollars_per_hour else None

    def as_dict(self) -> dict[str, Any]:
        """The fields, and ``qps_per_dollar``, as JSON has them."""
        return {**asdict(self), "qps_per_dollar": self.qps_per_dollar}


def capacity(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    objectives: Sequence[str | Objective] = (),
    *,
    num_requests: int | None = None,
    tolerance: float = TOLERANCE,
    replicates: int = 0,
    users: bool | None = None,
    too_long: str = "refuse",
    unit: str | None = None,
    progress: Progress | None = None,
) -> Capacity:
    """Find the highest rate, or number of users, at which a deployment serves a workload within its objectives.

    Every rate is simulated with the same requests; only the gaps between their arrivals are scaled. The same
    arguments give the same capacity, to the bit, on any number of cores.

    Parameters
    ----------
    deployment : Deployment, str, Path or None
        The deployment, or a YAML, TOML or JSON file that describes one. By default Llama-3-8B on one H100.
    workload : Workload, str, Path or mapping
        The requests, or what ``load_workload`` takes: a file, a preset or a description. Their rate is replaced by the
        rates that are tried. By default ``"chat"``.
    objectives : sequence of str
        What the latencies must keep to, such as ``"ttft:p90<2s"``. By default those of Vidur:
        ``scheduling_delay:p99<5s``, ``ttft:p90<2s`` and ``tbt:p99<200ms``.
    num_requests : int, optional
        Requests in each simulation. By default 16,000 of a preset or description, and all of a file or ``Workload``.
    tolerance : float
        How closely to find the rate, as a fraction from 0.0001 to 0.5. By default 0.01.
    replicates : int
        How many more times to search, with operator times drawn from their 90 % intervals and, for a preset or
        description, with requests of other seeds. They give ``interval``. From 0 to 1,000, by default 0.
    users : bool, optional
        Whether to find the number of users who each wait for their answer before they send the next request, instead of
        a rate. By default True for a closed loop and False for any other workload.
    too_long : str
        What becomes of requests with more tokens than max_model_len, as for ``simulate``; the rates are those of the
        requests that are left. By default ``"refuse"``.
    unit : str, optional
        The unit of the arrival times in a file, as for ``load_workload``. By default that of its layout.
    progress : callable, optional
        A function that is called after each search with the share of the searches that are done, 0 to 1.

    Returns
    -------
    Capacity
        The rate, the objectives that limit it, and what the simulations cannot show.

    Raises
    ------
    errors.InputError
        When something cannot be simulated, as for ``simulate``, or an argument is not valid. Objectives that no rate
        meets are no error: the rate is then 0, and a note says why.

    Examples
    --------
    >>> found = fastsim.capacity(None, "chat", ["ttft:p90<300ms", "tbt:p99<50ms"], num_requests=2000)
    >>> round(found.rate, 1)  # requests/s
    16.2
    >>> found.limited_by
    ('tbt:p99<50ms',)
    """
    began = time.perf_counter()
    check(tolerance, replicates)
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    wanted = parse_all(objectives, "--slo") or DEFAULTS
    resolved = resolve(deployment)
    if not is_description(workload):
        workload = load_workload(workload, unit=unit)
    loop = is_loop(workload)
    users = loop if users is None else users
    if loop and not users:
        raise ConfigError("users: a closed loop has a number of users and no rate to look for (valid: true)")
    stream = unit_requests(workload, num_requests, deployment.seed, users)
    requests = fitting(stream, resolved, too_long, users)
    prober = Prober(resolved, build_cost(resolved).cost, requests)
    ceiling = prober.throughput()
    search = partial(_most_users if users else _highest_rate, objectives=wanted, tolerance=tolerance)
    slots = resolved.num_replicas * resolved.scheduler.max_num_seqs
    bracket = search(prober, guess=slots if users else ceiling)
    if progress:
        progress(1 / (1 + replicates))
    # Where every rate passes, the deployment still finishes no more than its ceiling.
    rate = ceiling if bracket.high is None and not users else bracket.low.rate if bracket.low else 0.0
    probers, rates = [prober], []
    if replicates and rate:
        others = _replicates(resolved, workload, stream, replicates, too_long, users)
        guess = _found(bracket, users) if users else rate
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for other in pool.map(lambda other: search(other, guess=guess, step=1.05), others):
                rates.append(_found(other, users))
                if progress:
                    progress((1 + len(rates)) / (1 + replicates))
        probers += others
    best = None
    if rate:
        best = requests.with_users(bracket.low.users or 1) if users and bracket.low else at_rate(requests, rate)
    of_bracket = notes.of_users if users else notes.of_capacity
    low, high = np.quantile(rates, (LOW, HIGH)).tolist() if rates else (0.0, 0.0)
    return Capacity(
        rate=rate,
        users=None if not users else bracket.low.users if bracket.low else 0,
        above=None if bracket.high is None else bracket.high.users if users else bracket.high.rate,
        tolerance=tolerance,
        objectives=tuple(map(str, wanted)),
        limited_by=bracket.high.broken if bracket.high else (),
        ceiling=ceiling,
        gpus=resolved.num_gpus,
        dollars_per_hour=_dollars(resolved),
        interval=(low, high) if rates else None,
        replicates=tuple(rates),
        notes=(
            *of_bracket(bracket, wanted, requests, rate, tolerance),
            *times_notes(resolved),
            *requests.notes,
        ),
        probes=tuple(bracket.probes),
        summary=_summary(deployment, best) if best else None,
        num_requests=requests.num_requests,
        num_runs=sum(each.num_runs for each in probers),
        num_simulated=sum(each.num_simulated for each in probers),
        seconds=time.perf_counter() - began,
    )


def _dollars(resolved: Resolved) -> float | None:
    price = resolved.device.price_per_hour
    return None if price is None else resolved.num_gpus * price


def check(tolerance: float, replicates: int) -> None:
    """Raise ConfigError unless both are within their limits."""
    if not 1e-4 <= tolerance <= 0.5:
        raise ConfigError(f"tolerance: {tolerance:g} is not a fraction from 0.0001 to 0.5 (e.g. {TOLERANCE})")
    if not 0 <= replicates <= 1000:
        raise ConfigError(f"replicates: {replicates} is not a whole number from 0 to 1,000 (e.g. 8)")


def _highest_rate(
    prober: Prober, guess: float, objectives: Sequence[Objective], tolerance: float, step: float = 1.3
) -> Bracket:
    """Bracket the highest rate, beginning at ``guess``, requests/s."""
    return highest_rate(lambda rate: prober.at(rate, objectives), guess, guess, tolerance, step)


def _most_users(
    prober: Prober, guess: float, objectives: Sequence[Objective], tolerance: float, step: float = 1.3
) -> Bracket:
    """Bracket the highest number of users, of which each sends ROUNDS requests in a run at least.

    The numbers that are tried begin at ``guess`` and double, whatever the ``step``.
    """
    return most_users(lambda users: prober.with_users(users, objectives), int(guess), prober.most_users, tolerance)


def _found(bracket: Bracket, users: bool) -> float:
    """The highest rate, requests/s, or number of users that passes; 0 if none does."""
    if bracket.low is None:
        return 0.0
    return float(bracket.low.users or 0) if users else bracket.low.rate


def _replicates(
    resolved: Resolved,
    workload: Workload | str | Path | Mapping[str, Any],
    unit: Workload,
    number: int,
    too_long: str,
    users: bool,
) -> list[Prober]:
    """Probers of the same deployment with operator times drawn anew and, for a description, with other requests."""
    seed = resolved.seed
    costs = [built.cost for built in build_costs(resolved, number, seed)]
    if isinstance(workload, Workload) or not is_description(workload):
        requests = fitting(unit, resolved, too_long, users)
        return [Prober(resolved, cost, requests) for cost in costs]
    streams = (
        synthesise(workload, rate=None if users else 1.0, num_requests=unit.num_requests, seed=seed + 1 + index)
        for index in range(number)
    )
    drawn = (fitting(stream, resolved, too_long, users) for stream in streams)
    return [Prober(resolved, cost, stream) for cost, stream in zip(costs, drawn, strict=True)]


def _summary(deployment: Deployment, workload: Workload) -> dict[str, Any]:
    """The summary of a simulation."""
    run = simulate_many([(deployment, workload)])[0]
    if run.summary is None:
        assert run.error is not None
        raise run.error
    return run.summary
