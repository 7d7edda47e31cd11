"""What the twin of vLLM V1 schedules: requests and their settings, and what it records of each call.

Times have no unit of their own: integers (microseconds of a recording) stay integers, seconds are floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Hash = int | tuple[int, int]  # given with the request, or private: (request, block)


@dataclass(frozen=True)
class Settings:
    """Settings in vLLM's names, save that ``num_blocks`` counts usable blocks (num_gpu_blocks less the null block)."""

    num_blocks: int
    policy: Literal["fcfs", "priority"] = "fcfs"
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 2048
    max_model_len: int = 4096
    block_size: int = 16
    enable_prefix_caching: bool = True
    enable_chunked_prefill: bool = True
    long_prefill_token_threshold: int = 0
    async_scheduling: bool = False
    num_stages: int = 1
    scheduler_reserve_full_isl: bool = True  # read by releases with a whole-prompt check
    watermark: float = 0.0  # share of all blocks, the null block included
    empty_step_sleep: float = 0
    executor_blocks: bool = (
        False  # the model runs in the engine's process, so sending a batch takes as long as the batch
    )
    awaits_tokens: bool = False  # a batch starts once the last stage has sampled the tokens that it computes


@dataclass
class Request:
    """One request: what the client sends, how far it is, and its times (None where they have not happened)."""

    arrived_at: float
    num_prompt_tokens: int
    num_output_tokens: int  # really produced
    max_tokens: int | None = None  # the limit that the engine knows; None: num_output_tokens
    ends_by_stop: bool = False  # the last output is a stop token, so the engine does not know the end before
    priority: int = 0  # lower is served first
    block_hashes: Sequence[int] = ()  # of the full blocks of prompt and outputs; blocks without one are private
    follows: int | None = None  # the request after whose end it arrives
    think_time: float = 0  # from that end on
    id: int = -1  # position in the stream

    status: Literal["waiting", "running", "preempted", "finished"] = "waiting"
    num_outputs: int = 0  # that the scheduler knows
    num_computed_tokens: int = 0  # advanced when tokens are scheduled, not when they have been computed
    num_placeholders: int = 0  # asynchronous scheduling: outputs in flight
    num_batches: int = 0  # in flight, with this request
    num_prefill_tokens: int = 0  # to compute before the next output, when it was last admitted
    sampled_in_call: int | None = None  # the last schedule() call that made it sample

    admitted_at: float | None = None
    first_token_at: float | None = None
    finished_at: float | None = None
    finish_reason: Literal["stop", "length"] | None = None
    token_times: list[float] = field(default_factory=list)
    num_preemptions: int = 0
    num_cached_tokens: int = 0  # found in the cache when it was admitted first

    @property
    def num_tokens(self) -> int:
        """All tokens that the scheduler knows."""
        return self.num_prompt_tokens + self.num_outputs

    @property
    def limit(self) -> int:
        """Most outputs, as the engine knows."""
        return self.num_output_tokens if self.max_tokens is None else self.max_tokens

    def block_hash(self, place: int) -> Hash:
        return self.block_hashes[place] if place < len(self.block_hashes) else (self.id, place)


class Member(NamedTuple):
    """A request in a batch."""

    request: Request
    num_tokens: int
    num_computed_before: int
    samples: bool  # whether the batch gives its next token


class Admission(NamedTuple):
    request_id: int
    num_cached_tokens: int


@dataclass
class Decision:
    """What one schedule() call decided, and when its batch ran. Counts are those after the call."""

    scheduled_at: float
    num_updates_before: int  # batches whose results were known
    members: list[Member]
    admitted: list[Admission]  # for the first time
    resumed: list[Admission]
    preempted: list[int]  # ids in order of eviction
    num_free_blocks: int
    num_running: int
    num_waiting: int
    started_at: float = 0  # on the first stage
    ended_at: float = 0  # after the last stage
    updated_at: float = 0

    @property
    def num_tokens(self) -> int:
        return sum(member.num_tokens for member in self.members)
