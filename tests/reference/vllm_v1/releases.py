"""What differs between the releases of vLLM whose V1 scheduler the twin follows, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Release:
    """One release: each field is a rule that at least one other release does not have, or has in another form."""

    name: str
    whole_prompt_check: bool  # a request is admitted only if all its known tokens fit in the free blocks
    unhashed_blocks_first: bool  # a freed block without a hash goes to the head of the free queue
    has_watermark: bool  # a share of the blocks stays free when a request is admitted beside others
    threshold_ignored_alone: bool  # one request in the system is not cut at long_prefill_token_threshold
    no_chunking_skips: bool  # without chunked prefill, a prompt beyond the budget lets those behind it pass
    resume_waits_for_results: bool  # a preempted request is skipped while a batch with it is in flight
    priority_requester_goes_on: bool  # a request that preempts itself does not end the loop over running ones
    priority_victim_keeps_tokens: bool  # a victim that already has tokens stays in the batch, without blocks
    # When the loop over running requests steps its index back after a victim: never, if the victim had been given
    # tokens in this call, or if it stood earlier in the list.
    priority_steps_back: Literal["never", "if_scheduled", "if_earlier"]
    async_wastes_a_slot: bool  # one more token is scheduled after the one that reaches max_tokens
    # With a pipeline and asynchronous scheduling, a request with a token in flight is scheduled again: never, in every
    # batch, or from the call on that comes num_stages calls later. None: the release cannot have both.
    pp_async: Literal["never", "every_batch", "after_num_stages_calls"] | None
    # When the engine schedules another batch without waiting for the oldest one in its queue, given that there is
    # room: the last batch has tokens and the oldest is still running; it has tokens; it has tokens or there is work.
    queue_rule: Literal["tokens_and_oldest_runs", "tokens", "tokens_or_work"]
    # What must be left after a turn without tokens for the engine to sleep.
    sleeps_with: Literal["never", "unfinished", "work"]


V0_11 = Release(
    name="0.11",
    whole_prompt_check=False,
    unhashed_blocks_first=False,
    has_watermark=False,
    threshold_ignored_alone=False,
    no_chunking_skips=True,
    resume_waits_for_results=False,
    priority_requester_goes_on=False,
    priority_victim_keeps_tokens=True,
    priority_steps_back="never",
    async_wastes_a_slot=True,
    pp_async=None,
    queue_rule="tokens_and_oldest_runs",
    sleeps_with="never",
)

V0_15 = replace(
    V0_11,
    name="0.15",
    no_chunking_skips=False,
    priority_victim_keeps_tokens=False,
    priority_steps_back="if_scheduled",
    async_wastes_a_slot=False,
    pp_async="never",
    queue_rule="tokens",
    sleeps_with="unfinished",
)

V0_19 = replace(V0_15, name="0.19", whole_prompt_check=True, pp_async="every_batch")

V0_33 = replace(
    V0_19,
    name="0.33",
    unhashed_blocks_first=True,
    has_watermark=True,
    threshold_ignored_alone=True,
    resume_waits_for_results=True,
    priority_requester_goes_on=True,
    priority_steps_back="if_earlier",
    pp_async="after_num_stages_calls",
    queue_rule="tokens_or_work",
    sleeps_with="work",
)

RELEASES = {release.name: release for release in (V0_11, V0_15, V0_19, V0_33)}
