"""The highest rate that still passes: bracket it, then halve the bracket on a logarithmic scale."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

from fastsim.simulation.probe import Probed

REACH = 1000.0  # from a guess down: below it nobody meets anybody, and a rate that fails there fails everywhere
ABOVE = 8.0  # times the ceiling: no more requests wait at any higher rate


@dataclass
class Bracket:
    """What is known: the highest rate that passes, and the lowest above it that does not."""

    low: Probed | None = None  # None: none that was tried passes
    high: Probed | None = None  # None: every rate passes
    probes: list[Probed] = field(default_factory=list)


def highest_rate(
    at: Callable[[float], Probed], guess: float, ceiling: float, tolerance: float, step: float = 1.3
) -> Bracket:
    """Bracket the highest rate that passes within ``tolerance`` (0.01: the upper end is at most 1 % above the lower).

    ``at`` tries a rate; passing is taken to be monotone. ``guess``: where to begin; ``ceiling``: a rate that no
    deployment keeps up with for long, requests/s; ``step``: how far the first move goes, each next one twice as far.
    """
    found = Bracket()

    def probe(rate: float) -> bool:
        probed = at(rate)
        found.probes.append(probed)
        if probed.met:
            found.low = probed
        else:
            found.high = probed
        return probed.met

    rate, least, most = guess, guess / REACH, ABOVE * ceiling
    up = probe(rate)
    while up and rate < most:
        rate, step = min(most, rate * step), step * step
        up = probe(rate)
    if up:
        return found
    while found.low is None and rate > least:
        rate, step = max(least, rate / step), step * step
        probe(rate)
    while found.low and found.high and found.high.rate > found.low.rate * (1 + tolerance):
        probe(sqrt(found.low.rate * found.high.rate))
    return found
