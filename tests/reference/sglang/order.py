"""The order in which waiting requests are tried."""

from __future__ import annotations

import math

from reference.sglang.memory import Memory
from reference.sglang.releases import Release
from reference.sglang.state import Request, Settings
from reference.sglang.tree import Tree

MOST_SORTED = 128  # lpm leaves a longer queue as it is
SHORT_MATCH = 32  # tokens: a request that shares more with an earlier one than with the tree waits for that one
REFRESH_EVERY = 32  # calls that do not sort


class Order:
    """Under fcfs the queue is left as it is; under lpm the longest match goes first."""

    def __init__(self, settings: Settings, release: Release, memory: Memory) -> None:
        self.settings = settings
        self.release = release
        self.memory = memory
        self.num_unsorted = 0  # calls that found requests and left them as they were

    def arrange(self, waiting: list[Request]) -> None:
        """Sort the queue in place, so that later calls begin with this order. Each lookup is a use of the tree."""
        if not waiting or self.settings.disable_radix_cache:
            return
        if self.settings.schedule_policy == "lpm" and len(waiting) <= MOST_SORTED:
            keys = self.longest_match_first(waiting)
            waiting.sort(key=lambda request: keys[request.id])
        elif self.release.refreshes_waiting:
            if self.num_unsorted % REFRESH_EVERY == 0:
                for request in reversed(waiting[:MOST_SORTED]):
                    self.memory.match(request, request.num_tokens)
            self.num_unsorted += 1

    def longest_match_first(self, waiting: list[Request]) -> dict[int, float]:
        """Sort keys by request id. Of requests with the same new prefix, all but the first go to the end."""
        keys: dict[int, float] = {}
        ahead = Tree(1)  # prefixes of requests that go first
        for request in waiting:
            num_matched, _ = self.memory.match(request, request.num_tokens)
            most = request.num_tokens - self.release.matches_leave_a_token
            keys[request.id] = -min(num_matched, most)
            if num_matched <= SHORT_MATCH:
                tokens = request.pages(request.num_tokens, 1)
                if ahead.match(tokens)[0] >= SHORT_MATCH:
                    keys[request.id] = math.inf
                else:
                    ahead.insert(tokens)
        return keys
