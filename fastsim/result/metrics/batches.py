"""Distributions over batches: requests, tokens and seconds."""

import numpy as np

from fastsim.kernels import state
from fastsim.kernels.accounts import scale
from fastsim.kernels.state import Replicas
from fastsim.result.metrics import distribution
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.distribution import ratio
from fastsim.result.metrics.utilisation import series_total


def batch_distributions(measures: Measures, replicas: Replicas) -> dict[str, distribution.Figures]:
    """Return the section ``batch`` of a summary: a distribution over all batches, by the key of definitions.BATCH."""
    num_batches = int(measures.batch_size.sum())
    num_tokens = int(replicas.counts[:, state.TOKENS].sum())
    num_prefill_tokens = float(series_total(measures, "prefill_tokens"))
    sizes = scale.sizes()
    return {
        "size": distribution.of_counts(measures.batch_size, np.arange(len(measures.batch_size) + 1)),
        "tokens": distribution.of_counts(measures.batch_tokens, sizes, ratio(num_tokens, num_batches)),
        "prefill_tokens": distribution.of_counts(
            measures.batch_prefill_tokens, sizes, ratio(num_prefill_tokens, num_batches)
        ),
        "decode_tokens": distribution.of_counts(measures.batch_decodes, np.arange(len(measures.batch_decodes) + 1)),
        "seconds": distribution.of_bins(
            measures.batch_seconds, ratio(float(replicas.busy.sum()), int(measures.batch_seconds.sum()))
        ),
    }
