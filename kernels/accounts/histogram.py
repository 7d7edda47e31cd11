"""Which bin a positive time falls into."""

import math

import numpy as np

from .._jit import inlined
from .scale import BINS_PER_OCTAVE, LAST_EXACT, LOWEST_EXPONENT, NUM_BINS, NUM_SIZES


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
