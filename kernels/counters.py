"""Histogram of positive times on a logarithmic scale: 128 bins per octave, so a bin is 0.8 % wide.

Bins follow the bits of a float64 (exponent, then 7 mantissa bits). Counts are integers: histograms merge
exactly, in any order.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ._jit import inlined

LOWEST_EXPONENT = -20  # 2**-20 s: one microsecond
NUM_OCTAVES = 42  # up to 2**22 s, 48 days
BINS_PER_OCTAVE = 128
NUM_BINS = NUM_OCTAVES * BINS_PER_OCTAVE


@inlined
def bin_of(seconds: float) -> int:
    """The bin that holds ``seconds``; what lies outside goes to the first or last bin."""
    if seconds <= 0.0:
        return 0
    mantissa, exponent = math.frexp(seconds)
    place = (exponent - 1 - LOWEST_EXPONENT) * BINS_PER_OCTAVE + int((mantissa - 0.5) * (2 * BINS_PER_OCTAVE))
    return min(max(place, 0), NUM_BINS - 1)


@inlined
def bin_bounds(place: int) -> tuple[float, float]:
    """Times that surely fall into a bin, s: from the first up to the second. The outermost hold more."""
    octave = math.ldexp(1.0, place // BINS_PER_OCTAVE + LOWEST_EXPONENT)
    inside = place % BINS_PER_OCTAVE
    return octave * (1.0 + inside / BINS_PER_OCTAVE), octave * (1.0 + (inside + 1) / BINS_PER_OCTAVE)


def edges() -> NDArray[np.float64]:
    """float64[NUM_BINS + 1], s: bin i holds times from edges[i] up to edges[i + 1]."""
    octave, place = np.divmod(np.arange(NUM_BINS + 1), BINS_PER_OCTAVE)
    bounds: NDArray[np.float64] = np.ldexp(1.0 + place / BINS_PER_OCTAVE, octave + LOWEST_EXPONENT)
    return bounds
