"""What a simulation counts besides its requests: batches by size, work, and series over time."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Floats
from fastsim.kernels.accounts import series as columns
from fastsim.kernels.state import ITERATIONS, SHIFT, State

Longs = NDArray[np.int64]

# Columns of Measures.series; bins of time begin at the first arrival.
SERIES = (
    "busy",  # stage-seconds
    "running",  # request-seconds of requests that hold memory, while a stage is busy
    "kv_blocks",  # block-seconds of KV blocks held, while a stage is busy
    "prefill_tokens",  # prompt tokens of the batches formed in the bin
    "decode_tokens",  # decode tokens of the batches formed in the bin
)


class Measures(NamedTuple):
    """Counts of a simulation, exact and the same on any number of threads; R replicas.

    Histograms count the batches of all replicas. Work sums over every request in every batch, which processes n of its
    tokens there after p others.
    """

    batch_size: Longs  # int64[max_num_seqs + 1], batches by number of requests
    batch_decodes: Longs  # int64[max_num_seqs + 1], batches by number of decodes
    batch_tokens: Longs  # int64[NUM_SIZES], batches by tokens; bins as kernels.accounts.scale.sizes has them
    batch_prefill_tokens: Longs  # int64[NUM_SIZES], batches by prompt tokens, in the same bins
    batch_seconds: Longs  # int64[NUM_BINS], batches on stages by time; bins as kernels.accounts.scale.edges has them
    squares: Longs  # int64[R], sums of n * n
    pairs: Longs  # int64[R], sums of n * p
    sampled: Longs  # int64[R], output tokens
    series: Floats  # float64[R, bins, len(SERIES)], sums over each bin of time
    bin_s: float  # width of a bin, s


def measures_of(lanes: Sequence[State]) -> Measures | None:
    """Return the counts of all lanes of a simulation together, or None if it kept no detail."""
    replicas = lanes[0].replicas
    if not len(replicas.series):
        return None
    # Tally and Measures have the same histograms in the same order.
    size, decodes, tokens, prefill_tokens, seconds = (
        np.sum(counted, axis=0) for counted in zip(*(lane.tally for lane in lanes), strict=True)
    )
    squares, pairs, sampled = replicas.sums.T.copy()
    # Bins double in width each time a replica folds its series, so all fold as often as the most folded one.
    folds = replicas.counts[:, SHIFT]
    most_folds = int(folds.max())
    levels = columns.BUSY, columns.RUNNING_SERIES, columns.KV
    series = np.zeros(replicas.series.shape)
    for r in np.flatnonzero(replicas.counts[:, ITERATIONS]):
        merged = min(1 << int(most_folds - folds[r]), columns.BINS)  # bins that become one
        folded = replicas.series[r].reshape(-1, merged, len(SERIES)).sum(axis=1)
        series[r, : len(folded)] = folded
        series[r][:, levels] /= columns.TICKS
    bin_s = float(1 << (columns.FIRST_SHIFT + most_folds)) / columns.TICKS
    return Measures(size, decodes, tokens, prefill_tokens, seconds, squares, pairs, sampled, series, bin_s)
