"""Draws a workload from its description.

Lengths and gaps have a random stream each, which is read in order of the requests. So another rate stretches the same
gaps and keeps the lengths, and a longer workload begins with the shorter one.
"""

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.errors import WorkloadError
from fastsim.files.memory import check_memory
from fastsim.workload import read
from fastsim.workload.description import (
    ClosedLoop,
    Description,
    Exponential,
    FixedLengths,
    GammaGaps,
    Lengths,
    PoissonGaps,
    QuantileLengths,
    Quantiles,
    Range,
    StaticGaps,
    TraceGaps,
    TraceLengths,
    UniformLengths,
    ZipfLengths,
)
from fastsim.workload.origin import Origin
from fastsim.workload.workload import Workload

BYTES = 48  # of memory for a request while it is drawn and checked
SLICE = 2**18  # requests whose lengths are drawn at once, which limits the memory of intermediate arrays

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def draw(described: "Description[Any, Any]", name: str) -> Workload:
    """Draw the workload of a description.

    Raises WorkloadError for a file that the description names, and TooLargeError for more requests than fit in memory.
    """
    number = described.num_requests
    check_memory(number, f"num_requests: {number:,} requests", BYTES)
    for_lengths, for_gaps = map(np.random.default_rng, np.random.SeedSequence(described.seed).spawn(2))
    prompts, outputs, origin = draw_lengths(described.lengths, number, for_lengths)
    if described.max_tokens is not None:
        _shrink(prompts, outputs, described.max_tokens)
    think, most = None, described.max_concurrency
    if isinstance(described.gaps, ClosedLoop):
        arrived_at, think = draw_loop(described.gaps, number, for_gaps)
        most = described.gaps.concurrency
    else:
        arrived_at = draw_arrivals(described.gaps, number, for_gaps)
    return Workload(arrived_at, prompts, outputs, name=name, origin=origin, think_time=think, max_concurrency=most)


def draw_lengths(lengths: Lengths, number: int, rng: np.random.Generator) -> tuple[Integers, Integers, Origin | None]:
    """Draw the tokens of prompts and outputs, int64[number] each; also return the origin of those from a file."""
    origin = None
    both = np.empty((2, number), np.int64)
    match lengths:
        case FixedLengths():
            both.T[:] = lengths.num_prompt_tokens, lengths.num_output_tokens
        case TraceLengths():
            origin = _from_file(both, lengths, rng)
        case UniformLengths() | ZipfLengths():
            spans = lengths.num_prompt_tokens, lengths.num_output_tokens
            weights = [_zipf(span, lengths.exponent) if isinstance(lengths, ZipfLengths) else None for span in spans]
            for first in range(0, number, SLICE):
                part = both[:, first : first + SLICE]
                uniform = rng.random(part.T.shape).T
                for row, span, cumulative, share in zip(part, spans, weights, uniform, strict=True):
                    row[:] = span.min + (
                        share * (span.max - span.min + 1)
                        if cumulative is None
                        else np.searchsorted(cumulative, share, side="right")
                    )
        case QuantileLengths():
            rest = (1 - lengths.correlation**2) ** 0.5
            for first in range(0, number, SLICE):
                part = both[:, first : first + SLICE]
                score, other = rng.standard_normal(part.T.shape).T
                part[0] = _at_scores(lengths.num_prompt_tokens, score)
                part[1] = _at_scores(lengths.num_output_tokens, lengths.correlation * score + rest * other)
    return both[0], both[1], origin


def draw_arrivals(
    gaps: StaticGaps | PoissonGaps | GammaGaps | TraceGaps, number: int, rng: np.random.Generator
) -> Floats:
    """Draw arrival times, float64[number], s. The first request arrives one gap after 0, or at 0 from a trace."""
    match gaps:
        case TraceGaps():
            return _repeated(gaps, number)
        case StaticGaps():
            arrived_at = np.arange(1.0, number + 1) if gaps.rate else np.zeros(number)
        case PoissonGaps():
            arrived_at = rng.standard_exponential(number)
            np.cumsum(arrived_at, out=arrived_at)
        case GammaGaps():
            arrived_at = rng.standard_gamma(gaps.cv**-2, number)
            arrived_at *= gaps.cv**2
            np.cumsum(arrived_at, out=arrived_at)
    arrived_at /= gaps.rate or 1.0
    return arrived_at


def draw_loop(loop: ClosedLoop, number: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw arrival times and think times, float64[number] each, s: the users' first requests have an arrival time."""
    users = min(loop.concurrency, number)
    arrived_at = np.full(number, np.nan)
    arrived_at[:users] = np.arange(users) * (loop.ramp_up / loop.concurrency)
    if isinstance(loop.think_time, Exponential):
        return arrived_at, loop.think_time.mean * rng.standard_exponential(number)
    return arrived_at, np.full(number, loop.think_time)


def _from_file(both: Integers, lengths: TraceLengths, rng: np.random.Generator) -> Origin:
    known, origin = read.lengths(lengths.file)
    number = both.shape[1]
    for first in range(0, number, SLICE):
        last = min(number, first + SLICE)
        if lengths.order == "random":
            rows = rng.integers(known.shape[1], size=last - first)
        else:
            rows = np.arange(first, last) % known.shape[1]
        both[:, first:last] = known[:, rows]
    return origin


def _repeated(gaps: TraceGaps, number: int) -> Floats:
    """Repeat the arrivals of a file, shifted to begin at 0; one mean gap separates two rounds."""
    times = read.times(gaps.file, gaps.unit)
    recorded: Floats = times - times[0]
    size, span = len(recorded), float(recorded[-1])
    if number <= size and gaps.rate is None:
        return recorded[:number]
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


def _zipf(span: Range, exponent: float) -> Floats:
    """Return the cumulative probability of each length of a range, from the shortest to the longest."""
    cumulative = np.arange(1.0, span.max - span.min + 2)
    np.power(cumulative, -exponent, out=cumulative)
    np.cumsum(cumulative, out=cumulative)
    cumulative /= cumulative[-1]
    return cumulative


def _at_scores(quantiles: Quantiles, scores: Floats) -> Floats:
    """Return the lengths at these normal scores, rounded to whole tokens."""
    knots = [NormalDist().inv_cdf(probability) for probability in quantiles.probability]
    logs = np.interp(scores, knots, np.log(quantiles.tokens))
    return np.rint(np.exp(logs, out=logs), out=logs)


def _shrink(prompts: Integers, outputs: Integers, max_tokens: int) -> None:
    """Shrink requests that have more than ``max_tokens`` in total, in proportion and in place."""
    long = np.flatnonzero(prompts + outputs > max_tokens)
    prompt, output = prompts[long], outputs[long]
    outputs[long] = np.clip(output * max_tokens // (prompt + output), 1, max_tokens - 1)
    prompts[long] = max_tokens - outputs[long]
