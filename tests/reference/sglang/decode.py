"""The slots of decodes: each takes one more token, and requests are retracted where there is no room for all."""

from __future__ import annotations

from collections.abc import Sequence

from reference.sglang.memory import Memory
from reference.sglang.state import Request

DECODES_AHEAD = 20  # tokens for each request that stays, made room for at each retraction


class Decode:
    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.page_size = memory.settings.page_size

    def fits(self, requests: Sequence[Request]) -> bool:
        """Whether there is room for the next token of each, after an eviction if need be."""
        need = self.num_new_slots(requests)
        self.memory.make_room(need)
        return self.memory.num_free >= need

    def num_new_slots(self, requests: Sequence[Request]) -> int:
        return self.page_size * sum(request.num_slots % self.page_size == 0 for request in requests)

    def allocate(self, requests: Sequence[Request]) -> None:
        """Give each request the slot of its next token; room is made as if each of them began a page."""
        self.memory.make_room(self.page_size * len(requests))
        self.memory.take(self.num_new_slots(requests))
        for request in requests:
            request.num_slots += 1

    def retract(self, requests: list[Request]) -> list[Request]:
        """Retract requests until the others fit, at least one, and leave those in the order of choice."""
        requests.sort(key=lambda request: (request.num_outputs, -request.num_prompt_tokens), reverse=True)
        retracted: list[Request] = []
        while len(requests) > 1 and not (retracted and self.fits(requests)):
            request = requests.pop()
            retracted.append(request)
            request.status = "waiting"
            request.num_retractions += 1
            request.num_in_flight = 0
            self.memory.give_back(request, keep=False)
            self.memory.make_room(DECODES_AHEAD * len(requests))
        return retracted
