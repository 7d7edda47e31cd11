"""What a capacity, or the ranking of a search, cannot show: one sentence for each reason to doubt it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastsim.planning.bracket import Bracket
from fastsim.result.metrics.definitions import QUANTILES
from fastsim.result.metrics.objectives import Objective
from fastsim.workload import Workload

if TYPE_CHECKING:
    from fastsim.planning.candidates import Candidate
    from fastsim.sweeps.configuration import Row

WAITING = ("scheduling_delay", "ttft", "e2e")  # latencies that grow with the queue
FEW = 10  # requests above a quantile; with fewer, its value is mostly chance
TIE = 0.01  # of the score: rates are not found more closely


def of_capacity(
    bracket: Bracket, objectives: Sequence[Objective], unit: Workload, rate: float, tolerance: float
) -> Iterator[str]:
    """Notes on the capacity ``rate``, requests/s, which is 0 if no rate meets the objectives."""
    if not rate:
        last = bracket.probes[-1]
        reasons = ", ".join(f"{name} is {_seconds(last.figures.get(name))}" for name in last.broken)
        yield f"no rate meets the objectives: even at {last.rate:.2g} requests/s, {reasons}"
        return
    if bracket.high is None:
        yield (
            f"every rate meets the objectives, as {unit.num_requests:,} requests are over before a queue has grown; "
            "the rate given is what the deployment finishes, so use more requests"
        )
        return
    yield from _of_quantiles(objectives, unit)
    yield from _of_overload(objectives, unit, rate, tolerance, "the run")


def of_users(
    bracket: Bracket, objectives: Sequence[Objective], unit: Workload, rate: float, tolerance: float
) -> Iterator[str]:
    """Notes on a number of users; ``rate``: the requests/s that finish with so many, 0 if no number serves."""
    if not rate:
        reasons = ", ".join(
            f"{name} is {_seconds(bracket.probes[-1].figures.get(name))}" for name in bracket.probes[-1].broken
        )
        yield f"not even a single user is served within the objectives: {reasons}"
        return
    if bracket.high is None and bracket.low is not None:
        yield (
            f"all numbers up to {bracket.low.users:,} users meet the objectives; more of them than a tenth of the "
            f"{unit.num_requests:,} requests show no steady state, so use more requests"
        )
    yield from _of_quantiles(objectives, unit)


def of_search(
    feasible: "Sequence[tuple[Candidate, Row]]", objectives: Sequence[Objective], tolerance: float, users: bool = False
) -> Iterator[str]:
    """Notes on the ranking of a search; ``feasible``: candidates with a score above 0 and their rows, best first.

    ``users``: whether these were looked for.
    """
    if not feasible:
        least = "with any number of users" if users else "at any rate"
        yield f"no configuration meets {', '.join(map(str, objectives))} {least}"
        return
    winner, row = feasible[0]
    close = [other for _, other in feasible[1:] if other["score"] >= (1 - TIE) * row["score"]]
    ties = sum(other["rung"] == row["rung"] for other in close)
    if ties:
        yield f"{ties} more {'is' if ties == 1 else 'are'} within {TIE:.0%} of the winner, which is too close to call"
    if users:
        capped = sum(not each["limited_by"] for _, each in feasible)
        if capped:
            yield (
                f"{capped} of them meet the objectives with as many users as a tenth of their requests; use more "
                "requests to tell how many they serve"
            )
        return
    yield from _of_overload(objectives, winner.unit, row["capacity"], tolerance, "the winner's run")


def _of_quantiles(objectives: Sequence[Objective], unit: Workload) -> Iterator[str]:
    """A note for each objective whose quantile hardly any request lies above."""
    for objective in objectives:
        quantile = QUANTILES.get(objective.statistic)
        above = unit.num_requests * (1 - quantile) if quantile else FEW
        if above < FEW - 1e-6:
            enough = f"{FEW / (1 - (quantile or 0)):,.0f}"
            yield (
                f"{objective}: {above:.2g} of {unit.num_requests:,} requests lie above this quantile; "
                f"use {enough} or more"
            )


def hidden_overload(objectives: Sequence[Objective], unit: Workload, rate: float) -> float | None:
    """The share by which ``rate`` may exceed what can be served for ever without any objective showing it.

    With an overload of that share the queue grows all the time, and a request that arrives after t seconds waits
    share * t longer; at the quantile q of a run of T seconds, that is share * q * T. None: no objective limits
    how long a request waits.
    """
    span = float(unit.arrived_at[-1]) / rate
    shares = [
        each.limit / (QUANTILES.get(each.statistic, 1.0 if each.statistic == "max" else 0.5) * span)
        for each in objectives
        if each.metric in WAITING and each.statistic != "min"
    ]
    return min(shares, default=None)


def _of_overload(
    objectives: Sequence[Objective], unit: Workload, rate: float, tolerance: float, run: str
) -> Iterator[str]:
    """A note if ``rate`` may overload the deployment unseen; ``run``: what the sentence calls the simulation."""
    unseen = hidden_overload(objectives, unit, rate)
    if unseen is None:
        yield "no objective limits how long a request waits, so a queue may grow for ever at this rate"
    elif unseen > tolerance:
        enough = unit.num_requests * unseen / tolerance
        yield (
            f"{run} lasts {unit.arrived_at[-1] / rate:,.0f} s, too short to show an overload below {unseen:.1%}; "
            f"{enough:,.0f} requests would show {tolerance:.1%}"
        )


def _seconds(figure: float | None) -> str:
    return "too long" if figure is None else f"{figure:.3g} s"
