"""Where the end-to-end time of each request goes: nine parts that add up to it."""

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.accounts import breakdown as kept
from fastsim.kernels.state import Requests

Floats = NDArray[np.float64]


def breakdown(requests: Requests, num_stages: int) -> dict[str, Floats]:
    """float64[n], s, by name: the columns of columns.BREAKDOWN; none when the simulation kept no detail.

    Computing is what waits, host time and preemption leave of the time up to the first token, and of that after it.
    """
    if not requests.parts.size:
        return {}
    parts = requests.parts
    idle = parts[:, kept.CHUNK_WAIT], parts[:, kept.DECODE_WAIT]
    prefill = requests.first_token_at - requests.scheduled_at
    decode = requests.finished_at - requests.first_token_at
    for place in (kept.CHUNK_WAIT, kept.PREFILL_HOST, kept.LOST_PREFILL):
        prefill -= parts[:, place]
    for place in (kept.DECODE_WAIT, kept.OTHER_WORK, kept.DECODE_HOST, kept.LOST_DECODE):
        decode -= parts[:, place]
    nothing = np.zeros(len(parts))
    piped = num_stages > 1
    return {
        "routing_wait": nothing,
        "queue_wait": requests.scheduled_at - requests.arrived_at,
        "prefill_compute": prefill,
        "chunk_wait": nothing if piped else idle[0].copy(),
        "decode_compute": decode,
        "decode_wait": parts[:, kept.OTHER_WORK] + (0.0 if piped else idle[1]),
        "preemption": parts[:, kept.LOST_PREFILL] + parts[:, kept.LOST_DECODE],
        "pipeline_bubble": idle[0] + idle[1] if piped else nothing,
        "host_overhead": parts[:, kept.PREFILL_HOST] + parts[:, kept.DECODE_HOST],
    }
