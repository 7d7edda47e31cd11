"""The capacity of a deployment: the highest rate that it serves within its objectives."""

import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastsim.deployment.description import Deployment
from fastsim.errors import ConfigError
from fastsim.planning import notes
from fastsim.planning.settle import Settled, bracketed, settle
from fastsim.planning.spread import interval
from fastsim.planning.stream import at_rate
from fastsim.planning.trials import Trials, load_of, trials_of
from fastsim.predictors.build import times_notes
from fastsim.predictors.replicates import replicates as drawn_replicates
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.probe import Probed
from fastsim.simulation.run import Progress, simulate
from fastsim.workload import Workload

TOLERANCE = 0.01


@dataclass(frozen=True)
class Capacity:
    """What a deployment can serve, and the simulations that show it.

    Attributes
    ----------
    rate : float
        A rate that meets all objectives with ``tolerance`` to spare, requests/s; 0 if no rate does. With users, the
        requests that finish per second.
    users : int or None
        A number of users that meets all objectives with ``tolerance`` to spare, who each wait for their answer before
        they send the next request; 0 if no number does. None if the rate was looked for.
    above : float or None
        The lowest rate tried that does not meet them, requests/s, or number of users; at most ``(1 + tolerance)**2``
        times ``rate``. None: every one meets the objectives.
    held : Probed or None
        The run that confirms the rate: ``1 + tolerance`` times the rate, three times as many requests, another draw.
        None if no rate meets the objectives.
    tolerance : float
        As given.
    objectives : tuple of str
        The objectives, such as ``"ttft:p90<2s"``.
    limited_by : tuple of str
        The objectives that are not met at ``above``; also ``"a queue that grows"``.
    ceiling : float
        The requests/s that the deployment finishes while its queue is never empty.
    gpus : int
        GPUs of all replicas.
    dollars_per_hour : float
        Price of all GPUs, None if no price of the GPU is known.
    interval : tuple of two floats, or None
        90 % interval of the rate (requests/s) or the users, from ``replicates``. None of fewer than five.
    replicates : tuple of float
        The highest rates, or numbers of users, that meet the objectives with other requests and operator times.
    chance : float or None
        Share of the replicates that meet the objectives at ``rate``, or with ``users``. None without replicates.
    notes : tuple of str
        What the simulations cannot show, one sentence each.
    probes : tuple of Probed
        The rates that were tried, in order, and the figures of the objectives at each.
    summary : dict or None
        The summary of a simulation at ``rate``, as ``Result.summary``, with its goodput. None if no rate meets the
        objectives.
    num_requests : int
        Requests in each simulation but the confirming ones.
    span : float
        Length of a simulation at ``rate``, from the first arrival to the last, s.
    num_runs, num_simulated : int
        Simulations of this search and its replicates, and the requests that finished in all of them.
    seconds : float
        Time that the search took, s.
    """

    rate: float
    users: int | None
    above: float | None
    held: Probed | None
    tolerance: float
    objectives: tuple[str, ...]
    limited_by: tuple[str, ...]
    ceiling: float
    gpus: int
    dollars_per_hour: float | None
    interval: tuple[float, float] | None
    replicates: tuple[float, ...]
    chance: float | None
    notes: tuple[str, ...]
    probes: tuple[Probed, ...]
    summary: dict[str, Any] | None
    num_requests: int
    span: float
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

    Every rate is simulated with the same requests; only the gaps between their arrivals are scaled. A run lasts as long
    as it takes for an overload of ``tolerance`` to miss an objective, at least 100 s and five times the longest
    request, and fails where its queue grows. The rate is then simulated again with another draw that is three times as
    long, and lowered until it holds; ``tolerance`` of it is left to spare. A recorded workload is played again from its
    start where a run must be longer. The same arguments give the same capacity, to the bit, on any number of cores.

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
        Requests in each simulation, at least. By default 16,000 of a preset or description, and all of a file or
        ``Workload``.
    tolerance : float
        How closely to find the rate, and how much of it to spare, as a fraction from 0.0001 to 0.5. By default 0.01.
    replicates : int
        How many more times to search, with operator times drawn from their 90 % intervals and, for a preset or
        description, with requests of other seeds. They give ``chance`` and, from five on, ``interval``. From 0 to
        1,000, by default 0.
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
    15.5
    >>> found.limited_by
    ('tbt:p99<50ms',)
    """
    began = time.perf_counter()
    check(tolerance, replicates)
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    trials = trials_of(deployment, workload, objectives, users, num_requests=num_requests, unit=unit, too_long=too_long)
    resolved, source, wanted, users = trials.resolved, trials.source, trials.objectives, trials.source.users
    settled = settle(trials, tolerance)
    if progress:
        progress(1 / (1 + replicates))
    others: list[Trials] = []
    rates: list[float] = []
    if replicates and settled.load:
        others = [
            Trials(one.resolved, source, wanted, one.built.cost)
            for one in drawn_replicates(resolved, replicates, resolved.seed)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            numbers = range(1, replicates + 1)
            for rate in pool.map(lambda each, draw: _replicate(each, draw, settled, tolerance), others, numbers):
                rates.append(rate)
                if progress:
                    progress((1 + len(rates)) / (1 + replicates))
    requests = source.draw(settled.number, resolved)
    summary = _summary(deployment, requests, settled.load, users, wanted) if settled.load else None
    rate = summary["throughput"]["requests_per_s"] if users and summary else settled.load
    failing, low = settled.failing, settled.bracket.low
    return Capacity(
        rate=rate,
        users=int(settled.load) if users else None,
        above=None if failing is None else load_of(failing),
        held=settled.held,
        tolerance=tolerance,
        objectives=tuple(map(str, wanted)),
        limited_by=failing.broken if failing else (),
        ceiling=settled.ceiling,
        gpus=resolved.num_gpus,
        dollars_per_hour=resolved.dollars_per_hour,
        interval=interval(settled.load, load_of(low), rates) if low else None,
        replicates=tuple(rates),
        chance=sum(other >= settled.load for other in rates) / len(rates) if rates else None,
        notes=(
            *notes.of_load(settled, wanted, requests, tolerance, users),
            *times_notes(resolved),
            *requests.notes,
        ),
        probes=settled.probes,
        summary=summary,
        num_requests=requests.num_requests,
        span=low.span * low.rate / rate if low and rate else 0.0,
        num_runs=sum(each.num_runs for each in (trials, *others)),
        num_simulated=sum(each.num_simulated for each in (trials, *others)),
        seconds=time.perf_counter() - began,
    )


def check(tolerance: float, replicates: int) -> None:
    """Raise ConfigError unless both are within their limits."""
    if not 1e-4 <= tolerance <= 0.5:
        raise ConfigError(f"tolerance: {tolerance:g} is not a fraction from 0.0001 to 0.5 (e.g. {TOLERANCE})")
    if not 0 <= replicates <= 1000:
        raise ConfigError(f"replicates: {replicates} is not a whole number from 0 to 1,000 (e.g. 8)")


def _replicate(trials: Trials, draw: int, settled: Settled, tolerance: float) -> float:
    """The highest load that another draw of requests and operator times bears; 0 if it bears none."""
    low = settled.bracket.low
    assert low is not None
    found = bracketed(trials, settled.number, load_of(low), settled.ceiling, tolerance, step=1.05, draw=draw)
    trials.forget()
    return load_of(found.low) if found.low is not None else 0.0


def _summary(
    deployment: Deployment, requests: Workload, load: float, users: bool, objectives: Sequence[Objective]
) -> dict[str, Any]:
    """The summary of a simulation under a load, with its goodput."""
    loaded = requests.with_users(int(load)) if users else at_rate(requests, load)
    return simulate(deployment, loaded, objectives=objectives, detail=False).summary
