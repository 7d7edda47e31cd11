"""The twin's account of a request's time: its life as spells on stages, preemptions, and the gaps between them."""

from __future__ import annotations

import math
from collections.abc import Callable

from reference.cost import cost_stage_seconds
from reference.state import Batch, Request

from fastsim.kernels.tables import COMPOSE_AFFINE, COMPOSE_VIDUR, Cost

NAMES = (
    "front_end",
    "routing_wait",
    "queue_wait",
    "launch_wait",
    "prefill_compute",
    "chunk_wait",
    "decode_compute",
    "decode_wait",
    "preemption",
    "pipeline_bubble",
    "host_overhead",
)


def host_seconds(cost: Cost) -> Callable[[int, Batch], float]:
    """Host time of a batch on a stage; an affine sum does not tell it apart."""
    if cost.compose == COMPOSE_AFFINE:
        return lambda stage, batch: 0.0
    if cost.compose == COMPOSE_VIDUR:
        return lambda stage, batch: cost.vidur.host_ms * 1e-3
    return lambda stage, batch: float(cost.fastsim.host_ms[len(batch.entries)]) * 1e-3 if stage == 0 else 0.0


def gpu_seconds(cost: Cost, batch: Batch) -> float:
    """A batch on all stages, without host time; NaN or IndexError outside the tables."""
    stages, host = cost_stage_seconds(cost), host_seconds(cost)
    return sum(stages(stage, batch) - host(stage, batch) for stage in range(cost.num_stages))


def longer(cost: Cost, batch: Batch) -> float:
    """What the prompts in a batch add to the time of its decodes; nothing when that is not known."""
    decodes = [entry for entry in batch.entries if entry.is_decode]
    if not decodes or len(decodes) == len(batch.entries):
        return 0.0
    alone = gpu_seconds(cost, Batch([], decodes))
    return 0.0 if math.isnan(alone) else max(0.0, gpu_seconds(cost, batch) - alone)


def breakdown(request: Request, cost: Cost) -> dict[str, float]:
    """The parts of a finished request's end-to-end time, s."""
    parts = dict.fromkeys(NAMES, 0.0)
    parts["queue_wait"] = request.scheduled_at - request.arrived_at
    lost = list(zip(request.restarted_at, request.recomputed_at, strict=True))
    parts["preemption"] = sum(end - start for start, end in lost)
    host, seen = host_seconds(cost), request.scheduled_at  # seen: the time up to which everything is accounted for
    for batch in request.batches:
        start, end = batch.spells[0][0], batch.spells[-1][1]
        restarted_at = next((since for since, until in lost if since <= start < until), None)
        decodes = (start if restarted_at is None else restarted_at) >= request.first_token_at
        if restarted_at is not None:
            waited = max(0.0, restarted_at - seen)
        else:
            spent = sum(until - since for since, until in batch.spells)
            waited = (end - seen) - spent
            overhead = sum(host(stage, batch) for stage in range(cost.num_stages))
            others = longer(cost, batch) if decodes else 0.0
            parts["host_overhead"] += overhead
            parts["decode_wait"] += others
            parts["decode_compute" if decodes else "prefill_compute"] += spent - overhead - others
        wait = "decode_wait" if decodes else "chunk_wait"
        parts["pipeline_bubble" if cost.num_stages > 1 else wait] += waited
        seen = end
    return parts
