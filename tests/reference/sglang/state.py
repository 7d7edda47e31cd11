"""What the twin of SGLang schedules: requests and their settings, and what it records of each batch.

Times have no unit of their own: integers (microseconds of a recording) stay integers, seconds are floats.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from reference.sglang.tree import Node, Page


@dataclass(frozen=True)
class Settings:
    """Settings in SGLang's names."""

    max_total_num_tokens: int  # KV slots, a whole number of pages
    page_size: int = 1
    schedule_policy: Literal["fcfs", "lpm"] = "fcfs"
    chunked_prefill_size: int | None = 8192  # None: prompts are not cut
    max_prefill_tokens: int = 16384
    max_running_requests: int = 256
    schedule_conservativeness: float = 1.0
    enable_mixed_chunk: bool = False
    disable_radix_cache: bool = False
    disable_overlap_schedule: bool = False
    ignore_eos: bool = False  # every request is sent with it

    @property
    def mixed(self) -> bool:
        """Whether decodes may join a prefill batch."""
        return self.enable_mixed_chunk and self.chunked_prefill_size is not None

    def whole_pages(self, num_tokens: int) -> int:
        """Tokens in the pages that so many tokens fill."""
        return num_tokens // self.page_size * self.page_size

    def paged(self, num_tokens: int) -> int:
        """Slots in the pages that so many tokens need."""
        return -(-num_tokens // self.page_size) * self.page_size


@dataclass(eq=False)
class Request:
    """One request: what the client sends, how far it is, and its times (None where they have not happened)."""

    arrived_at: float
    num_prompt_tokens: int
    num_output_tokens: int  # really produced
    max_tokens: int | None = None  # the limit that the engine knows; None: num_output_tokens
    ends_by_stop: bool = False  # the last output is a stop token, so the engine does not know the end before
    tokens: Sequence[Hashable] = ()  # of prompt and outputs; those that are left out are private
    follows: int | None = None  # the request after whose end it arrives
    think_time: float = 0  # from that end on
    id: int = -1  # position in the stream

    status: Literal["waiting", "running", "finished"] = "waiting"
    num_outputs: int = 0  # that the scheduler knows
    num_in_flight: int = 0  # outputs of batches whose results it does not know
    num_computed: int = 0  # tokens whose KV is there before the next extend
    num_filled: int = 0  # tokens whose KV is there after the last extend
    num_slots: int = 0  # KV slots in use
    num_in_tree: int = 0  # leading tokens that the tree owns, under a lock of this request
    node: Node | None = None  # the node in which those tokens end

    admitted_at: float | None = None
    first_token_at: float | None = None
    finished_at: float | None = None
    finish_reason: Literal["stop", "length"] | None = None
    token_times: list[float] = field(default_factory=list)
    num_retractions: int = 0
    num_cached_tokens: int = 0  # found in the tree when it was admitted first

    @property
    def num_tokens(self) -> int:
        """All tokens that the scheduler knows."""
        return self.num_prompt_tokens + self.num_outputs

    @property
    def limit(self) -> int:
        """Most outputs, as the engine knows."""
        return self.num_output_tokens if self.max_tokens is None else self.max_tokens

    @property
    def is_finished(self) -> bool:
        return self.status == "finished"

    def pages(self, num_tokens: int, page_size: int) -> list[Page]:
        """The pages that its first tokens fill."""
        tokens = list(self.tokens[:num_tokens])
        tokens += [(self.id, place) for place in range(len(tokens), num_tokens)]
        if page_size == 1:
            return list(tokens)
        return [tuple(tokens[end - page_size : end]) for end in range(page_size, num_tokens + 1, page_size)]


class Member(NamedTuple):
    """A request in a batch."""

    request: Request
    num_tokens: int
    num_computed_before: int
    samples: bool  # whether the batch gives its next token
    is_decode: bool
    num_retractions: int  # of the request, when the batch was launched


@dataclass
class Batch:
    """What one pass launched, and when it ran. Counts are those after scheduling."""

    mode: Literal["prefill", "decode", "mixed"]
    members: list[Member]
    chunked: Request | None  # the request whose prompt this batch leaves incomplete
    scheduled_at: float = 0
    num_results_before: int = 0  # handled before it was scheduled
    retracted: list[int] = field(default_factory=list)  # ids in order of retraction
    num_free: int = 0  # KV slots
    num_evictable: int = 0  # tokens of the tree that no request uses
    num_running: int = 0
    num_waiting: int = 0
    is_full: bool = False
    num_idle_passes: int = 0  # so far
    new_token_ratio: float = 0
    started_at: float = 0
    ended_at: float = 0
    updated_at: float = 0

    @property
    def num_tokens(self) -> int:
        return sum(member.num_tokens for member in self.members)


@dataclass
class Running:
    """The requests that decode, and whether prefills are pointless until one of them leaves."""

    requests: list[Request] = field(default_factory=list)
    is_full: bool = False


class CrashError(Exception):
    """The engine ends here: it has formed a batch that it cannot run."""
