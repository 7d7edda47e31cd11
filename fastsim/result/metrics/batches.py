"""Distributions over batches: size, tokens, duration."""

import numpy as np

from fastsim.kernels import state
from fastsim.kernels.accounts import histogram
from fastsim.kernels.state import Replicas
from fastsim.result.metrics import distribution
from fastsim.result.metrics.counts import Measures
from fastsim.result.metrics.distribution import ratio

from .utilisation import total


def of_batches(measures: Measures, replicas: Replicas) -> dict[str, distribution.Figures]:
    number = int(measures.batch_size.sum())
    tokens, prefill = int(replicas.counts[:, state.TOKENS].sum()), float(total(measures, "prefill_tokens"))
    sizes = histogram.sizes()
    return {
        "size": distribution.of_counts(measures.batch_size, np.arange(len(measures.batch_size) + 1)),
        "tokens": distribution.of_counts(measures.batch_tokens, sizes, ratio(tokens, number)),
        "prefill_tokens": distribution.of_counts(measures.batch_prefill_tokens, sizes, ratio(prefill, number)),
        "decode_tokens": distribution.of_counts(measures.batch_decodes, np.arange(len(measures.batch_decodes) + 1)),
        "seconds": distribution.of_bins(
            measures.batch_seconds, ratio(float(replicas.busy.sum()), int(measures.batch_seconds.sum()))
        ),
    }
