"""The breakdown of each request's end-to-end time into eleven parts that add up to it."""

import numpy as np

from fastsim.arrays import Floats
from fastsim.kernels.accounts import parts
from fastsim.kernels.state import Requests


def breakdown_columns(requests: Requests, num_stages: int, front_end: float = 0.0) -> dict[str, Floats]:
    """Return the columns of columns.BREAKDOWN, float64[n] in seconds, by name; none if the simulation kept no detail.

    Computing is what waits, host time and preemption leave of the time up to the first token, and of the time after
    it. ``num_stages`` is the number of pipeline stages: with several, waits between batches are pipeline bubbles.
    ``front_end``, s, is how long requests take from their clients to a scheduler, which they reach at
    ``requests.arrived_at``.
    """
    times = requests.parts
    if not times.size:
        return {}
    chunk_wait, decode_wait = times[:, parts.CHUNK_WAIT], times[:, parts.DECODE_WAIT]
    prefill_compute = requests.first_token_at - requests.scheduled_at
    for column in (parts.LAUNCH_WAIT, parts.CHUNK_WAIT, parts.PREFILL_HOST, parts.LOST_PREFILL):
        prefill_compute -= times[:, column]
    decode_compute = requests.finished_at - requests.first_token_at
    for column in (parts.DECODE_WAIT, parts.OTHER_WORK, parts.DECODE_HOST, parts.LOST_DECODE):
        decode_compute -= times[:, column]
    zeros = np.zeros(len(times))
    pipelined = num_stages > 1
    return {
        "front_end": np.full(len(times), front_end),
        "routing_wait": zeros,
        "queue_wait": requests.scheduled_at - requests.arrived_at,
        "launch_wait": times[:, parts.LAUNCH_WAIT].copy(),
        "prefill_compute": prefill_compute,
        "chunk_wait": zeros if pipelined else chunk_wait.copy(),
        "decode_compute": decode_compute,
        "decode_wait": times[:, parts.OTHER_WORK] + (0.0 if pipelined else decode_wait),
        "preemption": times[:, parts.LOST_PREFILL] + times[:, parts.LOST_DECODE],
        "pipeline_bubble": chunk_wait + decode_wait if pipelined else zeros,
        "host_overhead": times[:, parts.PREFILL_HOST] + times[:, parts.DECODE_HOST],
    }
