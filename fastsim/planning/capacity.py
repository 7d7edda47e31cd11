"""The highest rate that a deployment serves within its objectives."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fastsim.deployment.resolved import Deployment, Resolved, resolve
from fastsim.errors import ConfigError
from fastsim.planning.bracket import Bracket, highest_rate
from fastsim.predictors.build import build_cost, build_costs
from fastsim.result.metrics.definitions import QUANTILES
from fastsim.result.metrics.objectives import DEFAULTS, Objective, parse
from fastsim.result.metrics.replicates import HIGH, LOW
from fastsim.simulation.many import simulate_many
from fastsim.simulation.probe import Probed, Prober
from fastsim.simulation.run import Progress
from fastsim.workload import Workload
from fastsim.workload.loading import is_description, synthesise
from fastsim.workload.loading import load as load_workload

NUM_REQUESTS = 16_000  # of a description; a recorded stream is taken whole
TOLERANCE = 0.01
QUEUES = ("scheduling_delay", "ttft", "e2e")  # latencies that grow with the queue
FEW = 10  # requests above a percentile, below which it is anybody's guess


@dataclass(frozen=True)
class Capacity:
    """What a deployment can serve.

    ``rate``: requests/s, the highest tried that meets all objectives; ``above``: the lowest tried that does not, at
    most ``tolerance`` more (None: every rate passes). ``limited_by``: objectives broken there. ``interval``: 90 % of
    the ``replicates``, which have other requests and other operator times. ``notes``: what the run cannot show.
    ``summary``: at ``rate``.
    """

    rate: float
    above: float | None
    tolerance: float
    objectives: tuple[str, ...]
    limited_by: tuple[str, ...]
    ceiling: float  # requests/s when the queue is never empty
    gpus: int
    dollars_per_hour: float
    interval: tuple[float, float] | None
    replicates: tuple[float, ...]
    notes: tuple[str, ...]
    probes: tuple[Probed, ...]
    summary: dict[str, Any] | None
    num_requests: int
    num_runs: int
    num_simulated: int  # requests, in all runs
    seconds: float

    @property
    def qps_per_dollar(self) -> float:
        """Requests/s for $1 an hour."""
        return self.rate / self.dollars_per_hour

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "qps_per_dollar": self.qps_per_dollar}


def capacity(
    deployment: Deployment | str | Path | None = None,
    workload: Workload | str | Path | Mapping[str, Any] = "chat",
    objectives: Sequence[str | Objective] = (),
    *,
    num_requests: int | None = None,
    tolerance: float = TOLERANCE,
    replicates: int = 0,
    progress: Progress | None = None,
) -> Capacity:
    """The highest rate at which ``deployment`` serves ``workload`` within all ``objectives``.

    ``objectives``: such as ``"ttft:p90<2s"``; without any, Vidur's (P99 scheduling delay below 5 s, TTFT P90 below
    2 s, TBT P99 below 200 ms). All rates have the same requests, their gaps stretched. ``num_requests``: 16,000 of a
    description by default, and all of a recorded stream. ``replicates``: searches more with requests of other seeds
    (of a description) and operator times drawn from their intervals, which give the interval. ``progress`` is
    called with the share done.

    Raises InputError for what cannot be simulated. Objectives that no rate meets give rate 0, and a note.
    """
    began = time.perf_counter()
    check(tolerance, replicates)
    if not isinstance(deployment, Deployment):
        deployment = Deployment.load(deployment)
    wanted = objectives_of(objectives)
    resolved = resolve(deployment)
    unit = unit_requests(workload, num_requests, deployment.seed)
    prober = Prober(resolved, build_cost(resolved).cost, unit)
    ceiling = prober.throughput()
    found = highest_rate(lambda rate: prober.at(rate, wanted), ceiling, ceiling, tolerance)
    if progress:
        progress(1 / (1 + replicates))
    # Where every rate passes, the deployment still finishes no more than this.
    rate = ceiling if found.high is None else found.low.rate if found.low else 0.0
    probers, rates = [prober], []
    if replicates and rate:
        others = _others(resolved, workload, unit, replicates)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for value in pool.map(lambda other: _again(other, wanted, rate, tolerance), others):
                rates.append(value)
                if progress:
                    progress((1 + len(rates)) / (1 + replicates))
        probers += others
    low, high = np.quantile(rates, (LOW, HIGH)).tolist() if rates else (0.0, 0.0)
    return Capacity(
        rate=rate,
        above=found.high.rate if found.high else None,
        tolerance=tolerance,
        objectives=tuple(map(str, wanted)),
        limited_by=found.high.broken if found.high else (),
        ceiling=ceiling,
        gpus=resolved.num_gpus,
        dollars_per_hour=resolved.num_gpus * resolved.device.price_per_hour,
        interval=(low, high) if rates else None,
        replicates=tuple(rates),
        notes=tuple(_notes(found, wanted, unit, rate, tolerance)),
        probes=tuple(found.probes),
        summary=_summary(deployment, unit, rate) if rate else None,
        num_requests=unit.num_requests,
        num_runs=sum(one.num_runs for one in probers),
        num_simulated=sum(one.num_simulated for one in probers),
        seconds=time.perf_counter() - began,
    )


def check(tolerance: float, replicates: int) -> None:
    """Raise ConfigError unless these can be meant."""
    if not 1e-4 <= tolerance <= 0.5:
        raise ConfigError(f"tolerance: {tolerance:g} is not a fraction from 0.0001 to 0.5 (e.g. {TOLERANCE})")
    if not 0 <= replicates <= 1000:
        raise ConfigError(f"replicates: {replicates} is not a whole number from 0 to 1,000 (e.g. 8)")


def objectives_of(given: Sequence[str | Objective]) -> tuple[Objective, ...]:
    """Objectives, parsed where they are text; Vidur's where there are none. Raises ConfigError."""
    if not given:
        return DEFAULTS
    return tuple(dict.fromkeys(one if isinstance(one, Objective) else parse(one, "--slo") for one in given))


def unit_requests(workload: Workload | str | Path | Mapping[str, Any], num_requests: int | None, seed: int) -> Workload:
    """The requests at 1 request/s."""
    if num_requests is None and is_description(workload):
        num_requests = NUM_REQUESTS
    return load_workload(workload, rate=1.0, num_requests=num_requests, seed=seed)


def at_rate(unit: Workload, rate: float) -> Workload:
    """The same requests at ``rate`` requests/s: what a description gives at that rate, to the bit."""
    return replace(unit, arrived_at=unit.arrived_at / rate)


def _others(
    resolved: Resolved, workload: Workload | str | Path | Mapping[str, Any], unit: Workload, number: int
) -> list[Prober]:
    """The same deployment with operator times drawn anew, and requests of other seeds where they are drawn."""
    seed = resolved.seed
    costs = [built.cost for built in build_costs(resolved, number, seed)]
    if isinstance(workload, Workload) or not is_description(workload):
        return [Prober(resolved, cost, unit) for cost in costs]
    return [
        Prober(resolved, cost, synthesise(workload, rate=1.0, num_requests=unit.num_requests, seed=seed + 1 + place))
        for place, cost in enumerate(costs)
    ]


def _again(prober: Prober, wanted: Sequence[Objective], guess: float, tolerance: float) -> float:
    found = highest_rate(lambda rate: prober.at(rate, wanted), guess, guess, tolerance, step=1.05)
    return found.low.rate if found.low else 0.0


def _summary(deployment: Deployment, unit: Workload, rate: float) -> dict[str, Any]:
    run = simulate_many([(deployment, at_rate(unit, rate))])[0]
    if run.summary is None:
        assert run.error is not None
        raise run.error
    return run.summary


def _notes(found: Bracket, wanted: Sequence[Objective], unit: Workload, rate: float, tolerance: float) -> Iterator[str]:
    """What the rate is not worth, a sentence each."""
    if not rate:
        last = found.probes[-1]
        reasons = ", ".join(f"{name} is {_text(last.figures.get(name))}" for name in last.broken)
        yield f"no rate meets the objectives: even at {last.rate:.2g} requests/s, {reasons}"
        return
    if found.high is None:
        yield (
            f"every rate meets the objectives, as {unit.num_requests:,} requests are over before a queue has grown; "
            "the rate given is what the deployment finishes, so use more requests"
        )
        return
    for one in wanted:
        share = QUANTILES.get(one.statistic)
        above = unit.num_requests * (1 - share) if share else FEW
        if above < FEW - 1e-6:
            needed = f"{FEW / (1 - (share or 0)):,.0f}"
            yield f"{one}: {above:.2g} of {unit.num_requests:,} requests lie above this quantile; use {needed} or more"
    unseen = hidden_overload(wanted, unit, rate)
    if unseen is None:
        yield "no objective limits how long a request waits, so a queue may grow for ever at this rate"
    elif unseen > tolerance:
        enough = unit.num_requests * unseen / tolerance
        yield (
            f"the run lasts {unit.arrived_at[-1] / rate:,.0f} s, too short to show an overload below {unseen:.1%}; "
            f"{enough:,.0f} requests would show {tolerance:.1%}"
        )


def hidden_overload(wanted: Sequence[Objective], unit: Workload, rate: float) -> float | None:
    """The share by which ``rate`` may exceed what is served for ever without any objective showing it.

    With an overload of that share the queue grows all the time, and a request at time t waits share * t longer: at
    the quantile q of a run of T s, share * q * T. None: no objective is about waiting.
    """
    span = float(unit.arrived_at[-1]) / rate
    shares = [
        one.limit / (QUANTILES.get(one.statistic, 1.0 if one.statistic == "max" else 0.5) * span)
        for one in wanted
        if one.metric in QUEUES and one.statistic != "min"
    ]
    return min(shares, default=None)


def _text(figure: float | None) -> str:
    return "too long" if figure is None else f"{figure:.3g} s"
