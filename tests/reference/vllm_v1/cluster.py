"""The obvious twin of several engines behind a router.

A request is routed when it arrives: after everything strictly earlier has happened in every engine. Where requests
follow others, the results of batches that end at that very time are known as well.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from reference.routers import Replica, Router
from reference.vllm_v1.arrivals import Arrivals
from reference.vllm_v1.engine import NEVER, Engine, Moment, StageTime
from reference.vllm_v1.releases import Release
from reference.vllm_v1.state import Request, Settings


class Outcome(NamedTuple):
    requests: list[Request]
    engines: list[Engine]
    replica_of: dict[int, int]  # by request id


class Kind(NamedTuple):
    """What a replica is of."""

    settings: Settings
    release: Release
    stage_time: StageTime


def simulate(
    requests: Sequence[Request],
    settings: Settings,
    release: Release,
    stage_time: StageTime,
    num_replicas: int,
    router: Router,
) -> Outcome:
    """Serve the requests on replicas that are alike."""
    return simulate_kinds(requests, [Kind(settings, release, stage_time)] * num_replicas, router)


def simulate_kinds(requests: Sequence[Request], kinds: Sequence[Kind], router: Router) -> Outcome:
    """Serve the requests on replicas of these kinds; those that arrive together are routed in order of position."""
    arrivals = Arrivals(requests)
    engines = [Engine((), kind.settings, kind.release, kind.stage_time, arrivals) for kind in kinds]
    running = [engine.moments() for engine in engines]
    due = [next(moments) for moments in running]  # what happens next in each engine
    replica_of: dict[int, int] = {}
    follow = bool(arrivals.followers)
    while True:
        soonest = min(due)
        arrival = Moment(arrivals.to_come[0][0], False) if arrivals.to_come else NEVER
        if arrival is not NEVER and (arrival < soonest if follow else arrival.time <= soonest.time):
            time, id = heapq.heappop(arrivals.to_come)
            request = arrivals.requests[id]
            chosen = replica_of[id] = router(seen(engines, request), request.num_prompt_tokens)
            heapq.heappush(engines[chosen].to_come, (time, id))
            if due[chosen] is NEVER:
                due[chosen] = next(running[chosen], NEVER)
        elif soonest is NEVER or soonest.time == math.inf:
            return Outcome(arrivals.requests, engines, replica_of)
        else:
            first = due.index(soonest)
            due[first] = next(running[first], NEVER)


def seen(engines: Sequence[Engine], request: Request) -> list[Replica]:
    replicas = []
    for i, engine in enumerate(engines):
        blocks, coming = engine.scheduler.blocks, len(engine.to_come)
        hits = len(blocks.hits(request))
        replicas.append(
            Replica(
                id=i,
                num_outstanding=len(engine.scheduler.requests) + coming,
                num_waiting=len(engine.scheduler.waiting) + coming,
                free=blocks.num_free / engine.settings.num_blocks,
                num_cached=hits * engine.settings.block_size,
            )
        )
    return replicas
