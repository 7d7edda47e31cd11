"""A short notation for what an implementation of SGLang did, for its tests."""

from __future__ import annotations

from reference.sglang.clock import Clock
from reference.sglang.loop import Outcome

TEN_MS = Clock(10_000_000)  # every batch


def batches(outcome: Outcome) -> list[str]:
    """Each batch: "A952+B500" gives 952 tokens to the first request and 500 to the second."""
    return [
        "+".join(f"{chr(ord('A') + member.request.id)}{member.num_tokens}" for member in batch.members)
        for batch in outcome.batches
    ]


def starts(outcome: Outcome) -> list[float]:
    """When the batches started, us."""
    return [batch.started_at for batch in outcome.batches]
