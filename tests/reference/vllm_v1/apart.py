"""The obvious twin of vLLM V1 with prefill and decode apart, as its NIXL connector has them.

A request is two: one that prefills its prompt on a replica of the first kind, whose one token is dropped, and one that
decodes on a replica of the second kind. The second one arrives when the first has finished. It takes blocks for its
prompt as soon as they are free, less those that it finds in the cache; their KV is then read from the first replica,
which keeps its blocks until then. Both schedulers learn of the end of a transfer with the results of a batch, or at
once where none runs. Then the last token of the prompt is computed again, which gives the first output token.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from reference.routers import Replica, Router
from reference.vllm_v1.arrivals import Arrivals
from reference.vllm_v1.call import Call
from reference.vllm_v1.cluster import Kind
from reference.vllm_v1.engine import NEVER, Engine, Moment
from reference.vllm_v1.link import Link
from reference.vllm_v1.scheduler import Scheduler
from reference.vllm_v1.state import Decision, Request


class News(NamedTuple):
    """The end of a transfer, as one of its two replicas learns of it."""

    time: float
    request: int  # of the replica: the one that prefilled, or the one that decodes


@dataclass(frozen=True)
class Transfers:
    """How KV is transferred."""

    bandwidth: float  # bytes for a unit of time, of the link of each replica
    latency: float
    block_bytes: float


class ApartScheduler(Scheduler):
    """The scheduler of a replica of either kind."""

    def __init__(self, kind: Kind, sources: dict[int, int]) -> None:
        super().__init__(kind.settings, kind.release)
        self.sources = sources  # of requests that decode what others prefilled: by id
        self.prefills = set(sources.values())
        self.lost = set[int]()  # those that prefilled and then lost their blocks
        self.kept: dict[int, Request] = {}  # finished ones whose blocks are yet to be read
        self.wants: set[int] = set()  # those that wait and have no blocks for their KV
        self.receiving: set[int] = set()
        self.ready: set[int] = set()
        self.started: list[tuple[int, int]] = []  # requests, and blocks to transfer, of the last call

    def add(self, request: Request) -> None:
        super().add(request)
        if request.id in self.sources and self.sources[request.id] not in self.lost:
            self.wants.add(request.id)

    def schedule_waiting(self, call: Call) -> None:
        """Those whose KV is on its way or there come first, then the others as ever."""
        self.started = []
        remote = [request for request in self.waiting if request.id in self.receiving | self.ready]
        self.waiting = [request for request in self.waiting if request not in remote]
        for request in [request for request in remote if request.id in self.ready]:
            if call.budget > 0 and len(self.running) < self.settings.max_num_seqs:
                remote.remove(request)
                self.ready.remove(request.id)
                cached = request.num_cached_tokens
                self.admit(request, [], request.num_prompt_tokens - 1, 1, call)
                request.num_cached_tokens = cached
        passed_over: list[Request] = []
        while self.waiting and call.budget > 0 and len(self.running) < self.settings.max_num_seqs:
            request = self.waiting[0]
            if self.release.resume_waits_for_results and request.status == "preempted" and request.num_batches:
                passed_over.append(self.waiting.pop(0))
                continue
            hits = [] if request.num_computed_tokens else self.blocks.hits(request)
            if request.id in self.wants:
                if not self.fits(request, hits, request.num_prompt_tokens):
                    break
                remote.append(self.waiting.pop(0))
                self.take(request, hits)
                continue
            num_computed = request.num_computed_tokens + len(hits) * self.settings.block_size
            num_tokens = min(call.cut(request.num_tokens - num_computed), call.budget)
            if not self.fits(request, hits, num_computed + num_tokens):
                break
            self.waiting.pop(0)
            self.admit(request, hits, num_computed, num_tokens, call)
        self.waiting = remote + passed_over + self.waiting

    def take(self, request: Request, hits: list[int]) -> None:
        """Give a request blocks for the KV of its prompt, which is on its way from now on."""
        self.wants.remove(request.id)
        self.receiving.add(request.id)
        request.num_cached_tokens = len(hits) * self.settings.block_size
        registers, self.blocks.register = self.blocks.register, lambda *_: None  # type: ignore[method-assign]
        self.blocks.allocate(request, hits, request.num_prompt_tokens)
        self.blocks.register = registers  # type: ignore[method-assign]
        self.started.append((request.id, len(self.blocks.table[request.id]) - len(hits)))

    def learn(self, request: Request) -> None:
        """Take the news that a transfer has ended."""
        if request.id in self.kept:
            self.blocks.free(self.kept.pop(request.id))
        else:
            self.receiving.remove(request.id)
            self.ready.add(request.id)
            self.blocks.register(request, request.num_prompt_tokens - 1)

    def finish(self, request: Request, now: float) -> None:
        if request.id not in self.prefills:
            super().finish(request, now)
        elif request.status != "running":
            self.lost.add(request.id)
            super().finish(request, now)
        else:
            self.running.remove(request)
            self.kept[request.id] = request
            request.status, request.finished_at = "finished", now
            del self.requests[request.id]
            self.has_finished = True


class ApartEngine(Engine):
    """An engine that also wakes up when a transfer has ended."""

    def __init__(self, kind: Kind, arrivals: Arrivals, sources: dict[int, int]) -> None:
        super().__init__((), kind.settings, kind.release, kind.stage_time, arrivals)
        self.apart = self.scheduler = ApartScheduler(kind, sources)
        self.news: list[News] = []  # in order of time
        self.is_idle = False
        self.blocked = False  # the last call could do nothing, and nothing runs
        self.decision_time: float = 0  # of the last call

    @property
    def wakes_at(self) -> float:
        arrives = self.to_come[0][0] if self.to_come else math.inf
        return min(arrives, self.news[0].time if self.news else math.inf)

    def moments(self) -> Iterator[Moment]:
        while True:
            if self.blocked or not (self.scheduler.has_work or self.in_flight):
                self.is_idle = True
                yield NEVER  # the cluster sees when it wakes up
                self.is_idle = self.blocked = False
                self.now = max(self.now, self.wakes_at)
                self.learn()
            else:
                yield Moment(self.now, True)
            while self.to_come and self.to_come[0][0] <= self.now:
                _, id = heapq.heappop(self.to_come)
                self.scheduler.add(self.requests[id])
            yield from self.turn()

    def launch(self, decision: Decision) -> None:
        """Send a batch off, unless nothing can be done before there is news, or a request comes or finishes."""
        nothing = not (decision.members or decision.preempted or self.scheduler.running)
        if not (nothing and self.scheduler.waiting):
            super().launch(decision)
        elif not self.in_flight:
            self.blocked = True

    def turn(self) -> Iterator[Moment]:
        decision = None
        self.apart.started = []
        if self.scheduler.has_work:
            self.decision_time = self.now
            decision = self.scheduler.schedule(self.now)
            self.launch(decision)
            if self.blocked:
                return
        launched = decision is not None and bool(self.in_flight) and self.in_flight[-1] is decision
        if decision is None or not launched or not self.goes_on(decision):
            if not self.in_flight:
                return
            yield Moment(max(self.now, self.in_flight[0].ended_at), False)
            self.wait()
        if not (decision and decision.members) and self.may_sleep():
            self.now += self.settings.empty_step_sleep

    def wait(self) -> None:
        super().wait()
        self.learn()

    def learn(self) -> None:
        while self.news and self.news[0].time <= self.now:
            self.apart.learn(self.requests[self.news.pop(0).request])


class Outcome(NamedTuple):
    requests: list[Request]
    engines: list[ApartEngine]
    replica_of: dict[int, int]
    transfers: list[tuple[int, float, float, int]]  # request that decodes, start, end, blocks


def simulate_apart(
    requests: Sequence[Request],
    sources: dict[int, int],
    kinds: Sequence[Kind],
    num_prefill: int,
    routers: tuple[Router, Router],
    how: Transfers,
) -> Outcome:
    """Serve the requests; the first replicas prefill. ``sources``: by request that decodes, the one that prefills."""
    arrivals = Arrivals(requests)
    engines = [ApartEngine(kind, arrivals, sources) for kind in kinds]
    lost = set[int]()
    for engine in engines:
        engine.apart.lost = lost
    running = [engine.moments() for engine in engines]
    due = [next(moments) for moments in running]
    replica_of, link, started = dict[int, int](), Link(how.bandwidth), dict[int, tuple[float, int]]()
    transfers = []
    prefills = set(sources.values())
    while True:
        times = [
            Moment(max(e.now, e.wakes_at), True) if e.is_idle else moment
            for e, moment in zip(engines, due, strict=True)
        ]
        soonest, flow = min(times), Moment(link.next_end, False)
        arrival = Moment(arrivals.to_come[0][0] if arrivals.to_come else math.inf, False)
        if flow.time <= arrival.time and flow < soonest and flow.time < math.inf:
            ended = link.finish()
            time = flow.time + how.latency
            engines[ended.target].news.append(News(time, ended.request))
            engines[ended.source].news.append(News(time, sources[ended.request]))
            transfers.append((ended.request, started[ended.request][0], time, started[ended.request][1]))
        elif arrival < soonest and arrival.time < math.inf:
            time, id = heapq.heappop(arrivals.to_come)
            request = arrivals.requests[id]
            first, last = (0, num_prefill) if id in prefills else (num_prefill, len(engines))
            router = routers[id not in prefills]
            views = [seen(i, engines[i], request) for i in range(first, last)]
            chosen = router(views, request.num_prompt_tokens)
            replica_of[id] = chosen = chosen if chosen >= first else first + chosen
            heapq.heappush(engines[chosen].to_come, (time, id))
        elif soonest.time == math.inf:
            return Outcome(arrivals.requests, engines, replica_of, transfers)
        else:
            first = times.index(soonest)
            due[first] = next(running[first])
            for id, blocks in engines[first].apart.started:
                now = engines[first].decision_time
                started[id] = now, blocks
                link.start(now, id, replica_of[sources[id]], first, blocks * how.block_bytes)
            engines[first].apart.started = []


def seen(i: int, engine: ApartEngine, request: Request) -> Replica:
    blocks, coming = engine.scheduler.blocks, len(engine.to_come)
    outstanding, waiting = len(engine.scheduler.requests) + coming, len(engine.scheduler.waiting) + coming
    return Replica(i, outstanding, waiting, blocks.num_free / engine.settings.num_blocks, 0)
