"""The time of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reference.sglang.state import Member


@dataclass(frozen=True)
class Clock:
    """The time of a batch: coefficients in ns, times in whole microseconds."""

    constant: int
    per_token: int = 0
    per_request: int = 0
    per_context_token: int = 0  # computed before or in this batch

    def __call__(self, members: Sequence[Member]) -> int:
        num_tokens = sum(member.num_tokens for member in members)
        context = sum(member.num_computed_before + member.num_tokens for member in members)
        requests = self.per_request * len(members)
        ns = self.constant + self.per_token * num_tokens + requests + self.per_context_token * context
        return ns // 1000
