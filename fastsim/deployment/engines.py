"""Releases of vLLM: how the scheduler of engine V1 differs between them, and what each takes where a setting is open.

Four releases are certified: the simulated scheduler takes the same steps as their unmodified one (tests/golden_v1).
The others take the rules of a certified release close to them, with the defaults of their own that are known. The
sources of the releases 0.8.5, 0.11.0, 0.14.1, 0.15.1, 0.19.0 and 0.33.0 were read for both.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from fastsim.catalog.hardware import Device
from fastsim.deployment.memory.reserve import FROM_0_18, OF_0_17, UP_TO_0_16, Reserve
from fastsim.errors import ConfigError, did_you_mean
from fastsim.files.documents import short

RELEASE = re.compile(r"(vllm-\d+\.\d+)(?:\.\d+)?")
LARGE_GIB, LARGEST_GIB = 70, 160  # of GPU memory, from which on a server takes larger limits by default


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of vLLM: the rules of its scheduler, and its defaults.

    Attributes
    ----------
    name : such as vllm-0.19.
    certified : whether the scheduler of this very release was recorded, and every step is the same.
    certified_as : the certified release whose rules it takes; of a certified release its own name.
    whole_prompt_check : whether a request is admitted only if all its tokens so far have room in the free blocks, which
        scheduler_reserve_full_isl switches off.
    unhashed_first : whether freed blocks without a hash are reused first; otherwise all go to the end of the queue.
    threshold_alone : whether long_prefill_token_threshold holds where there is at most one request, too.
    requester_goes_on : whether the running requests behind a request that was its own victim still get tokens in the
        same step; under FCFS there are none.
    victim_steps_back : when the loop over running requests goes back by one place for a victim in front of it: never,
        if the victim had been given tokens in this step, or always.
    async_extra_slot : whether asynchronous scheduling gives a token to a request whose last token is in flight.
    skips_prompts : whether, without chunked prefill, prompts that do not fit in the rest of a batch are passed over;
        otherwise they end the admission.
    victim_keeps_tokens : whether a victim that had been given tokens in this step stays in its batch.
    launches_while : when the next batch is formed without waiting for the oldest one: while that is running, if this
        batch has tokens, or if it has tokens or the scheduler has work.
    drains_before_resume : whether a preempted request is resumed only once its batches in flight have ended.
    async_pipelines : asynchronous scheduling with pipeline stages: none, a request is in one batch in flight at a
        time, in every batch, or takes its turn once every stage (turns).
    has_async : whether there is asynchronous scheduling.
    async_default : whether it is on by default.
    has_priority : whether the scheduler knows the policy priority.
    has_watermark : whether there is an option that keeps blocks free at admission.
    empty_step_sleep_s : how long an engine sleeps after a step that scheduled nothing, s.
    gpu_memory_utilization : the default.
    graph_memory_counts : whether the memory of CUDA graphs is taken off the KV cache.
    reserve : what the engine takes on a GPU beside weights and KV cache.
    a100_is_large : whether an A100 of 80 GB takes the limits of the larger GPUs.
    tokens_of_largest : max_num_batched_tokens by default on a GPU of 160 GiB or more.
    """

    name: str
    certified: bool
    certified_as: str
    whole_prompt_check: bool
    unhashed_first: bool
    threshold_alone: bool
    requester_goes_on: bool
    victim_steps_back: Literal["never", "scheduled", "always"]
    async_extra_slot: bool
    skips_prompts: bool
    victim_keeps_tokens: bool
    launches_while: Literal["running", "tokens", "work"]
    drains_before_resume: bool
    async_pipelines: Literal["none", "one_batch", "every_batch", "turns"]
    has_async: bool
    async_default: bool
    has_priority: bool
    has_watermark: bool
    empty_step_sleep_s: float
    gpu_memory_utilization: float
    graph_memory_counts: bool
    reserve: Reserve
    a100_is_large: bool
    tokens_of_largest: int

    @property
    def version(self) -> tuple[int, ...]:
        """The number of the release, such as (0, 19)."""
        return tuple(map(int, self.name.removeprefix("vllm-").split(".")))

    def limits(
        self, device: Device, length: int, chunked: bool, seqs: int | None = None, tokens: int | None = None
    ) -> tuple[int, int]:
        """What `vllm serve` takes as max_num_seqs and max_num_batched_tokens where ``seqs`` or ``tokens`` is None.

        ``length``: max_model_len. ``chunked``: whether prompts are computed in chunks.
        """
        large = device.memory_gib >= LARGE_GIB and (device.name != "a100" or self.a100_is_large)
        most, budget = (1024, 8192) if large else (256, 2048)
        if large and device.memory_gib >= LARGEST_GIB:
            budget = self.tokens_of_largest
        if tokens is None:
            tokens = max(min(budget if chunked else max(budget, length), (seqs or most) * length), seqs or 1)
        return seqs or min(most, tokens), tokens

    def is_async(self, num_stages: int) -> bool:
        """Whether scheduling is asynchronous by default, with this number of pipeline stages."""
        return self.async_default and (num_stages == 1 or self.async_pipelines != "none")

    def batch_queue_depth(self, num_stages: int, is_async: bool) -> int:
        """How many batches the engine keeps in flight."""
        if num_stages == 1:
            return 2 if is_async else 1
        return num_stages + (is_async and self.async_pipelines == "turns")


_V0_11 = Release(
    name="vllm-0.11",
    certified=True,
    certified_as="vllm-0.11",
    whole_prompt_check=False,
    unhashed_first=False,
    threshold_alone=True,
    requester_goes_on=False,
    victim_steps_back="never",
    async_extra_slot=True,
    skips_prompts=True,
    victim_keeps_tokens=True,
    launches_while="running",
    drains_before_resume=False,
    async_pipelines="none",
    has_async=True,
    async_default=False,
    has_priority=True,
    has_watermark=False,
    empty_step_sleep_s=0.0,
    gpu_memory_utilization=0.9,
    graph_memory_counts=False,
    reserve=UP_TO_0_16,
    a100_is_large=False,
    tokens_of_largest=8192,
)
_V0_15 = replace(
    _V0_11,
    name="vllm-0.15",
    certified_as="vllm-0.15",
    victim_steps_back="scheduled",
    async_extra_slot=False,
    skips_prompts=False,
    victim_keeps_tokens=False,
    launches_while="tokens",
    async_pipelines="one_batch",
    async_default=True,
    empty_step_sleep_s=0.001,
)
_V0_19 = replace(
    _V0_15,
    name="vllm-0.19",
    certified_as="vllm-0.19",
    whole_prompt_check=True,
    async_pipelines="every_batch",
    reserve=FROM_0_18,
)
_V0_33 = replace(
    _V0_19,
    name="vllm-0.33",
    certified_as="vllm-0.33",
    unhashed_first=True,
    threshold_alone=False,
    requester_goes_on=True,
    victim_steps_back="always",
    launches_while="work",
    drains_before_resume=True,
    async_pipelines="turns",
    has_watermark=True,
    gpu_memory_utilization=0.92,
    graph_memory_counts=True,
    tokens_of_largest=16384,
)
# Asynchronous scheduling came with 0.10, is on by default from 0.14 and runs with pipelines from 0.15. The memory of
# CUDA graphs counts from 0.21.
_V0_10 = replace(_V0_11, name="vllm-0.10", certified=False, a100_is_large=True)
_V0_9 = replace(_V0_10, name="vllm-0.9", has_async=False)
_V0_8 = replace(_V0_9, name="vllm-0.8", has_priority=False)
_V0_12 = replace(_V0_11, name="vllm-0.12", certified=False)
_V0_14 = replace(_V0_15, name="vllm-0.14", certified=False, async_pipelines="none")
_V0_13 = replace(_V0_14, name="vllm-0.13", async_default=False)


def _like(release: Release, *minors: int) -> list[Release]:
    """Releases 0.``minor`` that were not certified, with all rules of ``release``."""
    return [
        replace(
            release,
            name=f"vllm-0.{minor}",
            certified=False,
            graph_memory_counts=release.graph_memory_counts or minor >= 21,
        )
        for minor in minors
    ]


RELEASES: Mapping[str, Release] = {
    release.name: release
    for release in (
        *(_V0_8, _V0_9, _V0_10, _V0_11, _V0_12, _V0_13, _V0_14, _V0_15),
        *_like(_V0_15, 16),
        replace(_like(_V0_19, 17)[0], reserve=OF_0_17),
        *_like(_V0_19, 18),
        _V0_19,
        *_like(_V0_19, 20, 21, 22, 23, 24, 25, 26),
        *_like(_V0_33, 27, 28, 29, 30, 31, 32),
        _V0_33,
    )
}
DEFAULT = _V0_33  # whose rules hold where neither an engine nor a policy of another name is given


def of(engine: str) -> Release:
    """The release that an engine's name means, such as vllm-0.19 or vllm-0.19.1. Raises ConfigError for any other."""
    found = RELEASE.fullmatch(engine)
    if found is None or found[1] not in RELEASES:
        oldest, *_, newest = RELEASES
        meant = did_you_mean(engine, RELEASES) if any(map(str.isdigit, engine)) else ""
        raise ConfigError(
            f"{short(engine)} is unknown; {meant if meant.startswith('did') else f'valid: {oldest} to {newest}'}"
        )
    return RELEASES[found[1]]


def before(version: tuple[int, ...]) -> Release | None:
    """The newest release that is not newer than a version such as (0, 19, 1); None if there is none."""
    return max((one for one in RELEASES.values() if one.version <= version), key=lambda one: one.version, default=None)


def note(release: Release) -> list[str]:
    """A sentence where the rules are those of another release."""
    if release.certified:
        return []
    return [f"engine: {release.name} takes the rules of {release.certified_as}, the certified release nearest to it"]
