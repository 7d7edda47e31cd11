"""The state of one schedule() call."""

from __future__ import annotations

from reference.vllm_v1.state import Admission, Request


class Call:
    """What one schedule() call has decided so far."""

    def __init__(self, budget: int, threshold: int) -> None:
        self.budget = budget  # tokens
        self.threshold = threshold  # most tokens of one request; 0: no limit
        self.tokens: dict[int, int] = {}  # by request id, in the order of the batch
        self.admitted: list[Admission] = []
        self.resumed: list[Admission] = []
        self.preempted: list[int] = []

    def cut(self, num_tokens: int) -> int:
        return min(num_tokens, self.threshold) if self.threshold else num_tokens

    def give(self, request: Request, num_tokens: int) -> None:
        self.tokens[request.id] = num_tokens
        self.budget -= num_tokens

    def take_back(self, request: Request) -> None:
        self.budget += self.tokens.pop(request.id, 0)


def rank(request: Request) -> tuple[int, float, int]:
    """The order of the policy ``priority``: the lowest is served first."""
    return request.priority, request.arrived_at, request.id
