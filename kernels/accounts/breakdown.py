"""Where a request's time goes, as sums from which the shell makes the parts of its end-to-end time.

Waits are counted as differences of the clock, to the bit nothing where there are none, and computing is what they leave
of a phase: so the parts add up. All is zero-sized, and nothing counted, when nobody asked.
"""

import math

import numpy as np

from .._jit import inlined
from ..cost import Cost, decode_ms, host_seconds, layers_ms, stage_seconds
from ..state import (
    CLOCK,
    DECODE_KV,
    HOST,
    IDLE,
    LAST_END,
    LONGEST_KV,
    NUM_DECODES,
    NUM_PREFILLS,
    NUM_SEQS,
    OTHER,
    Longs,
    Requests,
    State,
)

# Columns of Requests.parts, s.
(
    CHUNK_WAIT,  # between first batch and first token, on no stage
    DECODE_WAIT,  # after the first token, on no stage
    OTHER_WORK,  # what its decode iterations take longer than with the decodes alone
    PREFILL_HOST,  # host time of the iterations that process its chunks
    DECODE_HOST,  # host time of its decode iterations
    LOST_PREFILL,  # from a restart until all its tokens are computed again, before the first token
    LOST_DECODE,  # the same after the first token
    SINCE,  # end of its last chunk, or its restart
    NUM_PARTS,
) = range(9)

# Requests.detail tells by its type whether anybody asked: so one kernel counts, and another has no trace of it.
DETAIL, NO_DETAIL = np.empty((0, 0)), np.empty(0)


@inlined
def detailed(requests: Requests) -> bool:
    return bool(requests.detail.ndim == 2)


@inlined
def other_seconds(cost: Cost, features: Longs, seconds: float) -> float:
    """What a batch of ``seconds``, summed over stages, takes longer than its decodes would alone; host time apart."""
    number = features[NUM_DECODES]
    if features[NUM_PREFILLS] == 0 or number == 0:
        return 0.0
    ms = layers_ms(cost, number, decode_ms(cost, number, features[DECODE_KV], features[LONGEST_KV]), 0.0)
    alone = 0.0
    for stage in range(cost.num_stages):
        alone += stage_seconds(cost, number, number, number, ms, stage)
    other = seconds - host_seconds(cost, features[NUM_SEQS]) - (alone - host_seconds(cost, number))
    return other if other > 0.0 else 0.0


@inlined
def count_chunk(requests: Requests, request: int, now: float, on_stage: float, host: float, completes: bool) -> None:
    """Count an iteration that processed a chunk, ``on_stage`` s of it on stages."""
    parts = requests.parts[request]
    if requests.restarts[request] == 0:
        parts[CHUNK_WAIT] += (now - parts[SINCE]) - on_stage
        parts[PREFILL_HOST] += host
        parts[SINCE] = now
    elif completes:
        place = LOST_PREFILL if math.isnan(requests.first_token_at[request]) else LOST_DECODE
        parts[place] += now - parts[SINCE]


@inlined
def count_decode(requests: Requests, request: int, now: float, on_stage: float, host: float, other: float) -> None:
    """Count a decode iteration, ``on_stage`` s of it on stages."""
    parts = requests.parts[request]
    parts[DECODE_WAIT] += (now - requests.last_token_at[request]) - on_stage
    parts[DECODE_HOST] += host
    parts[OTHER_WORK] += other


@inlined
def count_restart(requests: Requests, request: int, now: float) -> None:
    """Count what went before a restart; one that is computing its tokens again goes on doing so."""
    parts = requests.parts[request]
    if requests.processed[request] > requests.prefill[request]:
        parts[DECODE_WAIT] += now - requests.last_token_at[request]
    elif requests.restarts[request] == 0:
        parts[CHUNK_WAIT] += now - parts[SINCE]
    else:
        return
    parts[SINCE] = now


@inlined
def enter_group(state: State, r: int, request: int) -> None:
    """Take the group's sums so far from a request's; they come on again when it leaves."""
    parts, times = state.requests.parts[request], state.replicas.times[r]
    now = times[CLOCK]
    parts[DECODE_WAIT] += (now - state.requests.last_token_at[request]) - (times[IDLE] + (now - times[LAST_END]))
    parts[DECODE_HOST] -= times[HOST]
    parts[OTHER_WORK] -= times[OTHER]


@inlined
def leave_group(state: State, r: int, request: int, counted_to: float) -> None:
    """Add the group's sums to a request's, up to its last token, ``counted_to`` s."""
    parts, times = state.requests.parts[request], state.replicas.times[r]
    parts[DECODE_WAIT] += times[IDLE] + (counted_to - times[LAST_END])
    parts[DECODE_HOST] += times[HOST]
    parts[OTHER_WORK] += times[OTHER]
