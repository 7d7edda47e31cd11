"""The time of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reference.recorded import nanoseconds
from reference.sglang.state import Member


@dataclass(frozen=True)
class Clock:
    """The time of a batch: coefficients in ns, times in whole microseconds."""

    constant: int
    per_token: int = 0
    per_request: int = 0
    per_context_token: int = 0  # computed before or in this batch

    def __call__(self, members: Sequence[Member]) -> int:
        ns = nanoseconds(members, self.constant, self.per_token, self.per_request, self.per_context_token)
        return ns // 1000
