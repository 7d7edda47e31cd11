"""What a simulation counts beside its requests: batches by size, work, and series over time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.accounts import counts
from fastsim.kernels.state import SHIFT, State

Floats = NDArray[np.float64]
Longs = NDArray[np.int64]

# Columns of Measures.series; time is counted from the first arrival.
SERIES = (
    "busy",  # stage-seconds
    "running",  # request-seconds: arrived, not finished, not waiting, while a stage is busy
    "kv_blocks",  # block-seconds, while a stage is busy
    "prefill_tokens",  # in batches formed in the bin
    "decode_tokens",  # the same
)


class Measures(NamedTuple):
    """Exact, and the same on any number of threads. All batches of a deployment, but what is by replica."""

    batch_size: Longs  # int64[max_num_seqs + 1] batches by number of sequences
    batch_decodes: Longs  # int64[max_num_seqs + 1] the same by decodes
    batch_tokens: Longs  # int64[NUM_SIZES] batches by tokens: bin i from counters.sizes()[i] up to the next
    batch_prefill_tokens: Longs  # int64[NUM_SIZES] the same by prompt tokens
    batch_seconds: Longs  # int64[NUM_BINS] batches on stages by time: bins as counters.edges()
    squares: Longs  # int64[R] n * n, summed over members of batches of n tokens each
    pairs: Longs  # int64[R] n * tokens processed before, summed alike
    sampled: Longs  # int64[R] output tokens
    series: Floats  # float64[R, bins, len(SERIES)]
    bin_s: float  # width of a bin of the series, s


def measures_of(lanes: Sequence[State]) -> Measures | None:
    """What the lanes of a simulation have counted, all together; None when it kept no detail."""
    replicas = lanes[0].replicas
    if not len(replicas.series):
        return None
    size, decodes, tokens, prefill_tokens, seconds = (
        np.sum(kind, axis=0) for kind in zip(*(lane.tally for lane in lanes), strict=True)
    )
    squares, pairs, sampled = replicas.sums.T.copy()
    folds = replicas.counts[:, SHIFT]
    most = int(folds.max())
    series = np.zeros(replicas.series.shape)
    for own, kept, times in zip(series, replicas.series, most - folds, strict=True):
        np.add.at(own, np.arange(counts.BINS) >> times, kept)
    levels = counts.BUSY, counts.RUNNING_SERIES, counts.KV
    series[:, :, levels] /= counts.TICKS
    bin_s = float(1 << (counts.FIRST_SHIFT + most)) / counts.TICKS
    return Measures(size, decodes, tokens, prefill_tokens, seconds, squares, pairs, sampled, series, bin_s)
