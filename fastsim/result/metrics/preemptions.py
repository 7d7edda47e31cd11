"""How often running requests of policy vllm_v1 lost their KV blocks, by what needed the room."""

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels import state
from fastsim.kernels.engine import state as engine_state


def preemption_figures(counts: NDArray[np.int64], counted: NDArray[np.int64], by_priority: bool) -> dict[str, int]:
    """Return the section ``preemptions`` of a summary, over the whole run.

    Parameters
    ----------
    counts : int64[R, NUM_COUNTS]
        What R replicas have counted (``kernels.state.Replicas.counts``).
    counted : int64[R, NUM_ENGINE_COUNTS]
        What their engines have counted (``kernels.engine.state.Engine.counts``).
    by_priority : bool
        Whether the request to preempt is chosen by priority.
    """
    for_prefills = int(counted[:, engine_state.FOR_PREFILLS].sum())
    figures = {"for_decodes": int(counts[:, state.RESTARTS].sum()) - for_prefills, "for_prefills": for_prefills}
    if by_priority:
        figures["of_lower_priority"] = int(counted[:, engine_state.OUTRANKED].sum())
    return figures
