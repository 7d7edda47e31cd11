"""What is kept of KV that is transferred, before the first request arrives."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.state import NONE
from fastsim.kernels.transfers import state
from fastsim.kernels.transfers.state import Transfers
from fastsim.simulation.arena import Arena


@cache
def no_transfers() -> Transfers:
    """Return what there is where every request is computed where it is: arrays without entries."""
    return _arrays(0, 0, Arena())


def lay_out_transfers(number_of_replicas: int, source: NDArray[np.int32], arena: Arena) -> Transfers:
    """Return the transfers that are yet to begin.

    Parameters
    ----------
    number_of_replicas : int
        Replicas.
    source : int32[n]
        The request that prefills for each one, NONE where it is computed where it is.
    arena : Arena
        Memory for the arrays.
    """
    transfers = _arrays(len(source), number_of_replicas, arena)
    transfers.source[:] = source
    decodes = source != NONE
    transfers.phase[decodes] = state.WANTED
    transfers.phase[source[decodes]] = state.PREFILL
    ends = [state.REMOTE_FIRST, state.REMOTE_LAST, state.NEWS_FIRST, state.NEWS_LAST]
    transfers.counts[:, ends] = NONE
    return transfers


def _arrays(requests: int, replicas: int, arena: Arena) -> Transfers:
    def ints(name: str) -> NDArray[np.int32]:
        return arena.take(f"transfers_{name}", requests, np.int32)

    def floats(name: str, value: float = 0.0) -> NDArray[np.float64]:
        return arena.take(f"transfers_{name}", requests, value=value)

    return Transfers(
        phase=ints("phase"),
        source=ints("source"),
        news_at=floats("news_at", np.nan),
        news_next=ints("news_next"),
        started_at=floats("started_at", np.nan),
        left=floats("left"),
        since=floats("since"),
        rate=floats("rate"),
        end=floats("end"),
        moved=ints("moved"),
        active=ints("active"),
        num_active=arena.take("transfers_num_active", 1, np.int64),
        counts=arena.take("transfers_counts", (replicas, state.NUM_TRANSFER_COUNTS), np.int64),
    )
