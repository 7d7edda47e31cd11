"""The obvious twin of a replica of vLLM V1 whose data-parallel ranks step together, as models with experts need it.

Each rank has a scheduler and KV blocks of its own. All ranks make a pass of the engine loop at the same moment: each
schedules a batch, and these start together and end together, as the slowest of them allows. A rank that has no tokens
runs a dummy batch of one token beside the others.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reference.vllm_v1.arrivals import Arrivals
from reference.vllm_v1.engine import NEVER, Moment, queue_depth
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import Release
from reference.vllm_v1.scheduler import Scheduler
from reference.vllm_v1.state import Decision, Member, Request, Settings

Balancer = Literal["internal", "round_robin", "given"]
StepTime = Callable[[Sequence[Sequence[Member]]], int]  # of the batches of all ranks, of which one has tokens at least


@dataclass(frozen=True)
class Layout:
    """The ranks of a replica, and how its requests come to them."""

    num_ranks: int
    balancer: Balancer = "internal"
    refresh: int = 100_000  # after which the internal balancer learns anew how many requests each rank has
    wave: int = 32  # steps after which ranks ask each other whether any has requests; until then all step on


@dataclass(frozen=True)
class StepClock:
    """The time of a step: that of the slowest rank, where all ranks compute the tokens of all in their experts."""

    rank: Clock
    per_shared_token: int = 0  # ns, of the mean tokens of a rank, rounded up
    graph_tokens: int = 0  # batches of at most so many tokens are padded to the largest of them

    def __call__(self, batches: Sequence[Sequence[Member]]) -> int:
        sizes = [max(1, sum(member.num_tokens for member in members)) for members in batches]
        most = max(sizes)
        is_padded = most <= self.graph_tokens
        shared = most if is_padded else -(-sum(sizes) // len(sizes))
        ns = 0
        for members, size in zip(batches, sizes, strict=True):
            context = sum(member.num_computed_before + member.num_tokens for member in members)
            own = self.rank.constant + self.rank.per_token * (most if is_padded else size)
            ns = max(ns, own + self.rank.per_sequence * len(members) + self.rank.per_context_token * context)
        return (ns + self.per_shared_token * shared) // 1000


@dataclass
class Step:
    """The batches of all ranks that started together."""

    decisions: list[Decision | None]  # by rank; None for a rank that is at its end
    started_at: float = 0
    ended_at: float = 0

    @property
    def has_tokens(self) -> bool:
        return any(decision is not None and decision.members for decision in self.decisions)


@dataclass
class Rank:
    scheduler: Scheduler
    outcome: Literal["going", "stuck", "endless"] = "going"

    @property
    def counts(self) -> tuple[int, int]:
        return len(self.scheduler.waiting), len(self.scheduler.running)


@dataclass
class Sent:
    """What the balancer of a replica knows: how many requests ranks had at which time, and what it has sent since."""

    history: list[tuple[float, list[tuple[int, int]]]] = field(default_factory=list)  # (waiting, running) from then on
    sent: list[tuple[float, int]] = field(default_factory=list)


class Replica:
    """A replica of several ranks."""

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        release: Release,
        step_time: StepTime,
        arrivals: Arrivals,
        rank_given: Sequence[int] = (),
    ) -> None:
        self.layout, self.settings, self.release = layout, settings, release
        self.step_time = step_time
        self.ranks = [Rank(Scheduler(settings, release)) for _ in range(layout.num_ranks)]
        self.depth = queue_depth(settings, release)
        self.in_flight: list[Step] = []
        self.steps: list[Step] = []
        self.free_at: float = 0
        self.now: float = 0
        self.in_wave = 0
        self.arrivals = arrivals
        self.to_come: list[tuple[float, int]] = []  # heap: time, id
        self.rank_of: dict[int, int] = {}
        self.rank_given = rank_given
        self.known = Sent([(-1, [(0, 0)] * layout.num_ranks)])

    @property
    def going(self) -> list[Rank]:
        return [rank for rank in self.ranks if rank.outcome == "going"]

    @property
    def has_work(self) -> bool:
        return any(rank.scheduler.has_work for rank in self.going)

    def moments(self) -> Iterator[Moment]:
        """Run on, and stop before whatever happens next; NEVER while only an arrival helps that is not known."""
        while True:
            if not (self.has_work or self.in_flight):
                while not self.to_come:
                    yield NEVER
                arrival = self.to_come[0][0]
                self.step_on(arrival)
                self.now = max(self.now, arrival)
            yield Moment(self.now, True)
            while self.to_come and self.to_come[0][0] <= self.now:
                time, id = heapq.heappop(self.to_come)
                self.rank_of[id] = self.choose(time, id)
                self.ranks[self.rank_of[id]].scheduler.add(self.arrivals.requests[id])
            yield from self.turn()

    def step_on(self, arrival: float) -> None:
        """Run dummy batches to the end of the wave, or until a request arrives."""
        while self.in_wave % self.layout.wave and self.now < arrival:
            self.now = self.free_at = self.now + self.step_time([()] * self.layout.num_ranks)
            self.in_wave += 1
        self.in_wave %= self.layout.wave

    # The balancer.

    def choose(self, time: float, id: int) -> int:
        number, known = self.layout.num_ranks, self.known
        match self.layout.balancer:
            case "given":
                return self.rank_given[id]
            case "round_robin":
                rank = len(known.sent) % number
            case "internal":
                since = time // self.layout.refresh * self.layout.refresh
                counts = next(counts for at, counts in reversed(known.history) if at < since or at < 0)
                waiting = [sum(rank == to for at, to in known.sent if at >= since) for rank in range(number)]
                score = [4 * (w + more) + r for (w, r), more in zip(counts, waiting, strict=True)]
                rank = score.index(min(score))
        known.sent.append((time, rank))
        return rank

    def note(self) -> None:
        self.known.history.append((self.now, [rank.counts for rank in self.ranks]))

    # Passes of the engine loop.

    def turn(self) -> Iterator[Moment]:
        """Schedule a step if there is work, and wait for the oldest one unless there is room for more."""
        step = None
        if self.has_work:
            step = self.schedule()
            self.note()
        if step is None or not self.goes_on(step):
            if not self.in_flight:
                return
            yield Moment(max(self.now, self.in_flight[0].ended_at), False)
            self.wait()
            self.note()
        if not (step and step.has_tokens) and self.may_sleep():
            self.now += self.settings.empty_step_sleep

    def schedule(self) -> Step:
        step = Step([self.decide(i, rank) for i, rank in enumerate(self.ranks)])
        start = max(self.now, self.free_at)
        step.started_at = step.ended_at = start
        if step.has_tokens:
            step.ended_at = start + self.step_time([() if d is None else d.members for d in step.decisions])
            self.in_wave += 1
        self.free_at = step.ended_at
        for decision in step.decisions:
            if decision is not None:
                decision.started_at, decision.ended_at = step.started_at, step.ended_at
        self.steps.append(step)
        self.in_flight.append(step)
        return step

    def decide(self, number: int, rank: Rank) -> Decision | None:
        """What a rank schedules; None once its requests wait or preempt each other for ever."""
        if rank.outcome != "going":
            return None
        scheduler = rank.scheduler
        decision = scheduler.schedule(self.now)
        flies = any(step.decisions[number] and step.decisions[number].members for step in self.in_flight)  # type: ignore[union-attr]
        if not (decision.members or decision.preempted or flies or scheduler.running) and scheduler.waiting:
            rank.outcome = "stuck"
        most = 10 * (self.settings.num_blocks + len(scheduler.requests))
        if self.settings.policy == "priority" and scheduler.preemptions_without_token > most:
            rank.outcome = "endless"
        return decision if rank.outcome == "going" else None

    def goes_on(self, last: Step) -> bool:
        """Whether the ranks schedule again before they have the results of the oldest step."""
        if len(self.in_flight) >= self.depth:
            return False
        match self.release.queue_rule:
            case "tokens_and_oldest_runs":
                return last.has_tokens and self.in_flight[0].ended_at > self.now
            case "tokens":
                return last.has_tokens
            case "tokens_or_work":
                return last.has_tokens or any(rank.scheduler.requests for rank in self.going)

    def wait(self) -> None:
        """Take the results of the oldest step; requests that follow those it finishes are on their way."""
        oldest = self.in_flight.pop(0)
        self.now = max(self.now, oldest.ended_at)
        for rank, decision in zip(self.ranks, oldest.decisions, strict=True):
            if decision is not None and rank.outcome == "going":
                decision.updated_at = self.now
                for finished in rank.scheduler.update(decision, self.now):
                    self.arrivals.release(finished, self.now)

    def may_sleep(self) -> bool:
        match self.release.sleeps_with:
            case "unfinished":
                return any(rank.scheduler.requests for rank in self.going)
            case "work":
                return self.has_work
        return False


def simulate(
    requests: Sequence[Request],
    layout: Layout,
    settings: Settings,
    release: Release,
    step_time: StepTime,
    num_replicas: int = 1,
    rank_given: Sequence[int] = (),
) -> tuple[list[Request], list[Replica], dict[int, int]]:
    """Serve the requests; those that arrive together are routed in order of their position, to replicas in turn.

    Returns them, the replicas, and the replica of each request.
    """
    arrivals = Arrivals(requests)
    replicas = [Replica(layout, settings, release, step_time, arrivals, rank_given) for _ in range(num_replicas)]
    running = [replica.moments() for replica in replicas]
    due = [next(moments) for moments in running]
    replica_of: dict[int, int] = {}
    follow = bool(arrivals.followers)
    while True:
        soonest = min(due)
        arrival = Moment(arrivals.to_come[0][0], False) if arrivals.to_come else NEVER
        if arrival is not NEVER and (arrival < soonest if follow else arrival.time <= soonest.time):
            time, id = heapq.heappop(arrivals.to_come)
            chosen = replica_of[id] = len(replica_of) % num_replicas
            heapq.heappush(replicas[chosen].to_come, (time, id))
            if due[chosen] is NEVER:
                due[chosen] = next(running[chosen], NEVER)
        elif soonest is NEVER:
            return arrivals.requests, replicas, replica_of
        else:
            first = due.index(soonest)
            due[first] = next(running[first], NEVER)
