"""Bins of positive times on a logarithmic scale: 128 per octave, so a bin is 0.8 % wide.

Bins follow the bits of a float64 (exponent, then 7 mantissa bits). Counts are integers: histograms merge
exactly, in any order.
"""

import numpy as np
from numpy.typing import NDArray

LOWEST_EXPONENT = -20  # 2**-20 s: one microsecond
NUM_OCTAVES = 42  # up to 2**22 s, 48 days
BINS_PER_OCTAVE = 128
NUM_BINS = NUM_OCTAVES * BINS_PER_OCTAVE
LAST_EXACT = 256  # tokens; from here on a bin holds more than one number of tokens
NUM_SIZES = LAST_EXACT + 22 * BINS_PER_OCTAVE  # up to 2**30 tokens


def sizes() -> NDArray[np.int64]:
    """int64[NUM_SIZES + 1], tokens: bin i of size_bin holds sizes()[i] up to sizes()[i + 1] - 1."""
    octave, inside = np.divmod(np.arange(NUM_SIZES + 1 - LAST_EXACT), BINS_PER_OCTAVE)
    return np.concatenate([np.arange(LAST_EXACT), (BINS_PER_OCTAVE + inside) << (octave + 1)])


def edges() -> NDArray[np.float64]:
    """float64[NUM_BINS + 1], s: bin i holds times from edges[i] up to edges[i + 1]."""
    octave, inside = np.divmod(np.arange(NUM_BINS + 1), BINS_PER_OCTAVE)
    bounds: NDArray[np.float64] = np.ldexp(1.0 + inside / BINS_PER_OCTAVE, octave + LOWEST_EXPONENT)
    return bounds
