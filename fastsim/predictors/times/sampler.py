"""Time to draw tokens by top-k or top-p, which takes passes over the logits of the whole vocabulary."""

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved

from .times import Floats

VOCABULARY = 128_000  # tokens, of the records in data/engines
BANDWIDTH_GB_S = 3350.0  # of the GPU that the times for each sequence are of


def sampler_ms(resolved: Resolved, sequences: NDArray[np.int64]) -> Floats:
    """float64[n], ms, for batches that draw ``sequences`` (int[n]) tokens; zeros unless top-k or top-p is used."""
    known = resolved.engine_times
    if known is None or resolved.sampling != "top_k_top_p":
        return np.zeros(sequences.shape)
    each_us = known.sampler_us_per_sequence * BANDWIDTH_GB_S / resolved.device.bandwidth_gb_s
    ms = resolved.model.vocab_size / VOCABULARY * (known.sampler_ms + each_us * 1e-3 * sequences)
    return np.where(sequences > 0, ms, 0.0)
