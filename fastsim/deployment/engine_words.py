"""What a release of vLLM does otherwise than another, in words."""

from collections.abc import Mapping

from fastsim.deployment.engines import RELEASES, Release
from fastsim.deployment.memory.reserve import FROM_0_18, OF_0_17, UP_TO_0_16

# By field of a release, and by its value.
WORDS: Mapping[str, Mapping[object, str]] = {
    "whole_prompt_check": {
        True: "admits a request only if all its tokens have room (scheduler_reserve_full_isl)",
        False: "admits a request by its first chunk",
    },
    "unhashed_first": {
        True: "reuses freed blocks without a hash first",
        False: "puts all freed blocks at the end of the queue",
    },
    "threshold_alone": {
        True: "long_prefill_token_threshold always holds",
        False: "long_prefill_token_threshold does not hold for a request that is alone",
    },
    "requester_goes_on": {
        True: "after a request that was its own victim the step goes on with the next",
        False: "a request that was its own victim ends the step's running requests",
    },
    "victim_steps_back": {
        "never": "a victim in front of the requester makes the step pass over a request",
        "scheduled": "a victim without tokens in front of the requester makes the step pass over a request",
        "always": "no victim makes the step pass over a request",
    },
    "async_extra_slot": {
        True: "asynchronous scheduling wastes a token after max_tokens",
        False: "asynchronous scheduling wastes no token after max_tokens",
    },
    "skips_prompts": {
        True: "without chunked prefill, passes over prompts that do not fit",
        False: "without chunked prefill, a prompt that does not fit ends admission",
    },
    "victim_keeps_tokens": {
        True: "a victim keeps the tokens of this step",
        False: "a victim gives the tokens of this step back",
    },
    "launches_while": {
        "running": "forms the next batch while the oldest runs",
        "tokens": "forms the next batch after one with tokens",
        "work": "forms the next batch while there is work",
    },
    "drains_before_resume": {
        True: "resumes a preempted request once its batches have ended",
        False: "resumes a preempted request at once",
    },
    "async_pipelines": {
        "none": "no asynchronous scheduling with pipelines",
        "one_batch": "asynchronous with pipelines, a request in one batch at a time",
        "every_batch": "asynchronous with pipelines, a request in every batch",
        "turns": "asynchronous with pipelines, a request in turns of the stages",
    },
    "has_async": {True: "asynchronous scheduling on request", False: "no asynchronous scheduling"},
    "async_default": {True: "asynchronous scheduling by default", False: "synchronous by default"},
    "has_priority": {True: "scheduling_policy priority", False: "no scheduling_policy priority"},
    "has_watermark": {True: "watermark is an option", False: "no watermark"},
    "graph_memory_counts": {
        True: "CUDA graphs count as memory in use",
        False: "CUDA graphs do not count as memory in use",
    },
    "reserve": {
        UP_TO_0_16: "holds 9 copies of the logits to sample",
        OF_0_17: "holds 4 copies of the logits to sample",
        FROM_0_18: "holds 4 copies of the logits to sample, and 1.9 GiB for the collectives of tensor parallelism",
    },
    "a100_is_large": {True: "an A100 takes the limits of an H100", False: "an A100 takes smaller limits than an H100"},
}


def differences(release: Release) -> list[str]:
    """What a release does otherwise than the one it is compared with, in words.

    A certified release is compared with the certified one before it, and the oldest of these with the one after it;
    any other release with the one whose rules it takes.
    """
    other = _compared_with(release)
    said = [
        words[getattr(release, name)] for name, words in WORDS.items() if getattr(release, name) != getattr(other, name)
    ]
    if release.empty_step_sleep_s != other.empty_step_sleep_s:
        slept = f"sleeps {release.empty_step_sleep_s * 1e3:g} ms" if release.empty_step_sleep_s else "never sleeps"
        said.append(f"{slept} after a step without tokens")
    if release.gpu_memory_utilization != other.gpu_memory_utilization:
        said.append(f"gpu_memory_utilization {release.gpu_memory_utilization:g} by default")
    if release.tokens_of_largest != other.tokens_of_largest:
        said.append(f"{release.tokens_of_largest} tokens a batch on GPUs of 160 GiB")
    return said


def _compared_with(release: Release) -> Release:
    certified = [one for one in RELEASES.values() if one.certified]
    if not release.certified:
        return RELEASES[release.certified_as]
    place = certified.index(release)
    return certified[place - 1] if place else certified[1]
