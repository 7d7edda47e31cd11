"""GPU time by operator over a whole run: batches by tokens and size times what each operator takes at that size."""

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Resolved

Integers = NDArray[np.integer]
ATTENTION = "attention"


def by_operator(
    resolved: Resolved, sizes: Integers, batch_tokens: Integers, batch_size: Integers, busy: float
) -> dict[str, float]:
    """Stage-seconds by operator, the costliest first; attention is what remains of ``busy``, all stage-seconds.

    ``batch_tokens[i]`` batches had ``sizes[i]`` tokens, ``batch_size[n]`` had n requests. Nothing with Vidur's
    composition, whose times are not sums over operators, nor of a Vidur checkout, whose forests would be fitted anew.
    """
    from fastsim.predictors.build import operator_times
    from fastsim.predictors.tables.by_operator import apart, kind_of, parts_of
    from fastsim.predictors.tables.compose import fastsim_tables

    predictor = resolved.predictor
    if predictor.compose == "vidur" or predictor.source.startswith("vidur:"):
        return {}
    times = operator_times(resolved)[0]
    attention = {name for name in parts_of(times) if kind_of(name) in ("decode", "prefill")}
    stages, seqs = resolved.pipeline_parallel_size, resolved.scheduler.max_num_seqs
    layers, requests = resolved.layers_per_stage, np.arange(len(batch_size))
    found = {}
    for name, alone in apart(times):
        if name in attention:
            continue
        tables = fastsim_tables(alone, resolved.tensor_parallel_size, layers, seqs, resolved.device.skew)
        ms = stages * float(batch_tokens @ _beyond(tables.token_ms, tables.token_slope, sizes))
        ms += float(batch_tokens @ _beyond(tables.first_ms, tables.first_slope, sizes))
        ms += (stages - 1) * float(batch_tokens @ _beyond(tables.send_ms, tables.send_slope, sizes))
        ms += float(batch_size @ (tables.host_ms + tables.last_ms)[np.minimum(requests, len(tables.host_ms) - 1)])
        if ms:
            found[name] = ms / 1e3
    found[ATTENTION] = max(0.0, busy - sum(found.values()))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _beyond(table: NDArray[np.float64], slope: float, sizes: Integers) -> NDArray[np.float64]:
    """Entries of a table that goes on as a line after its last entry."""
    last = len(table) - 1
    found: NDArray[np.float64] = table[np.minimum(sizes, last)] + slope * np.maximum(sizes - last, 0)
    return found
