"""The settings of a scheduler with every default filled: those of an engine's release, or those of fastsim."""

from pathlib import Path

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model
from fastsim.deployment import engines, schedulers
from fastsim.deployment.description import Deployment
from fastsim.deployment.engines import Release
from fastsim.deployment.schedulers import Policy, PolicyName, Settings
from fastsim.deployment.sglang import settings as sglang
from fastsim.deployment.sglang.releases import is_sglang
from fastsim.errors import ConfigError
from fastsim.files.documents import short

BLACKWELL = 10  # compute capability, whose kernels for latent attention take blocks of 32 tokens
# Settings that only vllm_v1 has.
OF_VLLM_V1 = (
    "scheduling_policy",
    "enable_prefix_caching",
    "enable_chunked_prefill",
    "async_scheduling",
    "long_prefill_token_threshold",
    "scheduler_reserve_full_isl",
    "empty_step_sleep_s",
)


def policy_of(given: Deployment) -> Policy:
    """The policy that a deployment names, else that of its engine, else vllm_v1."""
    own: PolicyName = "sglang" if given.engine is not None and is_sglang(given.engine) else "vllm_v1"
    name = given.scheduler.policy or own
    if given.engine is not None and name != own:
        runs = f"{given.engine} runs policy {own}, and scheduler.policy is {short(name)}"
        left_out = f"--set engine=null --set 'scheduler={{policy: {name}}}'"
        raise ConfigError(f"engine: {runs}; leave the engine and its settings out for that policy ({left_out})")
    return schedulers.of(absolute(name))


def absolute(policy: str) -> str:
    """A policy, or a user's file.py:function with an absolute path."""
    return str(Path(policy).absolute()) if schedulers.is_function(policy) else policy


def release_of(given: Deployment, policy: Policy) -> Release | None:
    """The release whose rules hold; None for the policies that are no engine's."""
    if policy.name != "vllm_v1":
        return None
    return engines.DEFAULT if given.engine is None else engines.of(given.engine)


def runs(given: Deployment) -> str:
    """What schedules requests: an engine by its release, or a policy."""
    policy = policy_of(given)
    release = release_of(given, policy)
    return policy.name if release is None else release.name


def settings_of(given: Deployment, policy: Policy, model: Model, device: Device, length: int) -> Settings:
    """The settings of a deployment whose max_model_len is ``length``."""
    if policy.name == "sglang":
        return sglang.settings_of(given, policy, model, device)
    release = release_of(given, policy)
    if release is not None:
        return _of_release(given, policy, release, model, device, length)
    scheduler = given.scheduler
    return Settings(
        policy=policy,
        max_num_seqs=scheduler.max_num_seqs or 128,
        max_num_batched_tokens=scheduler.max_num_batched_tokens or max(4096, length),
        chunk_size=scheduler.chunk_size or 512,
        block_size=scheduler.block_size or policy.block_size,
        watermark=0.01 if scheduler.watermark is None else scheduler.watermark,
        max_waiting_iters=10 if scheduler.max_waiting_iters is None else scheduler.max_waiting_iters,
        release=None,
        scheduling_policy="fcfs",
        enable_prefix_caching=False,
        enable_chunked_prefill=policy.chunked,
        async_scheduling=False,
        long_prefill_token_threshold=0,
        scheduler_reserve_full_isl=False,
        empty_step_sleep_s=0.0,
        batch_queue_depth=given.pipeline_parallel_size,
    )


def _of_release(
    given: Deployment, policy: Policy, release: Release, model: Model, device: Device, length: int
) -> Settings:
    scheduler, stages = given.scheduler, given.pipeline_parallel_size
    chunked = scheduler.enable_chunked_prefill is not False
    asked = scheduler.max_num_seqs, scheduler.max_num_batched_tokens
    seqs, tokens = release.limits(device, length, chunked, *asked)
    is_async, sleep = scheduler.async_scheduling, scheduler.empty_step_sleep_s
    is_async = release.is_async(stages) if is_async is None else is_async
    reserves = scheduler.scheduler_reserve_full_isl
    return Settings(
        policy=policy,
        max_num_seqs=seqs,
        max_num_batched_tokens=tokens,
        chunk_size=scheduler.chunk_size or tokens,
        block_size=scheduler.block_size or _block_size(policy, model, device),
        watermark=scheduler.watermark or 0.0,
        max_waiting_iters=10 if scheduler.max_waiting_iters is None else scheduler.max_waiting_iters,
        release=release,
        scheduling_policy=scheduler.scheduling_policy or "fcfs",
        enable_prefix_caching=scheduler.enable_prefix_caching is not False,
        enable_chunked_prefill=chunked,
        async_scheduling=is_async,
        long_prefill_token_threshold=scheduler.long_prefill_token_threshold or 0,
        scheduler_reserve_full_isl=release.whole_prompt_check if reserves is None else reserves,
        empty_step_sleep_s=release.empty_step_sleep_s if sleep is None else sleep,
        batch_queue_depth=release.batch_queue_depth(stages, is_async),
    )


def _block_size(policy: Policy, model: Model, device: Device) -> int:
    """What the kernels for attention take that vLLM prefers for a model on a GPU, tokens."""
    major = (device.compute_capability or "0").partition(".")[0]
    return 32 if model.kv_lora_rank and int(major) >= BLACKWELL else policy.block_size


def utilization_of(given: Deployment, settings: Settings) -> float:
    """The share of the GPU memory in use."""
    default = 0.9 if settings.release is None else settings.release.gpu_memory_utilization
    if settings.sglang is not None:
        default = settings.sglang.mem_fraction_static
    return default if given.gpu_memory_utilization is None else given.gpu_memory_utilization


def described(settings: Settings, num_blocks: int) -> dict[str, object]:
    """The settings that a description may leave open, filled, as far as the policy has them."""
    if settings.sglang is not None:
        return sglang.described(settings, num_blocks)
    filled: dict[str, object] = {
        "policy": settings.policy.name,
        "max_num_seqs": settings.max_num_seqs,
        "max_num_batched_tokens": settings.max_num_batched_tokens,
        "block_size": settings.block_size,
        "watermark": settings.watermark,
        "max_waiting_iters": settings.max_waiting_iters,
        "num_blocks": num_blocks,
    }
    if settings.release is None:
        return filled | {"chunk_size": settings.chunk_size}
    return filled | {name: getattr(settings, name) for name in OF_VLLM_V1}
