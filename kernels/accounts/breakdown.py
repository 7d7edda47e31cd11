"""Where a request's time goes, as sums of which the shell makes the parts of its end-to-end time.

A wait is the difference of two clock readings and so exactly 0 where a request did not wait; the time of computing is
the rest of a phase. So the parts add up to the whole. Without detail the arrays are empty and nothing is counted.
"""

import math

from .._jit import inlined, merged
from ..cost import decodes_alone_ms, host_seconds, stage_seconds
from ..state import (
    CLOCK,
    HOST,
    IDLE,
    LAST_END,
    NUM_DECODES,
    NUM_PREFILLS,
    NUM_SEQS,
    OTHER,
    Longs,
    Requests,
    State,
)
from ..tables import Cost
from .parts import (
    CHUNK_WAIT,
    DECODE_HOST,
    DECODE_WAIT,
    LAUNCH_WAIT,
    LOST_DECODE,
    LOST_PREFILL,
    OTHER_WORK,
    PREFILL_HOST,
    SINCE,
)


@merged
def detailed(requests: Requests) -> bool:
    """Whether the run keeps where the time of requests goes; known when the kernel is compiled."""
    return bool(requests.detail.ndim == 2)


@inlined
def other_seconds(cost: Cost, features: Longs, seconds: float) -> float:
    """How much longer a batch of ``seconds`` on all stages takes than its decodes alone would, s, without host time."""
    number = features[NUM_DECODES]
    if features[NUM_PREFILLS] == 0 or number == 0:
        return 0.0
    ms, alone = decodes_alone_ms(cost, features), 0.0
    for stage in range(cost.num_stages):
        alone += stage_seconds(cost, number, number, number, ms, stage)
    other = seconds - host_seconds(cost, features[NUM_SEQS]) - (alone - host_seconds(cost, number))
    return other if other > 0.0 else 0.0


@inlined
def count_launch(requests: Requests, request: int, start: float) -> None:
    """Count the time from when a request was first scheduled until its batch starts, at ``start``, s."""
    requests.parts[request, LAUNCH_WAIT] = start - requests.scheduled_at[request]
    requests.parts[request, SINCE] = start


@inlined
def share_after(requests: Requests, request: int, decodes: bool, now: float, on_stage: float) -> float:
    """The share of a batch of ``on_stage`` s on stages that lies after the batch before it of the same request.

    It is less than 1 only in a pipeline that had both in flight at a time.
    """
    since = requests.last_token_at[request] if decodes else requests.parts[request, SINCE]
    return float(min(1.0, (now - since) / on_stage))


@inlined
def count_chunk(requests: Requests, request: int, now: float, on_stage: float, host: float, completes: bool) -> None:
    """Count an iteration that computed a chunk of a prompt, ``on_stage`` s of it on stages."""
    parts = requests.parts[request]
    if requests.restarts[request] == 0:
        parts[CHUNK_WAIT] += (now - parts[SINCE]) - on_stage
        parts[PREFILL_HOST] += host
        parts[SINCE] = now
    elif completes:
        part = LOST_PREFILL if math.isnan(requests.first_token_at[request]) else LOST_DECODE
        parts[part] += now - parts[SINCE]
        parts[SINCE] = now


@inlined
def count_late_token(requests: Requests, request: int, now: float) -> None:
    """Count the first token of a restarted request, which a batch from before the restart may bring."""
    parts = requests.parts[request]
    if requests.restarts[request] > 0:
        parts[LOST_PREFILL] += now - parts[SINCE]
        parts[SINCE] = now


@inlined
def count_decode(requests: Requests, request: int, now: float, on_stage: float, host: float, other: float) -> None:
    """Count a decode iteration, ``on_stage`` s of it on stages."""
    parts = requests.parts[request]
    parts[DECODE_WAIT] += (now - requests.last_token_at[request]) - on_stage
    parts[DECODE_HOST] += host
    parts[OTHER_WORK] += other


@inlined
def count_restart(requests: Requests, request: int, decodes: bool, now: float) -> None:
    """Count the time up to a restart; a request that is computing its tokens again continues to."""
    parts = requests.parts[request]
    if decodes:
        parts[DECODE_WAIT] += now - requests.last_token_at[request]
    elif requests.restarts[request] == 0 and parts[SINCE] > now:
        parts[LAUNCH_WAIT] = now - requests.scheduled_at[request]  # its batch has not started yet
    elif requests.restarts[request] == 0:
        parts[CHUNK_WAIT] += now - parts[SINCE]
    else:
        return
    parts[SINCE] = now


@inlined
def enter_group(state: State, r: int, request: int) -> None:
    """Subtract the group's sums so far from the sums of a request that joins it; leave_group adds them again."""
    parts, times = state.requests.parts[request], state.replicas.times[r]
    now = times[CLOCK]
    parts[DECODE_WAIT] += (now - state.requests.last_token_at[request]) - (times[IDLE] + (now - times[LAST_END]))
    parts[DECODE_HOST] -= times[HOST]
    parts[OTHER_WORK] -= times[OTHER]


@inlined
def leave_group(state: State, r: int, request: int, counted_to: float) -> None:
    """Add the group's sums to those of a request that leaves it, up to its last token at ``counted_to``, s."""
    parts, times = state.requests.parts[request], state.replicas.times[r]
    parts[DECODE_WAIT] += times[IDLE] + (counted_to - times[LAST_END])
    parts[DECODE_HOST] += times[HOST]
    parts[OTHER_WORK] += times[OTHER]
