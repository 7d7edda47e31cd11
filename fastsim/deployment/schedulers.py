"""What each scheduling policy is, stated once: how it bounds a batch, keeps memory, and which engines run it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from fastsim.deployment.engines import Release
from fastsim.deployment.sglang import releases as sglang_releases

PolicyName = Literal["vllm", "sarathi", "orca", "lightllm", "faster_transformer", "vllm_v1", "sglang"]
SchedulePolicy = Literal["fcfs", "lpm"]
SchedulingPolicy = Literal["fcfs", "priority"]


@dataclass(frozen=True, slots=True)
class Policy:
    """A scheduling policy as the rest of fastsim sees it; the kernel of the same name forms its batches.

    Attributes
    ----------
    name : its name in deployment files, or ``file.py:function`` for a user's own.
    meaning : one line for ``fastsim catalog policies``.
    token_budget : the setting that bounds the tokens of a batch; None where only the number of requests is bounded.
    chunked : whether a prompt may be spread over several batches. A policy with a token budget that does not chunk
        can never schedule a prompt longer than the budget.
    blocks_grow : whether a request holds blocks for the tokens it has so far; otherwise it reserves max_model_len ones.
    keeps_watermark : whether admission leaves ``watermark_blocks`` free.
    preempts : whether a running request may lose its blocks and start again.
    pipelines : whether the policy runs with more than one pipeline stage.
    block_size : default number of tokens in a KV block.
    block_size_is_fixed : whether no other block size is possible.
    engines : the engines that can be launched with the policy (``fastsim launch``).
    """

    name: str
    meaning: str
    token_budget: Literal["chunk_size", "max_num_batched_tokens", "chunked_prefill_size"] | None
    chunked: bool
    blocks_grow: bool
    keeps_watermark: bool
    preempts: bool
    pipelines: bool
    block_size: int = 16
    block_size_is_fixed: bool = False
    engines: tuple[str, ...] = ()


POLICIES: Mapping[str, Policy] = {
    policy.name: policy
    for policy in (
        Policy(
            name="vllm",
            meaning="vLLM v0: whole prompts first, else one token for every running request",
            token_budget="max_num_batched_tokens",
            chunked=False,
            blocks_grow=True,
            keeps_watermark=True,
            preempts=True,
            pipelines=True,
            engines=("vllm", "sglang"),
        ),
        Policy(
            name="sarathi",
            meaning="Sarathi-Serve: decodes first, then prompts in chunks up to chunk_size tokens a batch",
            token_budget="chunk_size",
            chunked=True,
            blocks_grow=True,
            keeps_watermark=True,
            preempts=True,
            pipelines=True,
            engines=("vllm", "sglang"),
        ),
        Policy(
            name="orca",
            meaning="Orca: iteration-level batching; reserves memory for the longest sequence",
            token_budget=None,
            chunked=False,
            blocks_grow=False,
            keeps_watermark=False,
            preempts=False,
            pipelines=True,
        ),
        Policy(
            name="lightllm",
            meaning="LightLLM: admits a prompt when the peak of all running requests will still fit",
            token_budget="max_num_batched_tokens",
            chunked=False,
            blocks_grow=True,
            keeps_watermark=False,
            preempts=False,
            pipelines=False,
            block_size=1,
            block_size_is_fixed=True,
        ),
        Policy(
            name="faster_transformer",
            meaning="FasterTransformer: a batch stays together until all its requests finish",
            token_budget=None,
            chunked=False,
            blocks_grow=False,
            keeps_watermark=False,
            preempts=False,
            pipelines=True,
        ),
        Policy(
            name="vllm_v1",
            meaning="vLLM V1: one list of requests in order of admission, prompts in chunks, by release of the engine",
            token_budget="max_num_batched_tokens",
            chunked=True,
            blocks_grow=True,
            keeps_watermark=True,
            preempts=True,
            pipelines=True,
            engines=("vllm",),
        ),
        Policy(
            name="sglang",
            meaning="SGLang: prompts first, else a token for every running request, by release of the engine",
            token_budget="chunked_prefill_size",
            chunked=True,
            blocks_grow=True,
            keeps_watermark=False,
            preempts=True,
            pipelines=False,
            block_size=1,
            engines=("sglang",),
        ),
    )
}


def is_function(policy: str) -> bool:
    """Whether a policy is a function of the user's, file.py:function."""
    return ".py:" in policy


def of(policy: str) -> Policy:
    """The record of a policy; users' own functions all have the same traits, under the function's name."""
    return user_function(policy) if is_function(policy) else POLICIES[policy]


def user_function(name: str) -> Policy:
    """The traits of a user's own scheduler: what fastsim enforces for it, or has to allow."""
    return Policy(
        name=name,
        meaning="a function of the user's",
        token_budget="max_num_batched_tokens",
        chunked=True,
        blocks_grow=True,
        keeps_watermark=True,
        preempts=True,
        pipelines=True,
    )


@dataclass(frozen=True, slots=True)
class SglangSettings:
    """The settings that only policy sglang has; Settings has the others, by what they are called elsewhere."""

    release: sglang_releases.Release
    schedule_policy: SchedulePolicy
    chunked_prefill_size: int | None  # tokens; None: prompts are not cut
    max_prefill_tokens: int
    schedule_conservativeness: float
    enable_mixed_chunk: bool
    disable_radix_cache: bool
    disable_overlap_schedule: bool
    ignore_eos: bool
    mem_fraction_static: float  # that the engine would take by itself
    decode_graphs: tuple[int, ...]  # sizes of decode batches with a CUDA graph


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a scheduler with every default filled; a policy ignores those that it does not have."""

    policy: Policy
    max_num_seqs: int  # requests that run at once, over all pipeline stages
    max_num_batched_tokens: int  # tokens of an iteration, where that is the policy's budget
    chunk_size: int  # tokens of an iteration, where that is the policy's budget
    block_size: int  # tokens of a KV block
    watermark: float  # share of the KV blocks that admission leaves free
    max_waiting_iters: int  # decode iterations between prefills (lightllm)
    # The others are vllm_v1's; of other policies they hold what comes closest.
    release: Release | None  # whose rules hold; None for other policies
    scheduling_policy: SchedulingPolicy
    enable_prefix_caching: bool
    enable_chunked_prefill: bool
    async_scheduling: bool
    long_prefill_token_threshold: int  # most tokens of a request in a batch; 0: as many as the batch holds
    scheduler_reserve_full_isl: bool  # whether a request is admitted only if all its tokens so far have room
    empty_step_sleep_s: float  # how long the engine sleeps after a step that scheduled nothing, s
    batch_queue_depth: int  # batches in flight
    sglang: SglangSettings | None = None  # of policy sglang

    @property
    def chunked_prefill_size(self) -> int:
        """The budget of policy sglang: max_prefill_tokens where prompts are not cut."""
        return self.chunk_size

    @property
    def whole_prompts(self) -> bool:
        """Whether a prompt is computed in one batch, so that it must fit into its token budget."""
        return not self.enable_chunked_prefill and self.long_prefill_token_threshold == 0

    @property
    def token_budget(self) -> int | None:
        """Tokens that a batch may hold; None where the policy does not bound them."""
        field = self.policy.token_budget
        return None if field is None else int(getattr(self, field))
