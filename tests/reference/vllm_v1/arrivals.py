"""The requests of a simulation, and those of them that are to arrive and that no engine has been given yet."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import replace

from reference.vllm_v1.state import Request


class Arrivals:
    """A request that follows another is to arrive once that one has finished."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = [replace(request, id=i, token_times=[]) for i, request in enumerate(requests)]
        self.to_come: list[tuple[float, int]] = []  # heap: time, id
        self.followers: dict[int, list[Request]] = {}  # by the id of the request that they follow
        for request in self.requests:
            if request.follows is None:
                heapq.heappush(self.to_come, (request.arrived_at, request.id))
            else:
                self.followers.setdefault(request.follows, []).append(request)

    def release(self, finished: Request, now: float) -> None:
        for request in self.followers.get(finished.id, ()):
            request.arrived_at = max(request.arrived_at, now + request.think_time)
            heapq.heappush(self.to_come, (request.arrived_at, request.id))
