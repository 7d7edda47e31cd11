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
from reference.state import Batch, Entry, Replica, Request, Restart, Settings

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
        self.events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self.events, (time, self.num_events, event))
        self.num_events += 1

    def run(self) -> None:
        for request in self.requests:
            self.at(request.arrived_at, partial(self.arrive, request))
        while self.events:
            time, _, event = heapq.heappop(self.events)
            if time > self.time:
                self.spans += [self.span(replica, time) for replica in self.replicas]
            self.time = time
            event()

    def span(self, replica: Replica, until: float) -> Span:
        busy = sum(stage.is_busy for stage in replica.stages)
        running = replica.num_outstanding - len(replica.waiting)
        return Span(replica.id, self.time, until, busy, running, self.settings.num_blocks - replica.num_free)

    def arrive(self, request: Request) -> None:
        self.unrouted.append(request)
        self.at(self.time, self.route)

    def route(self) -> None:
        chosen = set()
        for request in self.unrouted:
            request.replica_id = self.choose(request)
            replica = self.replicas[request.replica_id]
            replica.waiting.append(request)
            replica.num_outstanding += 1
            chosen.add(request.replica_id)
        self.unrouted = []
        for replica_id in sorted(chosen):
            self.at(self.time, partial(self.schedule, self.replicas[replica_id]))

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
                self.at(self.time, partial(self.arrive_at_stage, replica, 0, batch))
            elif replica.num_batches or replica.outcome != "done":
                return
            elif len(self.restarts) == num_restarts:
                # Nothing runs, nobody restarted: as empty as it gets. R, if not empty, always forms a batch.
                if replica.waiting:
                    replica.outcome, replica.stuck_head = "stuck", replica.waiting[0].id
                return

    def arrive_at_stage(self, replica: Replica, stage_id: int, batch: Batch) -> None:
        replica.stages[stage_id].queue.append(batch)
        self.at(self.time, partial(self.schedule_stage, replica, stage_id))

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
        self.at(end, partial(self.end_stage, replica, stage_id, batch, seconds))

    def end_stage(self, replica: Replica, stage_id: int, batch: Batch, seconds: float) -> None:
        replica.stages[stage_id].is_busy = False
        for request in batch.requests:
            request.execution_time += seconds
        self.at(self.time, partial(self.schedule_stage, replica, stage_id))
        if stage_id == self.settings.num_stages - 1:
            self.at(self.time, partial(self.end_batch, replica, batch))
        else:
            self.at(self.time, partial(self.arrive_at_stage, replica, stage_id + 1, batch))

    def end_batch(self, replica: Replica, batch: Batch) -> None:
        for request, entry in zip(batch.requests, batch.entries, strict=True):
            request.batches.append(batch)
            request.advance(self.time, entry.tokens)
            replica.num_outstanding -= request.is_finished
        replica.num_batches -= 1
        end_batch(replica, batch.requests)
        self.at(self.time, partial(self.schedule, replica))
