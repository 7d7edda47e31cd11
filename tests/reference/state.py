"""What the twin simulates: requests, batches, and the queues and memory of a replica."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

NEVER = math.nan
LOOP = -2


@dataclass
class Request:
    """One request: what was asked, how far it is, and its times in seconds (NaN where it never happened)."""

    arrived_at: float
    num_prompt_tokens: int
    num_output_tokens: int
    replica_id: int = 0  # read by the routers pinned and random, overwritten by the others
    follows: int | None = None  # the request whose end it waits for; LOOP: any end that no request follows
    think: float = 0.0  # s, after that end
    id: int = -1  # position in the stream
    prefill: int = 0  # prompt, and after a restart everything computed before it
    decode: int = 0  # prefill + decode never changes
    processed: int = 0
    scheduled_at: float = NEVER
    started_at: float = NEVER
    first_token_at: float = NEVER
    finished_at: float = NEVER
    execution_time: float = 0.0
    num_restarts: int = 0
    token_times: list[float] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)  # those that ended
    restarted_at: list[float] = field(default_factory=list)  # while it had all its tokens
    recomputed_at: list[float] = field(default_factory=list)  # when it had them again

    @property
    def is_prefill_complete(self) -> bool:
        return self.processed > self.prefill  # the end of a prefill adds the first output token at once

    @property
    def is_finished(self) -> bool:
        return self.processed == self.prefill + self.decode

    @property
    def preempted_time(self) -> float:
        return self.finished_at - self.started_at - self.execution_time

    @property
    def token_gaps(self) -> list[float]:
        """Seconds between tokens (TBT): one for each output token but the first."""
        return [b - a for a, b in zip(self.token_times, self.token_times[1:], strict=False)]

    def advance(self, time: float, tokens: int) -> None:
        self.processed += tokens
        if self.processed == self.prefill:
            if len(self.recomputed_at) < len(self.restarted_at):
                self.recomputed_at.append(time)
            if math.isnan(self.first_token_at):
                self.first_token_at = time
            self.processed += 1
        if self.is_prefill_complete:
            self.token_times.append(time)
        if self.is_finished:
            self.finished_at = time


class Entry(NamedTuple):
    """A request in a batch, as it was when the batch was formed."""

    processed: int
    prefill: int
    tokens: int

    @property
    def is_decode(self) -> bool:
        return self.processed > self.prefill


@dataclass
class Batch:
    requests: list[Request]
    entries: list[Entry]
    spells: list[tuple[float, float]] = field(default_factory=list)  # on stages, from and to, s

    @property
    def num_tokens(self) -> int:
        return sum(entry.tokens for entry in self.entries)

    @property
    def num_prefill_tokens(self) -> int:
        return sum(entry.tokens for entry in self.entries if not entry.is_decode)


@dataclass(frozen=True)
class Settings:
    policy: str = "vllm"  # vllm, sarathi, orca, lightllm, faster_transformer
    router: str = "round_robin"  # round_robin, random, pinned, least_outstanding, least_waiting, least_kv
    num_replicas: int = 1
    num_stages: int = 1
    num_blocks: int = 1024
    block_size: int = 16
    watermark_blocks: int = 0
    max_num_seqs: int = 128
    micro_batch_size: int = 128  # max_num_seqs // num_stages
    max_batch_size: int = 128  # orca, faster_transformer
    blocks_per_sequence: int = 256  # orca, faster_transformer
    max_num_batched_tokens: int = 4096  # vllm, lightllm
    chunk_size: int = 512  # sarathi
    max_waiting_iters: int = 10  # lightllm


class Restart(NamedTuple):
    """The values just before the reset."""

    time: float
    request_id: int
    processed: int
    prefill: int
    decode: int


@dataclass
class Stage:
    queue: list[Batch] = field(default_factory=list)
    is_busy: bool = False


@dataclass
class Replica:
    """The queues and the memory of one replica, and what its scheduling policy may do to them."""

    id: int
    settings: Settings
    restarts: list[Restart]  # shared by all replicas
    waiting: list[Request] = field(default_factory=list)
    running: list[Request] = field(default_factory=list)  # unfinished requests of ended batches
    static_batches: list[list[Request]] = field(default_factory=list)  # the same for faster_transformer, by batch
    static_batch_of: dict[int, list[Request]] = field(default_factory=dict)  # by id: all requests of its batch
    blocks: dict[int, int] = field(default_factory=dict)  # blocks held, by request id
    num_batches: int = 0  # in flight
    num_waited: int = 0  # lightllm: decode batches since the last try to prefill
    num_outstanding: int = 0
    outcome: str = "done"
    stuck_head: int | None = None

    def __post_init__(self) -> None:
        self.num_free = self.settings.num_blocks
        self.stages = [Stage() for _ in range(self.settings.num_stages)]

    def allocate(self, request: Request, num_blocks: int) -> None:
        self.blocks[request.id] = self.blocks.get(request.id, 0) + num_blocks
        self.num_free -= num_blocks

    def free(self, request: Request) -> None:
        self.num_free += self.blocks.pop(request.id)

    def prompt_blocks(self, request: Request) -> int:
        return -(-request.prefill // self.settings.block_size)

    def can_admit(self, request: Request) -> bool:
        return self.num_free - self.prompt_blocks(request) >= self.settings.watermark_blocks

    def restart(self, request: Request, time: float) -> None:
        """Take a request's memory away; what it has computed becomes its prompt."""
        self.restarts.append(Restart(time, request.id, request.processed, request.prefill, request.decode))
        if len(request.recomputed_at) == len(request.restarted_at):
            request.restarted_at.append(time)
        request.decode = request.prefill + request.decode - request.processed
        request.prefill, request.processed = request.processed, 0
        request.num_restarts += 1
        self.free(request)
        self.waiting.insert(0, request)

    def make_room(self, request: Request, time: float) -> bool:
        """One free block for a decode, even if its last has room; False if the request itself had to go."""
        while self.num_free < 1:
            victim = self.running.pop() if self.running else request
            self.restart(victim, time)
            if victim is request:
                return False
        if request.processed > self.blocks[request.id] * self.settings.block_size:
            self.allocate(request, 1)
        return True
