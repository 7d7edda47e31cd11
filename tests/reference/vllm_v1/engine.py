"""The obvious twin of vLLM V1: its engine loop in virtual time, around its scheduler and its KV blocks.

It follows the unmodified scheduler of four releases (see releases.py) in every schedule() call, empty ones included.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

from reference.vllm_v1.arrivals import Arrivals
from reference.vllm_v1.releases import Release
from reference.vllm_v1.scheduler import Scheduler
from reference.vllm_v1.state import Decision, Member, Request, Settings

Ending = Literal["done", "stuck", "endless"]  # some requests never fit; they preempt each other for ever
StageTime = Callable[[int, Sequence[Member]], float]  # of a stage and a batch that has tokens


class Outcome(NamedTuple):
    requests: list[Request]
    decisions: list[Decision]  # one for each schedule() call
    outcome: Ending
    preemptions: tuple[int, int] = (0, 0)  # to make room for a prefill; of requests with a lower priority
    num_evicted: int = 0  # cached blocks that were taken for other tokens


def simulate(requests: Sequence[Request], settings: Settings, release: Release, stage_time: StageTime) -> Outcome:
    """Serve the requests; those that arrive together enter in order of their position."""
    engine = Engine(requests, settings, release, stage_time)
    return engine.result(engine.run())


def queue_depth(settings: Settings, release: Release) -> int:
    """Most batches in flight."""
    if not settings.async_scheduling:
        return settings.num_stages
    if settings.num_stages == 1:
        return 2
    if release.pp_async is None:
        raise ValueError(f"vLLM {release.name} has no asynchronous scheduling with a pipeline")
    return settings.num_stages + (release.pp_async == "after_num_stages_calls")


class Moment(NamedTuple):
    """When something happens in an engine: at equal times, results come before batches are scheduled."""

    time: float
    schedules: bool


NEVER = Moment(math.inf, False)


class Engine:
    """One engine: requests that are still to come, a scheduler, and a queue of batches in flight."""

    def __init__(
        self,
        requests: Sequence[Request],
        settings: Settings,
        release: Release,
        stage_time: StageTime,
        arrivals: Arrivals | None = None,
    ) -> None:
        """An engine of its own serves all requests; one of a cluster serves those that are routed to it."""
        self.settings = settings
        self.release = release
        self.stage_time = stage_time
        self.scheduler = Scheduler(settings, release)
        self.depth = queue_depth(settings, release)
        self.in_flight: list[Decision] = []  # oldest first
        self.stage_free_at: list[float] = [0] * settings.num_stages
        self.decisions: list[Decision] = []
        self.now: float = 0
        self.to_come: list[tuple[float, int]] = []  # heap of arrivals: time, id
        self.arrivals = arrivals or Arrivals(requests)
        self.requests = self.arrivals.requests
        if arrivals is None:
            self.to_come = self.arrivals.to_come

    def run(self) -> Ending:
        for moment in self.moments():
            if moment is NEVER:
                return "stuck" if self.scheduler.has_work else "done"
        return "endless"

    def moments(self) -> Iterator[Moment]:
        """Run on, and stop before whatever happens next; NEVER while only an arrival helps that is not known."""
        while not self.is_endless:
            if self.is_stuck or not (self.scheduler.has_work or self.in_flight):
                while not self.to_come:
                    yield NEVER
                self.now = max(self.now, self.to_come[0][0])
            yield Moment(self.now, True)
            while self.to_come and self.to_come[0][0] <= self.now:
                _, id = heapq.heappop(self.to_come)
                self.scheduler.add(self.requests[id])
            yield from self.turn()

    def result(self, outcome: Ending) -> Outcome:
        counted = self.scheduler.preemptions_for_prefills, self.scheduler.preemptions_of_lower
        return Outcome(self.requests, self.decisions, outcome, counted, self.scheduler.blocks.num_evicted)

    @property
    def is_endless(self) -> bool:
        """Whether so many requests were preempted by priority, without a token for any, that it will not end."""
        number, present = self.scheduler.preemptions_without_token, len(self.scheduler.requests)
        return self.settings.policy == "priority" and number > 10 * (self.settings.num_blocks + present)

    @property
    def is_stuck(self) -> bool:
        """Whether nothing runs and the last call admitted none of the requests that wait: only an arrival helps."""
        if self.scheduler.running or not self.scheduler.waiting or not self.decisions:
            return False
        last = self.decisions[-1]
        return not (last.members or last.preempted or self.in_flight or self.scheduler.has_finished)

    def turn(self) -> Iterator[Moment]:
        """Schedule a batch if there is work, and wait for the oldest one unless there is room for more."""
        decision = None
        if self.scheduler.has_work:
            decision = self.scheduler.schedule(self.now)
            if self.is_endless:
                return
            self.launch(decision)
        if decision is None or not self.goes_on(decision):
            yield Moment(max(self.now, self.in_flight[0].ended_at), False)
            self.wait()
        if not (decision and decision.members) and self.may_sleep():
            self.now += self.settings.empty_step_sleep

    def launch(self, decision: Decision) -> None:
        """Send a batch through the stages, each of which takes batches in order. An empty batch takes no time."""
        self.decisions.append(decision)
        self.in_flight.append(decision)
        time = self.now
        if self.settings.awaits_tokens:
            time = max(time, self.tokens_sampled_at(decision))
        for stage in range(self.settings.num_stages):
            started_at = max(time, self.stage_free_at[stage])
            time = started_at + (self.stage_time(stage, decision.members) if decision.members else 0)
            self.stage_free_at[stage] = time
            if stage == 0:
                decision.started_at = started_at
        decision.ended_at = time
        if self.settings.executor_blocks:
            self.now = time

    def tokens_sampled_at(self, decision: Decision) -> float:
        """When the last stage has sampled the tokens that a batch computes and the scheduler does not know yet."""
        requests = {
            member.request.id
            for member in decision.members
            if member.num_computed_before + member.num_tokens > member.request.num_tokens
        }
        return max(
            (
                batch.ended_at
                for batch in self.in_flight
                for member in batch.members
                if batch is not decision and member.samples and member.request.id in requests
            ),
            default=0,
        )

    def goes_on(self, last: Decision) -> bool:
        """Whether the engine schedules again before it has the results of the oldest batch."""
        if len(self.in_flight) >= self.depth:
            return False
        match self.release.queue_rule:
            case "tokens_and_oldest_runs":
                return bool(last.members) and self.in_flight[0].ended_at > self.now
            case "tokens":
                return bool(last.members)
            case "tokens_or_work":
                return bool(last.members) or self.scheduler.has_work

    def wait(self) -> None:
        """Take the results of the oldest batch; requests that follow those it finishes are on their way."""
        oldest = self.in_flight.pop(0)
        self.now = oldest.updated_at = max(self.now, oldest.ended_at)
        for finished in self.scheduler.update(oldest, self.now):
            self.arrivals.release(finished, self.now)

    def may_sleep(self) -> bool:
        match self.release.sleeps_with:
            case "unfinished":
                return bool(self.scheduler.requests)
            case "work":
                return self.scheduler.has_work
        return False
