"""What each operator of a batch takes, as far as the batch's tokens and requests tell it; attention is the rest."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.resolved import Deployment, resolve
from fastsim.errors import FastsimError

Floats = NDArray[np.float64]


class Shares(NamedTuple):
    """Milliseconds by operator on one stage, but for attention."""

    names: list[str]
    tokens: Floats  # [operators, tokens in the batch]
    slopes: Floats  # [operators] per token beyond the last
    first: Floats  # [tokens] embedding; on the first stage
    first_slope: float
    last: Floats  # [sampled] final norm, LM head and sampling; on the last stage
    host: Floats  # [requests in the batch]; on the first stage
    send: Floats  # [tokens] to the next stage
    send_slope: float


def shares(config: Path) -> Shares | None:
    """Tables of the deployment in a result's config.json; None where they cannot be had again.

    That is so for Vidur's composition, whose times are no sums over operators, and for operator times, models or
    policies in files that are no longer there.
    """
    from fastsim.predictors.build import operator_times
    from fastsim.predictors.tables.by_operator import apart, parts_of
    from fastsim.predictors.tables.compose import fastsim_tables

    try:
        resolved = resolve(Deployment.load(config))
        if resolved.predictor.compose == "vidur":
            return None
        times = operator_times(resolved)[0]
    except FastsimError:
        return None
    layers, seqs = resolved.layers_per_stage, resolved.scheduler.max_num_seqs
    skew = resolved.device.skew
    whole = fastsim_tables(times, resolved.tensor_parallel_size, layers, seqs, skew)
    found = {}
    for name, alone in apart(times):
        if name in times.tokens and name != "send_recv":
            assert name not in parts_of(times)
            found[name] = fastsim_tables(alone, resolved.tensor_parallel_size, layers, seqs, skew)
    found = {name: tables for name, tables in found.items() if tables.token_ms.any()}
    return Shares(
        list(found),
        np.array([tables.token_ms for tables in found.values()]),
        np.array([tables.token_slope for tables in found.values()]),
        whole.first_ms,
        whole.first_slope,
        whole.last_ms,
        whole.host_ms,
        whole.send_ms,
        whole.send_slope,
    )


def beyond(table: Floats, slope: float, at: NDArray[np.integer]) -> Floats:
    """Entries of a table that goes on as a line after its last."""
    last = table.shape[-1] - 1
    found: Floats = table[np.minimum(at, last)] + slope * np.maximum(at - last, 0)
    return found
