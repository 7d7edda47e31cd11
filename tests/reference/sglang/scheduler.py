"""The scheduler of SGLang: prefills go before decodes, and results change what requests hold."""

from __future__ import annotations

from reference.sglang.admission import Admission, Extend
from reference.sglang.decode import Decode
from reference.sglang.memory import Memory
from reference.sglang.order import Order
from reference.sglang.ratio import Ratio
from reference.sglang.releases import Release
from reference.sglang.state import Batch, Member, Request, Running, Settings


class Scheduler:
    """A prefill batch joins the running batch one pass after its launch, whether its results are known or not."""

    def __init__(self, settings: Settings, release: Release) -> None:
        self.settings = settings
        self.release = release
        self.memory = Memory(settings, release)
        self.order = Order(settings, release, self.memory)
        self.decode = Decode(self.memory)
        self.ratio = Ratio(settings.schedule_conservativeness)
        self.waiting: list[Request] = []
        self.running = Running()
        self.chunked: Request | None = None  # in the middle of its prompt
        self.last: Batch | None = None  # of the previous pass
        self.num_results = 0  # batches whose results are known

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running.requests or self.chunked)

    def schedule(self, now: float) -> Batch | None:
        """The batch of one pass, or None if there is nothing that could run."""
        if self.chunked is not None:
            self.memory.store(self.chunked)
        self.merge_last()
        if self.release.filters_before_prefill:
            self.drop_finished()
        self.last = self.prefill_batch()
        if self.last is None and self.running.requests:
            self.last = self.decode_batch()
        if self.last is not None:
            self.launch(self.last, now)
        return self.last

    def launch(self, batch: Batch, now: float) -> None:
        for member in batch.members:
            member.request.num_in_flight += member.samples
            if member.request.admitted_at is None:
                member.request.admitted_at = now
                member.request.num_cached_tokens = member.num_computed_before
        batch.scheduled_at = now
        batch.num_results_before = self.num_results
        batch.num_free = self.memory.num_free
        batch.num_evictable = self.memory.num_evictable
        batch.num_running = len(self.running.requests)
        batch.num_waiting = len(self.waiting)
        batch.is_full = self.running.is_full
        batch.new_token_ratio = self.ratio.value

    # The running batch.

    def merge_last(self) -> None:
        """Let the requests of the last prefill run, save for those that have finished and those in mid-prompt."""
        if self.last is None or self.last.mode == "decode":
            return
        requests = [member.request for member in self.last.members]
        joining = [each for each in requests if not each.is_finished and each not in (self.chunked, self.last.chunked)]
        if len(joining) < len(requests):
            self.running.is_full = False
        if joining and not self.running.requests:
            self.running = Running(joining)
        else:
            self.running.requests += joining

    def drop_finished(self) -> None:
        self.keep([request for request in self.running.requests if not request.is_finished])

    def keep(self, requests: list[Request]) -> None:
        """Let the others leave the running batch, so that there may be room for a prefill."""
        if len(requests) < len(self.running.requests) or not requests:
            self.running.is_full = False
        self.running.requests = requests

    def leave_out_last_tokens(self) -> bool:
        """Let the requests leave whose last token is in flight; whether there are any."""
        requests = self.running.requests
        if self.release.leaves_out_last_tokens:
            self.keep([each for each in requests if each.num_outputs + each.num_in_flight < each.limit])
        return len(self.running.requests) < len(requests)

    # Prefills.

    def prefill_batch(self) -> Batch | None:
        if (self.running.is_full or not self.waiting) and self.chunked is None:
            return None
        admission = Admission(self.settings, self.release, self.memory, self.running, self.ratio.value)
        if self.release.counts_places_first and self.chunked is None and admission.num_places <= 0:
            self.running.is_full = True
            return None
        self.order.arrange(self.waiting)
        if self.chunked is not None:
            admission.go_on(self.chunked)
        admission.admit(self.waiting)
        if not admission.chosen:
            return None
        self.chunked = admission.chunked
        taken = [extend.request for extend in admission.chosen]
        self.waiting = [request for request in self.waiting if request not in taken]
        members = self.extend(admission.chosen)
        decodes = self.decodes_to_mix() if self.settings.mixed and self.running.requests else []
        return Batch("mixed" if decodes else "prefill", members + decodes, self.chunked)

    def extend(self, chosen: list[Extend]) -> list[Member]:
        """Take the slots of the chosen tokens."""
        page_size, paged = self.settings.page_size, self.settings.paged
        part_pages = len(chosen) * page_size if page_size > 1 else 0
        self.memory.make_room(sum(extend.num_tokens for extend in chosen) + part_pages)
        members = []
        for request, num_tokens, is_whole in chosen:
            before = request.num_computed
            request.num_filled = request.num_slots = before + num_tokens
            self.memory.take(paged(request.num_filled) - paged(before))
            request.status = "running"
            members.append(Member(request, num_tokens, before, is_whole, False, request.num_retractions))
        return members

    def decodes_to_mix(self) -> list[Member]:
        """The running requests, which decode in a prefill batch and join the next running batch with it."""
        self.running.requests = [request for request in self.running.requests if not request.is_finished]
        if not self.release.mixes_unchecked:
            self.leave_out_last_tokens()
            if not self.decode.fits(self.running.requests):
                return []
        members = self.take_next_slots()
        self.running = Running([], self.running.is_full)
        return members

    # Decodes.

    def decode_batch(self) -> Batch | None:
        self.drop_finished()
        some_end = self.leave_out_last_tokens()
        if not self.running.requests:
            return None
        retracted: list[Request] = []
        if self.decode.fits(self.running.requests):
            self.ratio.decay()
        elif some_end:  # their slots will soon be free
            return None
        else:
            retracted = self.decode.retract(self.running.requests)
            self.running.is_full = False
            self.waiting += retracted
            self.ratio.estimate(self.running.requests)
        return Batch("decode", self.take_next_slots(), None, retracted=[request.id for request in retracted])

    def take_next_slots(self) -> list[Member]:
        requests = self.running.requests
        self.decode.allocate(requests)
        return [Member(each, 1, each.num_slots - 1, True, True, each.num_retractions) for each in requests]

    # Results.

    def update(self, batch: Batch, now: float) -> list[Request]:
        """Take the results of a batch; the requests that they finish."""
        self.num_results += 1
        batch.updated_at = now
        return [member.request for member in batch.members if self.advance(member, now)]

    def advance(self, member: Member, now: float) -> bool:
        """Take the token of one request, which is dropped if the request has been retracted; whether it finishes."""
        request = member.request
        if request.is_finished or request.num_retractions > member.num_retractions or not member.samples:
            return False
        request.num_in_flight -= 1
        request.num_outputs += 1
        request.token_times.append(now)
        if request.first_token_at is None:
            request.first_token_at = now
        if request.num_outputs == request.num_output_tokens:
            request.status = "finished"
            request.finished_at = now
            request.finish_reason = "stop" if request.ends_by_stop else "length"
            self.memory.give_back(request, keep=True)
        elif not member.is_decode:
            self.memory.store(request)
        return request.is_finished
