"""What a capacity, or the ranking of a search, cannot show: one sentence for each reason to doubt it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastsim.planning.steady import DRIFT, overload_times_span
from fastsim.result.metrics.objectives import Objective
from fastsim.simulation.probe import Probed
from fastsim.workload import Workload

if TYPE_CHECKING:
    from fastsim.planning.candidates import Candidate
    from fastsim.planning.settle import Settled
    from fastsim.sweeps.configuration import Row

TIE = 0.01  # of the score: rates are not found more closely


def of_load(
    settled: "Settled", objectives: Sequence[Objective], unit: Workload, tolerance: float, users: bool
) -> Iterator[str]:
    """Notes on the load that a deployment bears, which is 0 if none meets the objectives."""
    bracket = settled.bracket
    if not settled.load:
        last = min(settled.probes, key=lambda probed: probed.users or probed.rate)
        reasons = ", ".join(_missed(name, last) for name in last.broken)
        if users:
            yield f"not even a single user is served within the objectives: {reasons}"
        else:
            yield f"no rate meets the objectives: even at {last.rate:.2g} requests/s, {reasons}"
        return
    if bracket.high is None and bracket.low is not None:
        if users:
            yield (
                f"all numbers up to {bracket.low.users:,} users meet the objectives; more of them than a tenth of the "
                f"{unit.num_requests:,} requests show no steady state, so use more requests"
            )
        else:
            yield (
                f"every rate meets the objectives, as {unit.num_requests:,} requests are over before a queue has "
                "grown; the rate given is what the deployment finishes, so use more requests"
            )
        return
    if users:
        return
    if overload_times_span(objectives) is None:
        yield "no objective limits how long a request waits; a rate is refused only where its queue grows"
    yield from _of_overload(objectives, unit, settled.load, tolerance)


def of_search(
    feasible: "Sequence[tuple[Candidate, Row]]", objectives: Sequence[Objective], users: bool = False
) -> Iterator[str]:
    """Notes on the ranking of a search; ``feasible``: candidates with a score above 0 and their rows, best first.

    ``users``: whether these were looked for.
    """
    if not feasible:
        least = "with any number of users" if users else "at any rate"
        yield f"no configuration meets {', '.join(map(str, objectives))} {least}"
        return
    row = feasible[0][1]
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
    equal = [other for _, other in feasible[1:] if all(other.get(name) == row[name] for name in row if _figure(name))]
    if equal:
        names = [name for name in row if "." in name and not _figure(name)]
        differing = [name for name in names if any(other.get(name) != row[name] for other in equal)]
        yield f"{', '.join(differing) or 'a setting'} changes nothing here: {len(equal)} more have the winner's figures"


def hidden_overload(objectives: Sequence[Objective], unit: Workload, rate: float) -> float | None:
    """The share by which ``rate`` may exceed what can be served for ever without any objective showing it.

    None: no objective limits how long a request waits. See ``steady.seconds``.
    """
    shown = overload_times_span(objectives)
    return None if shown is None else shown / (float(np.nanmax(unit.arrived_at)) / rate)


def _of_overload(objectives: Sequence[Objective], unit: Workload, rate: float, tolerance: float) -> Iterator[str]:
    """A note if ``rate`` may overload the deployment unseen, as runs have so many requests at most."""
    unseen = hidden_overload(objectives, unit, rate)
    if unseen is not None and unseen > 1.05 * tolerance:
        enough = unit.num_requests * unseen / tolerance
        yield (
            f"the run lasts {np.nanmax(unit.arrived_at) / rate:,.0f} s, too short to show an overload below "
            f"{unseen:.1%}; {enough:,.0f} requests would show {tolerance:.1%}"
        )


def _figure(name: str) -> bool:
    """Whether a column of a search holds a latency of a configuration."""
    return name.startswith("latency.")


def _missed(name: str, probed: Probed) -> str:
    """What an objective's figure was in a run that did not meet it."""
    if name == DRIFT:
        return f"the queue grows by {probed.drift:.1%} of the time"
    return f"{name} is {_seconds(probed.figures.get(name))}"


def _seconds(figure: float | None) -> str:
    return "too long" if figure is None else f"{figure:.3g} s"
