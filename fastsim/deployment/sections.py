"""The groups of settings in a deployment file: router, memory, scheduler and predictor."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from fastsim.deployment.fields import OR_FUNCTION, AtTokens, Group, count, name, pairs, setting, switch, term
from fastsim.deployment.schedulers import PolicyName, SchedulePolicy, SchedulingPolicy

RouterPolicy = Literal[
    "round_robin",
    "random",
    "least_outstanding",
    "least_waiting",
    "least_kv",
    "prefix_aware",
    "weighted",
    "session",
    "pinned",
]
Planner = Literal["fastsim", "vidur"]
Compose = Literal["fastsim", "vidur"]
Kernels = Literal["vllm", "sglang", "trtllm"]


def weight(of: str, example: float) -> Any:
    return setting(f"weight of {of}: weighted", "a number from 0 up to 1e6", example, default=None, ge=0, le=1e6)


PoolChoice = Literal["load", "prompt_length", "cost"]


class Router(Group):
    """Which replica a request goes to. A policy has the settings that name it; null: as the public router has them."""

    policy: Annotated[RouterPolicy, *OR_FUNCTION] = setting(
        "how a replica is chosen, or file.py:function", "a router", "random", default="round_robin"
    )
    pools: PoolChoice = setting(
        "which pool a request goes to: any, as policy has it (load), the first that takes prompts of its length "
        "(prompt_length), or the cheapest that has room (cost)",
        "a rule",
        "prompt_length",
        default="load",
    )
    cache_threshold: float | None = setting(
        "a request goes to a cache that holds more than this share of its prompt: prefix_aware",
        "a fraction from 0 to 1",
        0.3,
        default=None,
        ge=0,
        le=1,
    )
    balance_abs_threshold: int | None = count(
        "caches are ignored where the most outstanding requests exceed the fewest by more: prefix_aware",
        64,
        None,
        2**31 - 1,
        least=0,
    )
    balance_rel_threshold: float | None = setting(
        "and exceed this many times the fewest as well: prefix_aware",
        "a number from 0 up to 1e6",
        1.5,
        default=None,
        ge=0,
        le=1e6,
    )
    kv_aware_threshold: int | None = count(
        "a request goes to a cache that lacks at most so many tokens of its prompt; null: any: prefix_aware",
        2000,
        None,
        2**31 - 1,
        least=0,
    )
    prefix_cache_weight: float | None = weight("the share of the prompt that is cached", 2.0)
    kv_cache_utilization_weight: float | None = weight("the share of the KV blocks that are free", 1.0)
    queue_weight: float | None = weight("how short the queue is", 1.0)


class KvTransfer(Group):
    """How KV goes from the replicas that prefill to those that decode."""

    link_gb_s: float = setting(
        "the network links of a replica together, GB/s, which its transfers share",
        "a number above 0 up to 1e6",
        50.0,
        gt=0,
        le=1e6,
    )
    latency_us: float = setting(
        "from the last byte until both replicas may know, microseconds",
        "a number from 0.01 up to 1e7",
        20.0,
        default=20.0,
        ge=0.01,
        le=1e7,
    )
    layerwise: bool = setting(
        "the KV of a layer leaves as soon as it is computed; false: all of it after the prefill",
        "true or false",
        True,
        default=False,
    )
    min_prompt_tokens: int = count("shorter prompts are computed where they decode", 512, 0, 2**24, least=0)


class Memory(Group):
    """Which planner decides how many KV blocks there are."""

    planner: Planner = setting(
        "fastsim (as vLLM profiles) or vidur (its formula, for parity)",
        "a planner",
        "vidur",
        default="fastsim",
    )


class Scheduler(Group):
    """How a replica forms its batches. A policy ignores the limits that it does not have.

    Fields that are None are filled when the deployment is resolved, by the engine where there is one.
    """

    policy: Annotated[PolicyName | None, *OR_FUNCTION] = setting(
        "scheduling policy, or file.py:function; null: that of the engine",
        "a policy",
        "vllm",
        default=None,
    )
    max_num_seqs: int | None = count("requests that run at once, over all pipeline stages", 128, None, 2**16)
    max_num_batched_tokens: int | None = count("tokens of an iteration: vllm_v1, vllm, lightllm", 4096, None, 2**24)
    chunk_size: int | None = count("tokens of an iteration: sarathi", 512, None, 2**24)
    block_size: int | None = count("tokens of a KV block", 16, None, 2**16)
    watermark: float | None = setting(
        "share of the KV blocks that admission leaves free",
        "a fraction from 0 to below 1",
        0.01,
        default=None,
        ge=0,
        lt=1,
    )
    max_waiting_iters: int | None = count("decodes between prefills: lightllm", 10, None, 2**31 - 1, least=0)
    num_blocks: int | None = count(
        "usable KV blocks of a replica, without vLLM's null block; null: as planned", 8192, None, 2**31 - 1
    )
    scheduling_policy: SchedulingPolicy | None = setting(
        "fcfs, or priority (column priority, lower first): vllm_v1", "an order", "priority", default=None
    )
    enable_prefix_caching: bool | None = switch("requests share the KV blocks of equal prefixes: vllm_v1")
    enable_chunked_prefill: bool | None = switch("prompts are computed in chunks: vllm_v1")
    async_scheduling: bool | None = switch("a batch is formed while the one before it runs: vllm_v1")
    long_prefill_token_threshold: int | None = count(
        "most tokens of a request in an iteration, 0: no such limit: vllm_v1", 512, None, 2**24, least=0
    )
    scheduler_reserve_full_isl: bool | None = switch("only requests whose tokens all have room are admitted: vllm_v1")
    empty_step_sleep_s: float | None = setting(
        "what an engine sleeps after a step without tokens, s: vllm_v1",
        "a number from 0 up",
        0.001,
        default=None,
        ge=0,
        le=3600,
    )
    # The settings of policy sglang have SGLang's names.
    schedule_policy: SchedulePolicy | None = setting(
        "fcfs, or lpm (longest prefix match first): sglang", "an order", "lpm", default=None
    )
    chunked_prefill_size: int | None = setting(
        "prompt tokens of an iteration, -1: prompts are not cut: sglang",
        "-1, or a positive integer up to 16777216",
        8192,
        default=None,
        ge=-1,
        le=2**24,
    )
    max_prefill_tokens: int | None = count(
        "prompt tokens of an iteration, if prompts are whole: sglang", 16384, None, 2**24
    )
    page_size: int | None = count("tokens of a page of the KV cache: sglang", 1, None, 2**16)
    max_total_num_tokens: int | None = count(
        "tokens of a replica's KV cache; null: as planned: sglang", 400_000, None, 2**31 - 1
    )
    max_running_requests: int | None = count("requests that run at once: sglang", 256, None, 2**16)
    schedule_conservativeness: float | None = setting(
        "how much of their outputs requests are expected to need: sglang",
        "a number from 0 up to 10",
        1.0,
        default=None,
        ge=0,
        le=10,
    )
    enable_mixed_chunk: bool | None = switch("decodes join the iterations of prompts: sglang")
    disable_radix_cache: bool | None = switch("requests do not share the KV cache of equal prefixes: sglang")
    disable_overlap_schedule: bool | None = switch("a batch is formed once the one before it has ended: sglang")
    ignore_eos: bool | None = switch("all requests are sent with ignore_eos: sglang")


class Affine(Group):
    """The time of a batch on each stage as a sum of terms, in ns. Context: all tokens of its sequences so far."""

    constant_ns: float = term("of every batch", 2_000_000)
    per_token_ns: float = term("for each token that is computed", 1500)
    per_sequence_ns: float = term("for each sequence", 20_000)
    per_context_token_ns: float = term("for each token of context, those of the batch included", 3)
    per_prefill_token_ns: float = term("for each token of a prompt besides", 500)
    per_decode_ns: float = term("for each decode besides", 10_000)
    per_attention_pair_ns: float = term(
        "for each pair of a token in a chunk of a prompt, of more than one token, and a token that it attends to", 0.2
    )
    by_tokens_ns: Annotated[tuple[AtTokens, ...], BeforeValidator(pairs)] | None = setting(
        "by the number of tokens that are computed, besides: pairs of tokens and ns, straight in between, and beyond "
        "the last as at the last",
        "a list of pairs [tokens, ns]",
        [[1, 500_000], [8, 0]],
        default=None,
        min_length=1,
        max_length=256,
    )
    tick_s: float | None = setting(
        "a stage takes as many ticks of this length as the sum has whole microseconds, on the clock of vLLM's "
        "recordings; null: the sum, s",
        "a positive number up to 3600",
        2**-20,
        default=None,
        gt=0,
        le=3600,
    )


GIVEN_TIMES = ("affine", "tables", "vidur")  # kinds of sources that have no operators of fastsim's


class Predictor(Group):
    """Where operator times come from, and how they are composed into the time of an iteration."""

    source: str = name("default, aic, affine, vidur:DIR, profile:DIR or tables:DIR", "default", default="default")
    affine: Affine | None = setting(
        "terms of source affine", "a group of settings", {"constant_ns": 2_000_000}, default=None
    )
    compose: Compose = setting(
        "fastsim, or vidur (its rounding and aggregation, for parity)", "a way", "vidur", default="fastsim"
    )
    kernels: Kernels | None = setting(
        "whose attention and all-reduce: vllm, sglang or trtllm; null: the engine's, else vLLM's",
        "a framework",
        "sglang",
        default=None,
    )
