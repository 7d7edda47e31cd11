"""Implementations of vLLM V1 that its tests run, all called alike, and a short notation for what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reference.vllm_v1.engine import Outcome, simulate
from reference.vllm_v1.recordings import Clock
from reference.vllm_v1.releases import Release
from reference.vllm_v1.state import Request, Settings
from vllm_v1_kernel import serve

Serve = Callable[[Sequence[Request], Settings, Release, Clock], Outcome]
IMPLEMENTATIONS: dict[str, Serve] = {"twin": simulate, "kernel": serve}

TEN_MS = Clock(10_000_000)  # every batch, on every stage


def batches(outcome: Outcome) -> list[str]:
    """The batches that have tokens: "A952+B500" gives 952 tokens to the first request and 500 to the second."""
    return [
        "+".join(f"{chr(ord('A') + member.request.id)}{member.num_tokens}" for member in decision.members)
        for decision in outcome.decisions
        if decision.members
    ]


def starts(outcome: Outcome) -> list[float]:
    """When those batches started on the first stage, us."""
    return [decision.started_at for decision in outcome.decisions if decision.members]
