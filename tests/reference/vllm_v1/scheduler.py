"""The scheduler of vLLM V1: which requests get how many tokens in a batch, and what its results change."""

from __future__ import annotations

from reference.vllm_v1.blocks import Blocks
from reference.vllm_v1.call import Call, rank
from reference.vllm_v1.releases import Release
from reference.vllm_v1.state import Admission, Decision, Member, Request, Settings


class Scheduler:
    """Each call raises the computed tokens of requests towards all that they have; a prefill is nothing else."""

    def __init__(self, settings: Settings, release: Release) -> None:
        self.settings = settings
        self.release = release
        self.blocks = Blocks(settings, release)
        self.running: list[Request] = []  # in order of admission, under either policy
        self.waiting: list[Request] = []  # in order of service under fcfs
        self.requests: dict[int, Request] = {}  # unfinished ones
        self.has_finished = False  # requests that no call has announced to the workers
        self.num_calls = 0
        self.num_updates = 0
        self.preemptions_without_token = 0  # since the last one
        self.preemptions_for_prefills = 0  # all others make room for a decode
        self.preemptions_of_lower = 0  # of a request with a lower priority than the one that needs room

    @property
    def has_work(self) -> bool:
        return bool(self.requests) or self.has_finished

    def add(self, request: Request) -> None:
        self.requests[request.id] = request
        self.waiting.append(request)

    def schedule(self, now: float) -> Decision:
        self.has_finished = False
        alone = self.release.threshold_ignored_alone and len(self.requests) <= 1
        threshold = 0 if alone else self.settings.long_prefill_token_threshold
        call = Call(self.settings.max_num_batched_tokens, threshold)
        self.schedule_running(call)
        if not call.preempted:
            self.schedule_waiting(call)
        members = [self.advance(self.requests[id], num_tokens, now) for id, num_tokens in call.tokens.items()]
        self.num_calls += 1
        return Decision(
            scheduled_at=now,
            num_updates_before=self.num_updates,
            members=members,
            admitted=call.admitted,
            resumed=call.resumed,
            preempted=call.preempted,
            num_free_blocks=self.blocks.num_free,
            num_running=len(self.running),
            num_waiting=len(self.waiting),
        )

    def advance(self, request: Request, num_tokens: int, now: float) -> Member:
        """Count the tokens as computed; once they reach all known ones, the batch will give the next."""
        before = request.num_computed_tokens
        request.num_computed_tokens += num_tokens
        samples = request.num_computed_tokens >= request.num_tokens + request.num_placeholders
        if samples:
            request.sampled_in_call = self.num_calls
            request.num_placeholders += self.settings.async_scheduling
        request.num_batches += 1
        if request.admitted_at is None:
            request.admitted_at = now
        return Member(request, num_tokens, before, samples)

    # Requests that run already.

    def schedule_running(self, call: Call) -> None:
        index = 0
        while index < len(self.running) and call.budget > 0:
            request = self.running[index]
            num_tokens = 0 if self.must_wait(request) else self.num_wanted(request, call)
            if num_tokens > 0:
                end = request.num_computed_tokens + num_tokens
                is_prefill = request.num_computed_tokens < request.num_prefill_tokens
                while self.blocks.num_needed(request, (), end) > self.blocks.num_free:
                    victim = self.choose_victim()
                    index -= self.steps_back(victim, index, call)
                    self.preempt(victim, call)
                    self.preemptions_without_token += 1
                    self.preemptions_for_prefills += is_prefill
                    self.preemptions_of_lower += (
                        self.settings.policy == "priority" and victim.priority > request.priority
                    )
                    if victim is request:
                        break
                if request.status == "preempted":
                    if not self.release.priority_requester_goes_on:
                        return
                    continue
                self.blocks.allocate(request, (), end)
                call.give(request, num_tokens)
            index += 1

    def num_wanted(self, request: Request, call: Call) -> int:
        missing = request.num_tokens + request.num_placeholders - request.num_computed_tokens
        longest = self.settings.max_model_len - 1 - request.num_computed_tokens
        return min(call.cut(missing), call.budget, longest)

    def must_wait(self, request: Request) -> bool:
        """Whether asynchronous scheduling gives the request no tokens in this call, because outputs are in flight."""
        if not self.settings.async_scheduling:
            return False
        end = request.num_computed_tokens + 2 - request.num_placeholders
        is_last_in_flight = request.num_placeholders > 0 and end >= request.num_prompt_tokens + request.limit
        if is_last_in_flight and not self.release.async_wastes_a_slot:
            return True
        if self.settings.num_stages == 1 or request.sampled_in_call is None:
            return False
        match self.release.pp_async:
            case "never":
                return request.num_placeholders > 0
            case "after_num_stages_calls":
                return self.num_calls < request.sampled_in_call + self.settings.num_stages
        return False

    # Preemption.

    def choose_victim(self) -> Request:
        if self.settings.policy == "fcfs":
            return self.running[-1]
        return max(self.running, key=lambda request: (request.priority, request.arrived_at))  # the first of equals

    def steps_back(self, victim: Request, index: int, call: Call) -> bool:
        """Whether the loop's index goes back by one as the victim leaves the list of running requests."""
        if self.settings.policy == "fcfs":
            return False
        match self.release.priority_steps_back:
            case "if_scheduled":
                return victim.id in call.tokens
            case "if_earlier":
                return self.running.index(victim) < index
        return False

    def preempt(self, request: Request, call: Call) -> None:
        """Take a request's blocks away. It keeps its outputs, and computes everything anew that no cache holds."""
        self.running.remove(request)
        if not self.release.priority_victim_keeps_tokens:
            call.take_back(request)
        self.blocks.free(request)
        request.status = "preempted"
        request.num_computed_tokens = 0
        request.num_preemptions += 1
        self.waiting.insert(0, request)
        call.preempted.append(request.id)

    # Requests that wait.

    def schedule_waiting(self, call: Call) -> None:
        """Admit requests until one does not fit. Those that are passed over go back to the head of the queue."""
        passed_over: list[Request] = []
        while self.waiting and call.budget > 0 and len(self.running) < self.settings.max_num_seqs:
            request = self.waiting[0] if self.settings.policy == "fcfs" else min(self.waiting, key=rank)
            if self.release.resume_waits_for_results and request.status == "preempted" and request.num_batches:
                self.waiting.remove(request)
                passed_over.append(request)
                continue
            # A victim that kept its tokens has computed tokens, and is not looked up.
            hits = [] if request.num_computed_tokens else self.blocks.hits(request)
            num_computed = request.num_computed_tokens + len(hits) * self.settings.block_size
            num_tokens = call.cut(request.num_tokens - num_computed)
            if num_tokens > call.budget and not self.settings.enable_chunked_prefill:
                if not self.release.no_chunking_skips:
                    break
                self.waiting.remove(request)
                passed_over.insert(0, request)  # they come back in reverse order
                continue
            num_tokens = min(num_tokens, call.budget)
            if not self.fits(request, hits, num_computed + num_tokens):
                break
            self.waiting.remove(request)
            self.admit(request, hits, num_computed, num_tokens, call)
        self.waiting = passed_over + self.waiting

    def fits(self, request: Request, hits: list[int], end: int) -> bool:
        if self.release.whole_prompt_check and self.settings.scheduler_reserve_full_isl:
            end = max(end, request.num_tokens)
        free = self.blocks.num_free
        if self.release.has_watermark and self.running:
            free -= int(self.settings.watermark * (self.settings.num_blocks + 1))
        return self.blocks.num_needed(request, hits, end) <= free

    def admit(self, request: Request, hits: list[int], num_computed: int, num_tokens: int, call: Call) -> None:
        self.blocks.allocate(request, hits, num_computed + num_tokens)
        if request.status == "waiting":
            call.admitted.append(Admission(request.id, num_computed))
            request.num_cached_tokens = num_computed
        else:
            call.resumed.append(Admission(request.id, num_computed))
        request.status = "running"
        request.num_prefill_tokens = request.num_tokens
        request.num_computed_tokens = num_computed
        self.running.append(request)
        call.give(request, num_tokens)

    # Results.

    def update(self, decision: Decision, now: float) -> list[Request]:
        """Take the results of a batch; the requests that they finish, which free their blocks at once."""
        self.num_updates += 1
        if any(member.samples for member in decision.members):
            self.preemptions_without_token = 0
        finished = []
        for request, _, _, samples in decision.members:
            request.num_batches -= 1
            if request.status == "finished" or not samples:
                continue
            self.receive(request, now)
            if request.finish_reason is not None:
                self.finish(request, now)
                finished.append(request)
        return finished

    def receive(self, request: Request, now: float) -> None:
        """Append the next output to a request."""
        request.num_outputs += 1
        request.token_times.append(now)
        if request.first_token_at is None:
            request.first_token_at = now
        if self.settings.async_scheduling:
            request.num_placeholders -= 1
            if request.status == "running":
                self.blocks.register(request, request.num_computed_tokens - request.num_placeholders)
        if request.ends_by_stop and request.num_outputs == request.num_output_tokens:
            request.finish_reason = "stop"
        elif request.num_outputs >= request.limit or request.num_tokens >= self.settings.max_model_len:
            request.finish_reason = "length"

    def finish(self, request: Request, now: float) -> None:
        if request.status == "running":
            self.running.remove(request)
            self.blocks.free(request)
        else:
            self.waiting.remove(request)
        request.status, request.finished_at = "finished", now
        del self.requests[request.id]
        self.has_finished = True
