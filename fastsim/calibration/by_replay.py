"""Coefficients from the latencies of requests alone: replays are changed one coefficient at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastsim.calibration.fit import DRAWS, ROBUST, Column, Fit, fit, huber, spread_of
from fastsim.calibration.observed import Mask
from fastsim.calibration.replays import Replayed
from fastsim.errors import WorkloadError
from fastsim.measured.measured import Measured

Floats = NDArray[np.float64]
STEPS = (0.1, 0.02)  # of a unit, by which a coefficient is changed to see what follows
ROUNDS = 8  # with each of them
SHARES = (1.0, 0.5, 0.25, 0.1)  # of the way to the best values if latencies were lines
ENOUGH = 0.01  # of the error, by which it has to fall for another round
FEWEST = 30  # requests that can be fitted on


@dataclass(frozen=True, eq=False)
class Coefficient:
    """A coefficient that replays depend on.

    ``unit`` is a change that matters, such as that which makes a step twice as long; ``prior`` is what it is where
    nothing is fitted.
    """

    name: str
    start: float
    unit: float
    least: float
    most: float
    prior: float = 0.0
    is_kept: bool = False


def fitted(
    measured: Measured,
    coefficients: Sequence[Coefficient],
    replayed: Callable[[Floats], Replayed],
    draws: int = DRAWS,
    chosen: Mask | None = None,
) -> tuple[Floats, Floats, dict[str, str]]:
    """Fit coefficients so that replays are as was measured, by the method of Gauss and Newton.

    Parameters
    ----------
    measured : Measured
        The run.
    coefficients : sequence of Coefficient
        What is fitted.
    replayed : callable
        Replays the run with values of the coefficients, float64[coefficients].
    draws : int
        How many draws of the values to return.
    chosen : bool[requests], optional
        The requests that are compared. By default all.

    Returns
    -------
    tuple
        The values, float64[coefficients], draws of them, float64[draws, coefficients], and by name of a coefficient
        that is left at its prior, why.
    """
    target = _Latencies(measured, chosen)
    prior = np.array([one.prior for one in coefficients])
    start = np.array([one.start for one in coefficients])
    values, slopes = _descend(target, coefficients, replayed, start)
    found = _linear(target, coefficients, replayed(values), slopes, values, draws)
    if not found.left:
        return values, values + _spread(found, coefficients), {}
    kept = np.array([one.name not in found.left for one in coefficients])
    fewer = [replace(one, is_kept=True) for one, is_one in zip(coefficients, kept, strict=True) if is_one]

    def of_fewer(some: Floats) -> Replayed:
        whole = prior.copy()
        whole[kept] = some
        return replayed(whole)

    some, slopes = _descend(target, fewer, of_fewer, values[kept])
    again = _linear(target, fewer, of_fewer(some), slopes, some, draws)
    values, drawn = prior.copy(), np.tile(prior, (draws, 1))
    values[kept] = some
    drawn[:, kept] = some + _spread(again, fewer)
    return values, drawn, found.left


def _spread(found: Fit, coefficients: Sequence[Coefficient]) -> Floats:
    """Draws less what they are draws of: a replay is no line, so that its best values are not quite those of lines."""
    units = np.array([one.unit for one in coefficients])
    return np.asarray((found.draws - found.values) * units)


class _Latencies:
    """What is compared: two rows per request, TTFT and TPOT, or what of E2E is known."""

    def __init__(self, measured: Measured, chosen: Mask | None) -> None:
        pairs = (measured.ttft, measured.tpot)
        if all(np.isnan(one).all() for one in pairs):
            pairs = (measured.e2e, np.full(len(measured.e2e), np.nan))
        self.is_e2e = pairs[0] is measured.e2e
        self.measured = np.column_stack(pairs)
        known = ~np.isnan(self.measured)
        if chosen is not None:
            known &= chosen[:, None]
        if known.any(axis=1).sum() < FEWEST:
            raise WorkloadError(
                f"{measured.place}: {int(known.any(axis=1).sum()):,} requests with latencies, and {FEWEST} are needed "
                "at least"
            )
        # A latency is as uncertain as it is long, and a short one as the middle one.
        middle = np.array(
            [np.median(one[there]) if there.any() else 1.0 for one, there in zip(self.measured.T, known.T, strict=True)]
        )
        self.scale = np.sqrt(np.maximum(self.measured, middle) * middle)
        self.known = known.ravel()

    def of(self, replayed: Replayed) -> Floats:
        """The rows of a replay, float64[rows], in units of their uncertainty."""
        both = (replayed.e2e, replayed.tpot) if self.is_e2e else (replayed.ttft, replayed.tpot)
        return np.asarray((np.column_stack(both) / self.scale).ravel()[self.known])

    def off(self, replayed: Replayed) -> Floats:
        """Measured less replayed."""
        return np.asarray((self.measured / self.scale).ravel()[self.known] - self.of(replayed))


def _descend(
    target: _Latencies, coefficients: Sequence[Coefficient], replayed: Callable[[Floats], Replayed], start: Floats
) -> tuple[Floats, Floats]:
    """The values from which no step makes the error smaller, and the slopes of the rows there, [rows, coefficients].

    A batch more or less makes latencies jump, so that slopes are those over the steps of STEPS, the widest first.
    """
    units = np.array([one.unit for one in coefficients])
    bounds = tuple(np.array([getattr(one, side) for one in coefficients]) for side in ("least", "most"))
    values, now = start, replayed(start)
    slopes = np.zeros((0, len(units)))
    for step in STEPS:
        for _ in range(ROUNDS):
            slopes = _slopes(target, replayed, values, step * units, bounds) * units
            off = target.off(now)
            spread = spread_of(off)
            low, high = ((bound - values) / units for bound in bounds)
            ways = [
                Column(one.name, slopes[:, at], float(low[at]), float(high[at]), is_kept=True)
                for at, one in enumerate(coefficients)
            ]
            way = fit(ways, off, huber(off, spread), 0).values * units
            tried = [np.clip(values + share * way, *bounds) for share in SHARES]
            after = [replayed(one) for one in tried]
            sizes = [_size(target.off(one), spread) for one in after]
            best, before = int(np.argmin(sizes)), _size(off, spread)
            if sizes[best] < before:
                values, now = tried[best], after[best]
            if sizes[best] > before * (1 - ENOUGH):
                break
    return values, slopes


def _size(off: Floats, spread: float) -> float:
    """Huber's loss of what is off, with a given spread."""
    edge = ROBUST * spread
    far = np.abs(off) > edge
    return float(np.sum(np.where(far, 2 * edge * np.abs(off) - edge**2, off**2)))


def _slopes(
    target: _Latencies,
    replayed: Callable[[Floats], Replayed],
    values: Floats,
    steps: Floats,
    bounds: tuple[Floats, ...],
) -> Floats:
    """How each row changes with each coefficient, float64[rows, coefficients]: over a step up and one down."""
    found = []
    for at, step in enumerate(steps):
        ends = []
        for other in (values[at] - step, values[at] + step):
            changed = values.copy()
            changed[at] = min(max(other, bounds[0][at]), bounds[1][at])
            ends.append((changed[at], target.of(replayed(changed))))
        (low, before), (high, after) = ends
        found.append((after - before) / (high - low))
    return np.column_stack(found)


def _linear(
    target: _Latencies,
    coefficients: Sequence[Coefficient],
    now: Replayed,
    slopes: Floats,
    values: Floats,
    draws: int,
) -> Fit:
    """The fit of coefficients, in units from their priors, with latencies as lines through the last replay."""
    off = target.off(now)
    units, prior = (np.array([getattr(one, name) for one in coefficients]) for name in ("unit", "prior"))
    columns = [
        Column(
            one.name, slopes[:, at], (one.least - one.prior) / one.unit, (one.most - one.prior) / one.unit, one.is_kept
        )
        for at, one in enumerate(coefficients)
    ]
    return fit(columns, off + slopes @ ((values - prior) / units), huber(off, spread_of(off)), draws)
