"""Draws the times at which requests arrive.

Where the rate changes over time, arrivals are those of a Poisson process of rate 1, carried through the inverse of the
cumulative rate. This is exact, and another rate keeps the random numbers.
"""

from math import gamma, pi

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.workload import read
from fastsim.workload.checks import MAX_TIME
from fastsim.workload.fields import Exponential, FixedTime, LognormalTime
from fastsim.workload.gaps import (
    ClosedLoop,
    DiurnalGaps,
    GammaGaps,
    MmppGaps,
    OpenGaps,
    PiecewiseGaps,
    PoissonGaps,
    RampGaps,
    Scheduled,
    StaticGaps,
    TraceGaps,
    VllmBenchGaps,
    WeibullGaps,
)

SLICE = 2**18  # requests that are drawn at once, which limits the memory of intermediate arrays
GRID = 1024  # intervals of a period in which the inverse of a cumulative cosine is looked up first

Floats = NDArray[np.float64]


def draw_arrivals(gaps: OpenGaps, number: int, rng: np.random.Generator) -> Floats:
    """Draw arrival times, float64[number], s. The first request arrives one gap after 0, or at 0 from a trace."""
    match gaps:
        case TraceGaps():
            return _repeated(gaps, number)
        case StaticGaps():
            arrived_at = np.arange(1.0, number + 1) if gaps.rate else np.zeros(number)
        case PoissonGaps() | PiecewiseGaps() | DiurnalGaps() | RampGaps() | MmppGaps():
            arrived_at = rng.standard_exponential(number)
        case WeibullGaps():
            arrived_at = rng.standard_exponential(number)
            np.power(arrived_at, 1 / gaps.shape, out=arrived_at)
            arrived_at /= gamma(1 + 1 / gaps.shape)
        case GammaGaps():
            arrived_at = rng.standard_gamma(gaps.cv**-2, number)
            arrived_at *= gaps.cv**2
        case VllmBenchGaps():
            arrived_at = rng.standard_gamma(gaps.burstiness, number)
            arrived_at /= gaps.burstiness
    if not isinstance(gaps, StaticGaps):
        np.cumsum(arrived_at, out=arrived_at)
    if isinstance(gaps, Scheduled):
        return _inverse(gaps, arrived_at, rng)
    if isinstance(gaps, VllmBenchGaps) and arrived_at[-1] > 0:
        arrived_at *= number / arrived_at[-1]
    arrived_at /= gaps.rate or 1.0
    return arrived_at


def draw_loop(loop: ClosedLoop, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw arrival times and think times, float64[number] each, s: the users' first requests have an arrival time."""
    users = min(loop.concurrency, number)
    arrived_at = np.full(number, np.nan)
    arrived_at[:users] = np.arange(users) * (loop.ramp_up / loop.concurrency)
    return arrived_at, draw_times(loop.think_time, number, rng)


def draw_times(times: FixedTime | Exponential | LognormalTime, number: int, rng: np.random.Generator) -> Floats:
    """Draw times, float64[number], s."""
    match times:
        case FixedTime():
            return np.full(number, times.seconds)
        case Exponential():
            drawn = times.mean * rng.standard_exponential(number)
        case LognormalTime():
            drawn = times.median * np.exp(times.sigma * rng.standard_normal(number))
    return np.minimum(drawn, MAX_TIME)


def _inverse(gaps: Scheduled, masses: Floats, rng: np.random.Generator) -> Floats:
    """The times at which the cumulative rate reaches ``masses``, float64[n], ascending, requests; s, in place."""
    if gaps.rate is not None:
        masses *= gaps.mean / gaps.rate
    changes = _dwells(gaps, float(masses[-1]), rng) if isinstance(gaps, MmppGaps) else None
    for first in range(0, len(masses), SLICE):
        part = masses[first : first + SLICE]
        match gaps:
            case PiecewiseGaps():
                part[:] = _of_steps(gaps, part)
            case DiurnalGaps():
                part[:] = _of_cosine(gaps, part)
            case RampGaps():
                slope = (gaps.end_rate - gaps.start_rate) / gaps.duration
                root = np.sqrt(np.maximum(gaps.start_rate**2 + 2 * slope * part, 0))
                within = part <= gaps.mean * gaps.duration
                ramp = 2 * part / np.maximum(gaps.start_rate + root, 1e-300)
                after = gaps.duration + (part - gaps.mean * gaps.duration) / gaps.end_rate
                part[:] = np.where(within, ramp, after)
            case MmppGaps():
                assert changes is not None
                part[:] = _between(*changes, part)
    return np.maximum.accumulate(masses, out=masses)  # rounding may exchange neighbours at the end of a step


def _between(begins: Floats, masses: Floats, rates: Floats, wanted: Floats) -> Floats:
    """When the mass ``wanted`` is reached, if a step begins at each of ``begins``, s, with ``masses`` before it."""
    step = np.searchsorted(masses, wanted, side="right") - 1
    with np.errstate(divide="ignore", invalid="ignore"):  # where the rate is 0, nothing is left to wait for
        return begins[step] + np.where(rates[step] > 0, (wanted - masses[step]) / rates[step], 0.0)


def _of_steps(gaps: PiecewiseGaps, masses: Floats) -> Floats:
    durations = np.array([step.duration for step in gaps.steps])
    rates = np.array([step.rate for step in gaps.steps])
    ends, after = np.cumsum(durations), np.cumsum(durations * rates)
    begins, before = (np.concatenate([[0.0], totals[:-1]]) for totals in (ends, after))
    rounds, rest = np.divmod(masses, after[-1]) if gaps.repeat else (0.0, masses)
    times: Floats = rounds * ends[-1] + _between(begins, before, rates, rest)
    return times


def _of_cosine(gaps: DiurnalGaps, masses: Floats) -> Floats:
    """Solve x - e sin x = y, Kepler's equation, where x is the angle of the period and e the relative amplitude.

    A table gives an interval that holds the angle; Newton's steps that leave the interval are replaced by halving it.
    """
    e = (gaps.peak - gaps.trough) / (gaps.peak + gaps.trough)
    omega = 2 * pi / gaps.period
    begin = omega * (gaps.start % gaps.period)
    whole, y = np.divmod(omega * masses / gaps.mean + (begin - e * np.sin(begin)), 2 * pi)
    grid = np.linspace(0, 2 * pi, GRID + 1)
    at = np.clip(np.searchsorted(grid - e * np.sin(grid), y, side="right") - 1, 0, GRID - 1)
    found = np.empty(len(y))
    left, low, high = np.arange(len(y)), grid[at], grid[at + 1]
    x = (low + high) / 2
    for _ in range(60):
        error = x - e * np.sin(x) - y[left]
        low, high = np.where(error <= 0, x, low), np.where(error >= 0, x, high)
        with np.errstate(divide="ignore", invalid="ignore"):
            new = x - error / (1 - e * np.cos(x))
        new = np.where((new > low) & (new < high), new, (low + high) / 2)
        found[left] = new
        moves = np.abs(new - x) > 1e-13
        if not moves.any():
            break
        left, low, high, x = left[moves], low[moves], high[moves], new[moves]
    times: Floats = (2 * pi * whole + found - begin) / omega
    return np.maximum(times, 0)


def _dwells(gaps: MmppGaps, most: float, rng: np.random.Generator) -> tuple[Floats, Floats, Floats]:
    """When each state begins, s, the mass before it, and its rate, until a mass of ``most`` is reached."""
    (rng,) = rng.spawn(1)
    means = np.array([state.mean_dwell for state in gaps.states])
    start = np.searchsorted(np.cumsum(means) / means.sum(), rng.random(), side="right")
    states = (np.arange(len(means)) + start) % len(means)
    rates = np.array([gaps.states[state].rate for state in states])
    times, masses, rounds, seen = [np.zeros(1)], [np.zeros(1)], max(1, SLICE // len(states)), 0
    while masses[-1][-1] <= most:
        dwells = rng.standard_exponential((min(rounds, 2 * seen + 8), len(states))) * means[states]
        times.append(times[-1][-1] + np.cumsum(dwells))
        masses.append(masses[-1][-1] + np.cumsum(dwells * rates))
        seen += len(dwells)
    return np.concatenate(times)[:-1], np.concatenate(masses)[:-1], np.tile(rates, seen)


def _repeated(gaps: TraceGaps, number: int) -> Floats:
    """Repeat the arrivals of a file, shifted to begin at 0; one mean gap separates two rounds."""
    times = read.times(gaps.file, gaps.unit)
    recorded: Floats = times - times[0]
    size, span = len(recorded), float(recorded[-1])
    if number <= size and gaps.rate is None:
        return recorded[:number] * gaps.scale
    if not span > 0:
        raise WorkloadError(
            f"{gaps.file}: all requests arrive at once, so their gaps cannot be repeated or stretched; give "
            "arrival times that differ"
        )
    mean_gap = span / (size - 1)
    arrived_at = np.empty(number)
    for first in range(0, number, SLICE):
        part = arrived_at[first : first + SLICE]
        rounds, rows = np.divmod(np.arange(first, first + len(part)), size)
        part[:] = recorded[rows] + rounds * (size * mean_gap)
    if gaps.rate is not None:
        arrived_at /= gaps.rate * mean_gap
        return arrived_at
    arrived_at *= gaps.scale
    return arrived_at
