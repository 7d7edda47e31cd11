"""One attempt to form a prefill batch: which requests it takes, and how many tokens of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from reference.sglang.budget import Budget, State, reserve
from reference.sglang.lifetimes import Lifetimes
from reference.sglang.memory import Memory
from reference.sglang.releases import Release
from reference.sglang.state import CrashError, Request, Running, Settings
from reference.sglang.tree import Node


class Extend(NamedTuple):
    request: Request
    num_tokens: int
    is_whole: bool  # whether it completes the prompt


class Admission:
    """Requests are taken in order until one does not fit; at most one of them stays in the middle of its prompt."""

    def __init__(
        self,
        settings: Settings,
        release: Release,
        memory: Memory,
        running: Running,
        ratio: float,
    ) -> None:
        self.settings = settings
        self.release = release
        self.memory = memory
        self.running = running
        if settings.ignore_eos and release.ignore_eos_reserves_all:
            ratio = 1
        self.budget = Budget(settings, memory, running.requests, ratio)
        self.chosen: list[Extend] = []
        self.chunked: Request | None = None
        self.lifetimes: Lifetimes | None = None

    def go_on(self, request: Request) -> None:
        """Take the next chunk of a request. Memory limits it, unless none is left: then only the tokens do."""
        assert self.budget.chunk_tokens is not None
        num_tokens = request.num_tokens - request.num_computed
        limit = min(self.budget.chunk_tokens, int(self.budget.memory_left))
        if limit <= 0:
            limit = self.budget.chunk_tokens
        if limit <= 0:
            raise CrashError("The decodes of a mixed batch leave no tokens to the chunk.")
        self.choose(request, min(num_tokens, limit), is_whole=num_tokens <= limit)

    def admit(self, waiting: Sequence[Request]) -> None:
        for request in waiting:
            if len(self.chosen) >= self.num_places:
                self.running.is_full = True
            if self.running.is_full:
                break
            if self.release.stops_without_budget and self.budget.state == "no tokens":
                break
            if not self.fits(request):
                break

    @property
    def num_places(self) -> int:
        return self.settings.max_running_requests - len(self.running.requests)

    def fits(self, request: Request) -> bool:
        """Take a request if it fits. Whether to go on with the next."""
        state = self.attempt(request)
        if state == "no memory":
            self.running.is_full = True
        return state == "go"

    def attempt(self, request: Request) -> State:
        """Take a request, or leave it for want of memory or tokens; what is left for the next."""
        num_held, node = self.memory.match(request, request.num_tokens - 1)
        num_tokens = request.num_tokens - num_held
        with_lifetimes = self.settings.ignore_eos and self.settings.disable_radix_cache
        find = self.refusal_by_lifetimes if with_lifetimes else self.refusal
        refusal = find(request, num_tokens, node)
        if refusal is not None:
            return refusal
        share = self.share(num_tokens, in_pages=not with_lifetimes)
        if share <= 0:
            self.memory.unlock(node)
            return "no tokens"
        request.num_computed = request.num_in_tree = num_held
        request.node = node
        self.choose(request, share, is_whole=share == num_tokens)
        return self.budget.state

    def refusal(self, request: Request, num_tokens: int, node: Node | None) -> State | None:
        """Why a request is left. If it is not, its prefix is locked, so that less memory may be available."""
        needed = num_tokens + reserve(request)
        unlimited = self.release.chunks_lift_input_limit and self.budget.chunk_tokens is not None
        too_long = self.settings.paged(num_tokens) >= self.budget.input_tokens and self.chosen and not unlimited
        if self.release.tests_memory_once:
            needed += self.settings.page_size
        elif needed >= self.budget.memory_left:
            return "no memory"
        elif too_long:
            return "no tokens"
        self.memory.lock(node)
        has_memory = needed < self.budget.memory_left
        if has_memory and not too_long:
            return None
        self.memory.unlock(node)
        return "no tokens" if has_memory else "no memory"

    def refusal_by_lifetimes(self, request: Request, num_tokens: int, node: Node | None) -> State | None:
        """Why a request is left, where the engine knows how long each request will be there."""
        num_slots = self.settings.paged(num_tokens)
        if self.release.tests_memory_once:
            num_slots += self.settings.page_size
        if num_slots > min(self.budget.batch_memory_left, self.budget.memory_left):
            return "no memory"
        if self.lifetimes is None:
            self.lifetimes = Lifetimes([request, *self.running.requests, *(each.request for each in self.chosen)])
        else:
            self.lifetimes.insert(request)
        return None if self.lifetimes.fit(self.budget.batch_memory_left - num_slots) else "no memory"

    def share(self, num_tokens: int, in_pages: bool) -> int:
        """Tokens of a request in this batch: all, or a first chunk."""
        limit = self.budget.chunk_tokens
        if limit is None or (self.settings.paged(num_tokens) if in_pages else num_tokens) <= limit:
            return num_tokens
        return self.settings.whole_pages(limit) if in_pages else limit

    def choose(self, request: Request, num_tokens: int, is_whole: bool) -> None:
        self.chosen.append(Extend(request, num_tokens, is_whole))
        self.budget.take(num_tokens, request.limit if is_whole else 0)
        if not is_whole:
            self.chunked = request
