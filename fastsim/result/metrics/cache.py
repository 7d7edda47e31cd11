"""How often requests find their tokens in the prefix cache."""

import numpy as np
from numpy.typing import NDArray

from fastsim.arrays import Columns
from fastsim.kernels.engine import state as engine_state
from fastsim.result.metrics.distribution import ratio

COUNTS = {
    "queried_tokens": engine_state.QUERIED,
    "hit_tokens": engine_state.HIT,
    "queried_tokens_again": engine_state.QUERIED_AGAIN,
    "hit_tokens_again": engine_state.HIT_AGAIN,
    "evicted_blocks": engine_state.EVICTED,
}


def cache_figures(columns: Columns, counted: NDArray[np.int64]) -> dict[str, float | int | None]:
    """Return the section ``cache`` of a summary, over the whole run.

    Parameters
    ----------
    columns : mapping of str to array[n]
        The columns of requests.parquet, among them ``num_cached_tokens``, by name.
    counted : int64[R, NUM_ENGINE_COUNTS]
        What the engines of R replicas have counted (``kernels.engine.state.Engine.counts``).
    """
    totals = {name: int(counted[:, column].sum()) for name, column in COUNTS.items()}
    admitted = int(np.isfinite(columns["scheduled_at"]).sum())
    return {
        "token_hit_rate": ratio(totals["hit_tokens"], totals["queried_tokens"]),
        "request_hit_rate": ratio(int((columns["num_cached_tokens"] > 0).sum()), admitted),
        **totals,
    }
