"""The obvious twin of several engines of SGLang behind a router, for requests that do not follow each other.

A request is routed when it arrives: after everything strictly earlier has happened in every engine.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from typing import NamedTuple

from reference.routers import Replica, Router
from reference.sglang.loop import BatchTime, Loop
from reference.sglang.releases import Release
from reference.sglang.state import Request, Settings


class Outcome(NamedTuple):
    requests: list[Request]
    engines: list[Loop]
    replica_of: dict[int, int]  # by request id


def simulate(
    requests: Sequence[Request],
    settings: Settings,
    release: Release,
    batch_time: BatchTime,
    num_replicas: int,
    router: Router,
) -> Outcome:
    """Serve the requests; those that arrive together are routed in order of their position."""
    stream = Loop(requests, settings, release, batch_time)  # which serves none itself
    engines = [Loop((), settings, release, batch_time) for _ in range(num_replicas)]
    for engine in engines:
        engine.requests = stream.requests
    running = [engine.moments() for engine in engines]
    due = [next(moments) for moments in running]  # when something happens next in each engine
    replica_of: dict[int, int] = {}
    while True:
        soonest = min(due)
        if stream.to_come and stream.to_come[0][0] <= soonest:
            time, id = heapq.heappop(stream.to_come)
            request = stream.requests[id]
            replicas = [seen(i, engine, replica_of, request) for i, engine in enumerate(engines)]
            chosen = replica_of[id] = router(replicas, request.num_prompt_tokens)
            heapq.heappush(engines[chosen].to_come, (time, id))
            if due[chosen] == math.inf:
                due[chosen] = next(running[chosen], math.inf)
        elif soonest == math.inf:
            return Outcome(stream.requests, engines, replica_of)
        else:
            first = due.index(soonest)
            due[first] = next(running[first], math.inf)


def seen(number: int, engine: Loop, replica_of: dict[int, int], request: Request) -> Replica:
    memory, settings = engine.scheduler.memory, engine.scheduler.settings
    routed = [engine.requests[id] for id, replica in replica_of.items() if replica == number]
    pages = request.pages(request.num_prompt_tokens - 1, settings.page_size)
    return Replica(
        id=number,
        num_outstanding=sum(not each.is_finished for each in routed),
        num_waiting=len(engine.scheduler.waiting) + len(engine.to_come),
        free=memory.num_available / settings.max_total_num_tokens,
        num_cached=memory.tree.num_held(pages) if memory.tree is not None else 0,
    )
