"""Draws the numbers of tokens of prompts and outputs."""

from collections.abc import Callable
from math import pi, sin
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fastsim.workload import read
from fastsim.workload.lengths import (
    CopulaLengths,
    FixedLengths,
    Lengths,
    Lognormal,
    Normal,
    Observed,
    Quantiles,
    Scored,
    TraceLengths,
    UniformLengths,
    ZipfLengths,
)
from fastsim.workload.origin import Origin
from fastsim.workload.ranks import rank_correlation

SLICE = 2**18  # requests whose lengths are drawn at once, which limits the memory of intermediate arrays

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


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
            exponent = lengths.exponent if isinstance(lengths, ZipfLengths) else None
            weights = [zipf(span.max - span.min + 1, exponent) if exponent is not None else None for span in spans]
            for first in range(0, number, SLICE):
                part = both[:, first : first + SLICE]
                uniform = rng.random(part.T.shape).T
                for row, span, cumulative, share in zip(part, spans, weights, uniform, strict=True):
                    row[:] = span.min + (
                        share * (span.max - span.min + 1)
                        if cumulative is None
                        else np.searchsorted(cumulative, share, side="right")
                    )
        case _:
            prompt, output, correlation, origin = _scored(lengths)
            rest = (1 - correlation**2) ** 0.5
            for first in range(0, number, SLICE):
                part = both[:, first : first + SLICE]
                score, other = rng.standard_normal(part.T.shape).T
                part[0] = prompt(score)
                part[1] = output(correlation * score + rest * other)
    return both[0], both[1], origin


def zipf(number: int, exponent: float) -> Floats:
    """Return the cumulative probability of each of ``number`` ranks, float64[number]; the k-th has k**-exponent."""
    cumulative = np.arange(1.0, number + 1)
    np.power(cumulative, -exponent, out=cumulative)
    np.cumsum(cumulative, out=cumulative)
    cumulative /= cumulative[-1]
    return cumulative


def shrink(prompts: Integers, outputs: Integers, max_tokens: int | Integers) -> None:
    """Shrink requests that have more than ``max_tokens`` in total, in proportion and in place."""
    long = np.flatnonzero(prompts + outputs > max_tokens)
    most = max_tokens if isinstance(max_tokens, int) else max_tokens[long]
    prompt, output = prompts[long], outputs[long]
    outputs[long] = np.clip(output * most // (prompt + output), 1, most - 1)
    prompts[long] = most - outputs[long]


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


def _scored(lengths: Scored) -> "tuple[Law, Law, float, Origin | None]":
    """The lengths of prompts and of outputs by their normal scores, the correlation of these, and an origin."""
    if isinstance(lengths, CopulaLengths):
        (prompts, outputs), origin = read.lengths(lengths.file)
        correlation = 2 * sin(pi / 6 * rank_correlation(prompts, outputs))
        return _between_neighbours(prompts), _between_neighbours(outputs), correlation, origin
    laws: list[Law] = []
    origins: list[Origin] = []
    for row, law in enumerate((lengths.num_prompt_tokens, lengths.num_output_tokens)):
        match law:
            case Quantiles():
                laws.append(_of_quantiles(law))
            case Normal() | Lognormal():
                laws.append(_truncated(law))
            case Observed(file=None):
                laws.append(_of_histogram(law))
            case Observed():
                known, origin = read.lengths(law.file or "")
                laws.append(_of_values(known[row]))
                origins.append(origin)
    return laws[0], laws[1], lengths.correlation, origins[0] if origins else None


Law = Callable[[Floats], Floats]  # from normal scores to whole numbers of tokens


def _of_quantiles(quantiles: Quantiles) -> Law:
    knots = [NormalDist().inv_cdf(probability) for probability in quantiles.probability]
    values = np.log(quantiles.tokens)

    def law(scores: Floats) -> Floats:
        logs = np.interp(scores, knots, values)
        return np.rint(np.exp(logs, out=logs), out=logs)

    return law


def _truncated(given: Normal | Lognormal) -> Law:
    """The law of a truncated distribution: scores become probabilities, and these are of the part that is left."""
    from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

    logs = isinstance(given, Lognormal)
    mean, std = (given.mu, given.sigma) if isinstance(given, Lognormal) else (given.mean, given.std)
    limits = np.array([given.min - 0.5, given.max + 0.5])
    low, high = ndtr(((np.log(limits) if logs else limits) - mean) / std)

    def law(scores: Floats) -> Floats:
        values = mean + std * ndtri(low + (high - low) * ndtr(scores))
        tokens: Floats = np.clip(np.rint(np.exp(values) if logs else values), given.min, given.max)
        return tokens

    return law


def _of_histogram(observed: Observed) -> Law:
    from scipy.special import ndtr

    edges, weights = np.array(observed.edges), np.array(observed.weights)
    filled = weights > 0
    begins, widths = edges[:-1][filled], np.diff(edges)[filled]
    cumulative = np.cumsum(weights[filled])
    cumulative /= cumulative[-1]
    before = np.concatenate([[0.0], cumulative[:-1]])

    def law(scores: Floats) -> Floats:
        share = ndtr(scores)
        bins = np.minimum(np.searchsorted(cumulative, share, side="right"), len(cumulative) - 1)
        place = (share - before[bins]) / (cumulative[bins] - before[bins])
        tokens: Floats = begins[bins] + np.minimum(np.floor(place * widths[bins]), widths[bins] - 1)
        return tokens

    return law


def _of_values(values: Integers) -> Law:
    from scipy.special import ndtr

    ordered = np.sort(values).astype(np.float64)

    def law(scores: Floats) -> Floats:
        taken: Floats = ordered[np.minimum((ndtr(scores) * len(ordered)).astype(np.int64), len(ordered) - 1)]
        return taken

    return law


def _between_neighbours(values: Integers) -> Law:
    """The law of values whose distribution is continuous between neighbours, so that none of them is only copied."""
    from scipy.special import ndtr

    ordered, places = np.sort(values), np.arange(len(values)) + 0.5

    def law(scores: Floats) -> Floats:
        tokens: Floats = np.rint(np.interp(ndtr(scores) * len(ordered), places, ordered))
        return tokens

    return law
