"""Histogram of positive times on a logarithmic scale: 128 bins per octave, so a bin is 0.8 % wide.

Bins follow the bits of a float64 (exponent, then 7 mantissa bits). Counts are integers: histograms merge
exactly, in any order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from .._jit import inlined

LOWEST_EXPONENT = -20  # 2**-20 s: one microsecond
NUM_OCTAVES = 42  # up to 2**22 s, 48 days
BINS_PER_OCTAVE = 128
NUM_BINS = NUM_OCTAVES * BINS_PER_OCTAVE
LAST_EXACT = 256  # tokens; from here on a bin holds more than one number of tokens
NUM_SIZES = LAST_EXACT + 22 * BINS_PER_OCTAVE  # up to 2**30 tokens


@inlined
def _octaves(value: float) -> int:
    """How many bins a positive value lies above 1; far below 0 for a value that is not positive."""
    return int((np.float64(value).view(np.int64) >> (52 - 7)) - 1023 * BINS_PER_OCTAVE)


@inlined
def bin_of(seconds: float) -> int:
    """The index of the bin that holds ``seconds``; times out of range go to the first or last bin."""
    index = _octaves(seconds) - LOWEST_EXPONENT * BINS_PER_OCTAVE
    return min(max(index, 0), NUM_BINS - 1)


@inlined
def bin_bounds(index: int) -> tuple[float, float]:
    """The range of times, s, that fall into a bin: from the first up to the second. The outermost bins hold more."""
    octave = math.ldexp(1.0, index // BINS_PER_OCTAVE + LOWEST_EXPONENT)
    inside = index % BINS_PER_OCTAVE
    return octave * (1.0 + inside / BINS_PER_OCTAVE), octave * (1.0 + (inside + 1) / BINS_PER_OCTAVE)


@inlined
def size_bin(number: int) -> int:
    """The index of the bin of a number of tokens: a bin for each number up to 255, then 128 bins per octave."""
    if number < LAST_EXACT:
        return int(number)
    return min(LAST_EXACT + _octaves(float(number)) - 8 * BINS_PER_OCTAVE, NUM_SIZES - 1)


def sizes() -> NDArray[np.int64]:
    """int64[NUM_SIZES + 1], tokens: bin i of size_bin holds sizes()[i] up to sizes()[i + 1] - 1."""
    octave, inside = np.divmod(np.arange(NUM_SIZES + 1 - LAST_EXACT), BINS_PER_OCTAVE)
    return np.concatenate([np.arange(LAST_EXACT), (BINS_PER_OCTAVE + inside) << (octave + 1)])


def edges() -> NDArray[np.float64]:
    """float64[NUM_BINS + 1], s: bin i holds times from edges[i] up to edges[i + 1]."""
    octave, inside = np.divmod(np.arange(NUM_BINS + 1), BINS_PER_OCTAVE)
    bounds: NDArray[np.float64] = np.ldexp(1.0 + inside / BINS_PER_OCTAVE, octave + LOWEST_EXPONENT)
    return bounds
