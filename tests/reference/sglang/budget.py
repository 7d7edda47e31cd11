"""How many tokens a prefill batch may still take, and how many slots are promised to requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from reference.sglang.memory import Memory
from reference.sglang.state import Request, Settings

LONGEST_RESERVE = 4096  # outputs; the engine plans no further ahead
State = Literal["go", "no memory", "no tokens"]


class Budget:
    """Each request is charged a page more than it needs."""

    def __init__(self, settings: Settings, memory: Memory, running: Sequence[Request], ratio: float) -> None:
        self.settings = settings
        self.memory = memory
        decodes = len(running) if settings.mixed else 0  # tokens of this batch
        self.input_tokens = settings.max_prefill_tokens - decodes
        self.chunk_tokens: int | None = None
        if settings.chunked_prefill_size is not None:
            self.chunk_tokens = settings.chunked_prefill_size - decodes
        reserved: float = 0
        for request in running:  # one by one: the sum of floats depends on the order
            reserved += reserve(request) * ratio
        self.promised = decodes + reserved  # slots, for outputs to come as well
        self.taken = decodes  # slots, in this batch

    @property
    def memory_left(self) -> float:
        return self.memory.num_available - self.promised

    @property
    def batch_memory_left(self) -> int:
        return self.memory.num_available - self.taken

    @property
    def state(self) -> State:
        if self.memory_left <= 0 or self.batch_memory_left <= 0:
            return "no memory"
        if self.input_tokens <= 0 or (self.chunk_tokens is not None and self.chunk_tokens <= 0):
            return "no tokens"
        return "go"

    def take(self, num_tokens: int, num_outputs: int) -> None:
        """Charge a request for tokens of this batch, and for outputs to come."""
        num_slots = self.settings.paged(num_tokens)
        self.promised += num_slots + min(num_outputs, LONGEST_RESERVE) + self.settings.page_size
        self.taken += num_slots + self.settings.page_size
        self.input_tokens -= num_slots
        if self.chunk_tokens is not None:
            self.chunk_tokens -= num_slots


def reserve(request: Request) -> int:
    """Outputs to come of a request, as far as the engine plans ahead."""
    return min(max(request.limit - request.num_outputs, 0), LONGEST_RESERVE)
