"""The obvious twin of the kernels: the whole simulator in plain Python, as documentation and oracle.

Events in a heap ordered by (time, creation order), a request is an object, a queue is a list. The facts are
those of Vidur (microsoft/vidur at 7d47513), whose runs this replays to the bit.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from reference.cost import cost_stage_seconds, vidur_stage_seconds
from reference.policies import FORM, end_batch
from reference.state import LOOP, Batch, Entry, Replica, Request, Restart, Settings

__all__ = [
    "Batch",
    "Entry",
    "Iteration",
    "Outcome",
    "Request",
    "Restart",
    "Settings",
    "cost_stage_seconds",
    "simulate",
    "vidur_stage_seconds",
]

StageSeconds = Callable[[int, Batch], float]


class Iteration(NamedTuple):
    replica_id: int
    stage_id: int
    start: float
    end: float
    num_seqs: int
    num_tokens: int
    num_prefill_tokens: int
    kv_blocks_used: int  # when the stage starts


class Formed(NamedTuple):
    replica_id: int
    time: float
    batch: Batch


class Span(NamedTuple):
    """A time in which nothing happens on a replica."""

    replica_id: int
    start: float
    end: float
    busy_stages: int
    running: int  # requests that have arrived, are not finished, and do not wait
    kv_blocks: int


class Outcome(NamedTuple):
    requests: list[Request]  # in the order given
    iterations: list[Iteration]  # in the order of their starts
    outcome: list[str]  # by replica: done, stuck or out_of_memory
    stuck_head: list[int | None]  # by replica: the request that can never be scheduled
    restarts: list[Restart]
    formed: list[Formed]
    spans: list[Span]


def simulate(requests: Sequence[Request], settings: Settings, stage_seconds: StageSeconds) -> Outcome:
    """Run requests, ascending in time, until nothing happens any more; the arguments stay as they are.

    ``stage_seconds(stage, batch)`` is the time of a batch on a stage, s. Raises ValueError if that is
    not positive.
    """
    simulation = Simulation(requests, settings, stage_seconds)
    simulation.run()
    return Outcome(
        simulation.requests,
        simulation.iterations,
        [replica.outcome for replica in simulation.replicas],
        [replica.stuck_head for replica in simulation.replicas],
        simulation.restarts,
        simulation.formed,
        simulation.spans,
    )


class Event(NamedTuple):
    time: float
    rank: int  # 0: an arrival, which comes before everything else at its time
    number: int  # in order of creation
    happens: Callable[[], None]
    replica_id: int | None
    forms: bool  # whether a batch may be formed


class Simulation:
    """The clock and the events; each event is a method that may create others, at this time or later."""

    def __init__(self, requests: Sequence[Request], settings: Settings, stage_seconds: StageSeconds) -> None:
        self.settings = settings
        self.stage_seconds = stage_seconds
        self.requests = [
            Request(
                arrived_at=r.arrived_at,
                num_prompt_tokens=r.num_prompt_tokens,
                num_output_tokens=r.num_output_tokens,
                replica_id=r.replica_id,
                follows=r.follows,
                think=r.think,
                id=i,
                prefill=r.num_prompt_tokens,
                decode=r.num_output_tokens,
            )
            for i, r in enumerate(requests)
        ]
        self.iterations: list[Iteration] = []
        self.restarts: list[Restart] = []
        self.replicas = [Replica(i, settings, self.restarts) for i in range(settings.num_replicas)]
        self.unrouted: list[Request] = []
        self.num_routed = 0
        self.time = 0.0
        self.num_events = 0
        self.formed: list[Formed] = []
        self.spans: list[Span] = []
        self.events: list[Event] = []
        self.followers = {request.follows: request for request in self.requests if request.follows is not None}
        self.loop = [request for request in self.requests if request.follows == LOOP]
        self.due: list[Request] = []  # arrive at this very time, as others have just finished
        self.forming: set[int | None] = set()  # replicas that form batches at this time anyway

    def at(self, time: float, event: Callable[[], None], replica: Replica | None = None, forms: bool = False) -> None:
        """Let an event happen: of a replica, or an arrival, which comes first at its time."""
        rank = 0 if replica is None else 1
        heapq.heappush(self.events, Event(time, rank, self.num_events, event, replica.id if replica else None, forms))
        self.num_events += 1

    def run(self) -> None:
        for request in self.requests:
            if request.follows is None:
                self.at(request.arrived_at, partial(self.arrive, request))
        while self.events:
            time = self.events[0].time
            if time > self.time:
                self.spans += [self.span(replica, time) for replica in self.replicas]
            self.time = time
            if self.followers:
                self.hold_formations()
            while self.events and self.events[0].time == time:
                heapq.heappop(self.events).happens()

    def hold_formations(self) -> None:
        """Let everything happen that comes before a batch is formed, on all replicas; then requests arrive.

        So a request that follows another at once can be in any batch that is formed at that time.
        """
        held, waits = [], set[int | None]()
        while self.events and self.events[0].time == self.time:
            event = heapq.heappop(self.events)
            if event.forms:
                waits.add(event.replica_id)
            if event.rank == 0 or event.replica_id in waits:
                held.append(event)
            else:
                event.happens()
        self.forming = waits
        for event in held:
            heapq.heappush(self.events, event)
        for request in self.due:
            self.arrive(request)
        self.due = []

    def follow(self, finished: Request) -> None:
        """Let the request arrive that follows a finished one."""
        follower = self.followers.get(finished.id)
        if follower is None and self.loop:
            follower = self.loop.pop(0)
        if follower is None:
            return
        time = self.time + follower.think
        if not follower.arrived_at > time:  # a client may want to send it later
            follower.arrived_at = time
        if follower.arrived_at == self.time:
            self.due.append(follower)
        else:
            self.at(follower.arrived_at, partial(self.arrive, follower))

    def span(self, replica: Replica, until: float) -> Span:
        busy = sum(stage.is_busy for stage in replica.stages)
        running = replica.num_outstanding - len(replica.waiting)
        return Span(replica.id, self.time, until, busy, running, self.settings.num_blocks - replica.num_free)

    def arrive(self, request: Request) -> None:
        self.unrouted.append(request)
        self.at(self.time, self.route)

    def route(self) -> None:
        chosen: set[int | None] = set()
        for request in sorted(self.unrouted, key=lambda request: request.id):
            request.replica_id = self.choose(request)
            replica = self.replicas[request.replica_id]
            replica.waiting.append(request)
            replica.num_outstanding += 1
            chosen.add(request.replica_id)
        self.unrouted = []
        for replica in [replica for replica in self.replicas if replica.id in chosen - self.forming]:
            # As late as a batch that ends at this time.
            forms = partial(self.at, self.time, partial(self.schedule, replica), replica, forms=True)
            self.at(self.time, forms, replica)

    def choose(self, request: Request) -> int:
        self.num_routed += 1
        match self.settings.router:
            case "round_robin":
                return (self.num_routed - 1) % len(self.replicas)
            case "random" | "pinned":
                return request.replica_id
            case "least_outstanding":
                return min(self.replicas, key=lambda replica: replica.num_outstanding).id
            case "least_waiting":
                return min(self.replicas, key=lambda replica: len(replica.waiting)).id
            case "least_kv":
                return min(self.replicas, key=lambda replica: (-replica.num_free, replica.num_outstanding)).id
        raise ValueError(self.settings.router)

    def schedule(self, replica: Replica) -> None:
        """Form batches until the pipeline is full or none forms."""
        while replica.outcome == "done" and replica.num_batches < self.settings.num_stages:
            num_restarts = len(self.restarts)
            members = FORM[self.settings.policy](replica, self.time)
            if members:
                replica.num_batches += 1
                batch = Batch(
                    [request for request, _ in members],
                    [Entry(request.processed, request.prefill, tokens) for request, tokens in members],
                )
                self.formed.append(Formed(replica.id, self.time, batch))
                for request in batch.requests:
                    if math.isnan(request.scheduled_at):
                        request.scheduled_at = self.time
                self.at(self.time, partial(self.arrive_at_stage, replica, 0, batch), replica)
            elif replica.num_batches or replica.outcome != "done":
                return
            elif len(self.restarts) == num_restarts:
                # Nothing runs, nobody restarted: as empty as it gets. R, if not empty, always forms a batch.
                if replica.waiting:
                    replica.outcome, replica.stuck_head = "stuck", replica.waiting[0].id
                return

    def arrive_at_stage(self, replica: Replica, stage_id: int, batch: Batch) -> None:
        replica.stages[stage_id].queue.append(batch)
        self.at(self.time, partial(self.schedule_stage, replica, stage_id), replica)

    def schedule_stage(self, replica: Replica, stage_id: int) -> None:
        stage = replica.stages[stage_id]
        if stage.is_busy or not stage.queue:
            return
        stage.is_busy = True
        batch = stage.queue.pop(0)
        seconds = self.stage_seconds(stage_id, batch)
        if not 0 < seconds < math.inf:
            raise ValueError(f"stage {stage_id} takes {seconds} s for {batch.entries}")
        for request in batch.requests:
            if math.isnan(request.started_at):
                request.started_at = self.time
        end = self.time + seconds
        batch.spells.append((self.time, end))
        self.iterations.append(
            Iteration(
                replica.id,
                stage_id,
                self.time,
                end,
                len(batch.requests),
                batch.num_tokens,
                batch.num_prefill_tokens,
                self.settings.num_blocks - replica.num_free,
            )
        )
        self.at(end, partial(self.end_stage, replica, stage_id, batch, seconds), replica)

    def end_stage(self, replica: Replica, stage_id: int, batch: Batch, seconds: float) -> None:
        replica.stages[stage_id].is_busy = False
        for request in batch.requests:
            request.execution_time += seconds
        self.at(self.time, partial(self.schedule_stage, replica, stage_id), replica)
        if stage_id == self.settings.num_stages - 1:
            self.at(self.time, partial(self.end_batch, replica, batch), replica)
        else:
            self.at(self.time, partial(self.arrive_at_stage, replica, stage_id + 1, batch), replica)

    def end_batch(self, replica: Replica, batch: Batch) -> None:
        for request, entry in zip(batch.requests, batch.entries, strict=True):
            request.batches.append(batch)
            request.advance(self.time, entry.tokens)
            replica.num_outstanding -= request.is_finished
            if request.is_finished:
                self.follow(request)
        replica.num_batches -= 1
        end_batch(replica, batch.requests)
        self.at(self.time, partial(self.schedule, replica), replica, forms=True)
