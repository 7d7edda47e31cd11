"""The obvious twin of SGLang: its event loop in virtual time, around its scheduler, its KV slots and its radix tree.

It follows the unmodified scheduler of two releases (see releases.py) in every batch.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

from reference.sglang.releases import Release
from reference.sglang.scheduler import Scheduler
from reference.sglang.state import Batch, CrashError, Member, Request, Settings

BatchTime = Callable[[Sequence[Member]], float]
Ending = Literal["done", "stuck", "crashed"]  # stuck: some requests are never admitted


class Outcome(NamedTuple):
    requests: list[Request]
    batches: list[Batch]
    ending: Ending


def simulate(requests: Sequence[Request], settings: Settings, release: Release, batch_time: BatchTime) -> Outcome:
    """Serve the requests; those that arrive together enter in order of their position."""
    loop = Loop(requests, settings, release, batch_time)
    ending = loop.run()
    return Outcome(loop.requests, loop.batches, ending)


class Loop:
    """The event loop of one engine."""

    def __init__(
        self, requests: Sequence[Request], settings: Settings, release: Release, batch_time: BatchTime
    ) -> None:
        check(requests, settings)
        self.overlap = not settings.disable_overlap_schedule
        self.release = release
        self.batch_time = batch_time
        self.requests = [replace(request, id=i, token_times=[]) for i, request in enumerate(requests)]
        self.scheduler = Scheduler(settings, release)
        self.batches: list[Batch] = []
        self.in_flight: Batch | None = None
        self.device_free_at: float = 0
        self.num_idle_passes = 0
        self.now: float = 0
        self.to_come: list[tuple[float, int]] = []  # heap of arrivals: time, id
        self.followers: dict[int, list[Request]] = {}  # by the id of the request that they follow
        for request in self.requests:
            if request.follows is None:
                heapq.heappush(self.to_come, (request.arrived_at, request.id))
            else:
                self.followers.setdefault(request.follows, []).append(request)

    def run(self) -> Ending:
        for moment in self.moments():
            if moment == math.inf:
                return "stuck" if self.scheduler.has_work else "done"
        return "crashed"

    def moments(self) -> Iterator[float]:
        """When something happens next, which then does, and inf while nothing will; it ends with a crash.

        Each pass launches at most one batch. With overlap it then waits for the batch of the pass before.
        """
        num_idle = 0  # passes in a row
        while True:
            while self.to_come and self.to_come[0][0] <= self.now:
                _, id = heapq.heappop(self.to_come)
                self.scheduler.waiting.append(self.requests[id])
            try:
                batch = self.scheduler.schedule(self.now)
            except CrashError:
                return
            if batch is not None:
                self.launch(batch)
            done, self.in_flight = (self.in_flight, batch) if self.overlap else (batch, None)
            if done is not None:
                yield max(self.now, done.ended_at)
                self.wait(done)
            num_idle = 0 if done is not None or batch is not None else num_idle + 1
            if num_idle:
                self.num_idle_passes += 1
                if self.release.idle_pass_resets_ratio or not self.scheduler.has_work:
                    self.scheduler.ratio.reset()
            # An idle pass may change what the next one does, so waiting requests get two.
            if num_idle == 2 or (num_idle == 1 and not self.scheduler.has_work):
                while not self.to_come:
                    yield math.inf
                yield self.to_come[0][0]
                self.now = max(self.now, self.to_come[0][0])
                num_idle = 0

    def launch(self, batch: Batch) -> None:
        """Send a batch to the device, which takes batches in order."""
        self.batches.append(batch)
        batch.num_idle_passes = self.num_idle_passes
        batch.started_at = max(self.now, self.device_free_at)
        batch.ended_at = self.device_free_at = batch.started_at + self.batch_time(batch.members)

    def wait(self, batch: Batch) -> None:
        """Take the results of a batch; requests that follow those it finishes are on their way."""
        self.now = max(self.now, batch.ended_at)
        for finished in self.scheduler.update(batch, self.now):
            for request in self.followers.get(finished.id, ()):
                request.arrived_at = max(request.arrived_at, self.now + request.think_time)
                heapq.heappush(self.to_come, (request.arrived_at, request.id))


def check(requests: Sequence[Request], settings: Settings) -> None:
    """The engine cuts max_tokens so that each request fits by itself, and the twin expects that this was done."""
    for place, request in enumerate(requests):
        longest = settings.max_total_num_tokens - 2 - request.num_prompt_tokens
        if request.limit > longest:
            raise ValueError(f"request {place}: max_tokens is {request.limit}, and the engine allows {longest}")
