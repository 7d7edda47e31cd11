"""Refuses settings of a scheduler that its policy, or the release of its engine, does not have."""

from fastsim.deployment import engines
from fastsim.deployment.description import Deployment
from fastsim.deployment.engines import Release
from fastsim.deployment.schedulers import Settings, is_function
from fastsim.deployment.sections import Scheduler
from fastsim.deployment.sglang import settings as sglang
from fastsim.errors import ConfigError


def check_scheduler(given: Deployment, settings: Settings) -> None:
    """Raise ConfigError for the first setting that the policy or the release does not have."""
    if settings.sglang is not None:
        sglang.check(given, settings)
        return
    for name in sglang.OF_SGLANG:
        if getattr(given.scheduler, name) is not None:
            raise ConfigError(
                f"scheduler.{name}: only policy sglang has it, and scheduler.policy is {settings.policy.name}"
            )
    if settings.release is None:
        _check_policy(given.scheduler, settings)
    else:
        _check_release(given, settings, settings.release)


def _check_release(given: Deployment, settings: Settings, release: Release) -> None:
    stages, name = given.pipeline_parallel_size, release.name
    if settings.async_scheduling and not release.has_async:
        raise ConfigError(
            f"scheduler.async_scheduling: {name} has none; vllm-0.10 is the first that does (valid: false)"
        )
    if settings.async_scheduling and stages > 1 and release.async_pipelines == "none":
        raise ConfigError(f"scheduler.async_scheduling: {name} has none with {stages} pipeline stages (valid: false)")
    if settings.scheduler_reserve_full_isl and not release.whole_prompt_check:
        raise ConfigError(f"scheduler.scheduler_reserve_full_isl: {name} has no such option (valid: false)")
    if settings.watermark and not release.has_watermark:
        raise ConfigError(f"scheduler.watermark: {name} keeps no blocks free, not {settings.watermark:g} (valid: 0)")
    if settings.scheduling_policy == "priority" and not release.has_priority:
        raise ConfigError(f"scheduler.scheduling_policy: {name} has no 'priority' in engine V1 (valid: fcfs)")


def _check_policy(scheduler: Scheduler, settings: Settings) -> None:
    policy, chunked = settings.policy.name, scheduler.enable_chunked_prefill
    if scheduler.scheduling_policy == "priority":
        raise ConfigError(
            f"scheduler.scheduling_policy: {policy} admits requests in order of arrival, and only vllm_v1 by "
            "'priority' (valid: fcfs)"
        )
    if scheduler.enable_prefix_caching:
        raise ConfigError(
            f"scheduler.enable_prefix_caching: {policy} computes every prompt whole, and only vllm_v1 has prefix "
            "caching (valid: false)"
        )
    if chunked is not None and chunked != settings.policy.chunked and not is_function(policy):
        how = "in chunks" if settings.policy.chunked else "whole"
        valid = str(settings.policy.chunked).lower()
        raise ConfigError(
            f"scheduler.enable_chunked_prefill: {str(chunked).lower()} contradicts scheduler.policy {policy}, which "
            f"computes prompts {how} (valid: {valid})"
        )
    if scheduler.async_scheduling is False:
        raise ConfigError(
            f"scheduler.async_scheduling: {policy} is taken to schedule while the GPU works, and only vllm_v1 can "
            "wait for it (valid: true)"
        )
    if scheduler.long_prefill_token_threshold:
        raise ConfigError(
            f"scheduler.long_prefill_token_threshold: {policy} has no limit for the chunks of a long prompt, and only "
            f"vllm_v1 has, not {scheduler.long_prefill_token_threshold} (valid: 0)"
        )


def scheduler_notes(given: Deployment, settings: Settings) -> list[str]:
    """A sentence for each setting of a scheduler whose effect a user may not expect."""
    scheduler, policy = given.scheduler, settings.policy.name
    if settings.sglang is not None:
        return sglang.notes(given, settings.sglang)
    if settings.release is not None:
        notes = engines.note(settings.release)
        threshold = settings.long_prefill_token_threshold
        if threshold and not settings.enable_chunked_prefill:
            which = "longer prompts" if settings.release.threshold_alone else "longer prompts that are not alone"
            cut = f"{threshold} cuts {which}, although enable_chunked_prefill is false, as in vLLM"
            notes.append(f"scheduler.long_prefill_token_threshold: {cut}")
        if settings.empty_step_sleep_s and not settings.release.empty_step_sleep_s:
            slept = f"{settings.empty_step_sleep_s:g} changes nothing, as {settings.release.name} never sleeps"
            notes.append(f"scheduler.empty_step_sleep_s: {slept}")
        if scheduler.chunk_size not in (None, settings.max_num_batched_tokens):
            limit = f"policy {policy} bounds a batch by max_num_batched_tokens, {settings.max_num_batched_tokens}"
            notes.append(f"scheduler.chunk_size: {scheduler.chunk_size} changes nothing, as {limit}")
        return notes
    ignored = ("scheduler_reserve_full_isl", "empty_step_sleep_s")
    return [
        f"scheduler.{name}: {getattr(scheduler, name)} changes nothing, as policy {policy} has no such setting"
        for name in ignored
        if getattr(scheduler, name)
    ]
