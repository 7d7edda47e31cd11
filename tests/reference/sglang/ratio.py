"""The share of their remaining outputs that running requests are expected to produce before others have ended."""

from __future__ import annotations

from collections.abc import Sequence

from reference.sglang.decode import DECODES_AHEAD
from reference.sglang.state import Request

START, FLOOR = 0.7, 0.14  # of conservativeness 1, and of the start
DECODES_TO_FLOOR = 600


class Ratio:
    """It falls with each decode, rises with a retraction, and starts anew when the engine is idle."""

    def __init__(self, conservativeness: float) -> None:
        self.start = min(START * conservativeness, 1.0)
        self.floor = min(FLOOR * self.start, 1.0)
        self.step = (self.start - self.floor) / DECODES_TO_FLOOR
        self.value = self.start

    def reset(self) -> None:
        self.value = self.start

    def decay(self) -> None:
        self.value = max(self.value - self.step, self.floor)

    def estimate(self, requests: Sequence[Request]) -> None:
        """Take what the requests that stay after a retraction have produced, and shall soon, of all they may."""
        produced = sum(request.num_outputs + DECODES_AHEAD for request in requests)
        self.value = min(1.0, produced / (sum(request.limit for request in requests) + 1))
