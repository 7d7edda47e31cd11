"""Whether all requests can be served to their ends, where the engine knows that none of them stops early."""

from __future__ import annotations

from collections.abc import Sequence

from reference.sglang.state import Request


class Lifetimes:
    """Outputs that are left to each request, and the tokens that it holds now, mostly in order of the ends."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self.entries = sorted((entry(each) for each in requests if entry(each)[0] > 0), key=lambda entry: entry[0])

    def insert(self, request: Request) -> None:
        """Add a request before the first that ends no earlier; the engine puts the last one to end next to last."""
        left, held = entry(request)
        places = (place for place, (other, _) in enumerate(self.entries) if left <= other)
        self.entries.insert(next(places, max(len(self.entries) - 1, 0)), (left, held))

    def fit(self, num_slots: int) -> bool:
        """Whether so many free slots, and those of requests that have ended before, last until each one ends."""
        for place, (left, held) in enumerate(self.entries):
            num_going = len(self.entries) - place
            if num_slots - left * num_going <= num_going:
                return False
            num_slots += held
        return True


def entry(request: Request) -> tuple[int, int]:
    return request.limit - request.num_outputs, request.num_tokens
