"""The highest rate, or number of users, that passes: bracket it, then halve the bracket."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import sqrt

from fastsim.simulation.probe import Probed

# Give up this many times below the guess: at that rate requests no longer overlap, so a lower one cannot help.
GIVE_UP_BELOW = 1000.0
# Stop this many times above the ceiling: all requests are waiting already, so a higher rate changes nothing.
STOP_ABOVE = 8.0


@dataclass
class Bracket:
    """The highest rate known to pass and the lowest above it known to fail, with every rate that was tried."""

    low: Probed | None = None  # None: no rate that was tried passes
    high: Probed | None = None  # None: every rate passes
    probes: list[Probed] = field(default_factory=list)

    def add(self, probed: Probed) -> bool:
        """Narrow the bracket by what was tried next; returns whether it passes."""
        self.probes.append(probed)
        if probed.met:
            self.low = probed
        else:
            self.high = probed
        return probed.met


def highest_rate(
    at: Callable[[float], Probed], guess: float, ceiling: float, tolerance: float, step: float = 1.3
) -> Bracket:
    """Bracket the highest rate that passes; the upper end is at most ``1 + tolerance`` times the lower.

    ``at`` simulates a rate, requests/s; every rate below one that passes is taken to pass too. The search starts at
    ``guess`` and moves by the factor ``step``, then by its square, and so on. ``ceiling``: the requests/s of a
    deployment whose queue is never empty, a rate that it cannot sustain for long.
    """
    bracket = Bracket()

    def passes(rate: float) -> bool:
        return bracket.add(at(rate))

    rate, lowest, highest = guess, guess / GIVE_UP_BELOW, STOP_ABOVE * ceiling
    up = passes(rate)
    while up and rate < highest:
        rate, step = min(highest, rate * step), step * step
        up = passes(rate)
    if up:
        return bracket
    while bracket.low is None and rate > lowest:
        rate, step = max(lowest, rate / step), step * step
        passes(rate)
    while bracket.low and bracket.high and bracket.high.rate > bracket.low.rate * (1 + tolerance):
        passes(sqrt(bracket.low.rate * bracket.high.rate))
    return bracket


def most_users(at: Callable[[int], Probed], guess: int, most: int, tolerance: float) -> Bracket:
    """Bracket the highest number of users that passes; the upper end is at most ``1 + tolerance`` times the lower.

    ``at`` simulates a number of users; every number below one that passes is taken to pass too. The search starts at
    ``guess`` and ends at ``most``.
    """
    bracket = Bracket()

    def passes(users: int) -> bool:
        return bracket.add(at(users))

    users = min(guess, most)
    up = passes(users)
    while up and users < most:
        users = min(most, 2 * users)
        up = passes(users)
    while not up and bracket.low is None and users > 1:
        users = max(1, users // 2)
        passes(users)
    while bracket.low and bracket.high:
        low, high = bracket.low.users or 0, bracket.high.users or 0
        if high - low <= max(1.0, tolerance * low):
            break
        passes((low + high) // 2)
    return bracket
