"""The settings of policy sglang with every default filled, and the words in which a description has them."""

from dataclasses import replace

from fastsim.catalog.hardware import Device
from fastsim.catalog.model import Model
from fastsim.deployment.description import Deployment
from fastsim.deployment.schedulers import Policy, Settings, SglangSettings
from fastsim.deployment.sglang import defaults, releases
from fastsim.errors import ConfigError

# SGLang's names of what other policies call otherwise.
OTHER_NAMES = {
    "max_num_seqs": "max_running_requests",
    "max_num_batched_tokens": "max_prefill_tokens",
    "chunk_size": "chunked_prefill_size",
    "block_size": "page_size",
    "num_blocks": "max_total_num_tokens",
    "scheduling_policy": "schedule_policy",
    "enable_prefix_caching": "disable_radix_cache",
    "enable_chunked_prefill": "chunked_prefill_size",
    "async_scheduling": "disable_overlap_schedule",
    "watermark": "schedule_conservativeness",
    "long_prefill_token_threshold": "chunked_prefill_size",
}
LEAST_TOKENS = 4  # of a KV cache: SGLang keeps two back from a request, which has a prompt and an output
OF_SGLANG = (
    "schedule_policy",
    "chunked_prefill_size",
    "max_prefill_tokens",
    "page_size",
    "max_total_num_tokens",
    "max_running_requests",
    "schedule_conservativeness",
    "enable_mixed_chunk",
    "disable_radix_cache",
    "disable_overlap_schedule",
    "ignore_eos",
)


def settings_of(given: Deployment, policy: Policy, model: Model, device: Device) -> Settings:
    """The settings of a deployment, save that ``max_num_seqs`` awaits the size of the KV cache (with_tokens)."""
    scheduler, tensor = given.scheduler, given.tensor_parallel_size
    release = releases.ASSUMED if given.engine is None else releases.of(given.engine)
    asked, limit = scheduler.chunked_prefill_size, scheduler.max_running_requests
    chunk = (asked or defaults.chunked_prefill_size(release, device)) if asked != -1 else None
    most = scheduler.max_prefill_tokens or defaults.MAX_PREFILL_TOKENS
    conservativeness = scheduler.schedule_conservativeness
    own = SglangSettings(
        release=release,
        schedule_policy=scheduler.schedule_policy or "fcfs",
        chunked_prefill_size=chunk,
        max_prefill_tokens=most,
        schedule_conservativeness=1.0 if conservativeness is None else conservativeness,
        enable_mixed_chunk=bool(scheduler.enable_mixed_chunk),
        disable_radix_cache=bool(scheduler.disable_radix_cache),
        disable_overlap_schedule=bool(scheduler.disable_overlap_schedule),
        ignore_eos=bool(scheduler.ignore_eos),
        mem_fraction_static=defaults.mem_fraction_static(release, model, device, tensor, chunk, limit),
        decode_graphs=defaults.decode_graphs(defaults.largest_graph(release, device, tensor, limit)),
    )
    return Settings(
        policy=policy,
        max_num_seqs=limit or defaults.FEWEST_RUNNING,
        max_num_batched_tokens=most,
        chunk_size=chunk or most,
        block_size=scheduler.page_size or defaults.page_size(device),
        watermark=0.0,
        max_waiting_iters=10,
        release=None,
        scheduling_policy="fcfs",
        enable_prefix_caching=not own.disable_radix_cache,
        enable_chunked_prefill=True,  # a prompt that is not cut may be longer than max_prefill_tokens
        async_scheduling=not own.disable_overlap_schedule,
        long_prefill_token_threshold=0,
        scheduler_reserve_full_isl=False,
        empty_step_sleep_s=0.0,
        batch_queue_depth=1 if own.disable_overlap_schedule else 2,
        sglang=own,
    )


def with_tokens(settings: Settings, num_tokens: int, length: int, limit: int | None) -> Settings:
    """The same once it is known how many tokens the KV cache holds; ``limit``: max_running_requests as given."""
    if settings.sglang is None:
        return settings
    running = defaults.max_running_requests(settings.sglang.release, num_tokens, length, limit)
    return replace(settings, max_num_seqs=max(1, running))


def check(given: Deployment, settings: Settings) -> None:
    """Raise ConfigError for the first setting that SGLang does not have, or does not take."""
    scheduler = given.scheduler
    for name, own in OTHER_NAMES.items():
        if getattr(scheduler, name) is not None:
            raise ConfigError(f"scheduler.{name}: policy sglang has no such setting (valid: scheduler.{own})")
    chunk, page = scheduler.chunked_prefill_size, settings.block_size
    if chunk == 0 or (chunk is not None and chunk > 0 and chunk % page):
        valid = -(-max(chunk, 1) // page) * page
        raise ConfigError(
            f"scheduler.chunked_prefill_size: {chunk} is no multiple of page_size {page} (valid: -1 or {valid})"
        )
    tokens, least = scheduler.max_total_num_tokens, max(page, LEAST_TOKENS)
    if tokens is not None and tokens < least:
        held = "is less than a page" if tokens < page else "holds no request"
        raise ConfigError(f"scheduler.max_total_num_tokens: {tokens} {held} (valid: {least} or more)")


def notes(given: Deployment, settings: SglangSettings) -> list[str]:
    """A sentence for each setting that changes nothing beside another one, as in SGLang."""
    found = []
    if given.scheduler.schedule_policy == "lpm" and settings.disable_radix_cache:
        found.append("scheduler.schedule_policy: lpm changes nothing, as without the radix cache SGLang takes fcfs")
    if given.scheduler.enable_mixed_chunk and settings.chunked_prefill_size is None:
        found.append("scheduler.enable_mixed_chunk: true changes nothing, as prompts are not cut into chunks")
    return found


def described(settings: Settings, num_blocks: int) -> dict[str, object]:
    """The settings that a description may leave open, filled."""
    own = settings.sglang
    assert own is not None
    return {
        "policy": settings.policy.name,
        "schedule_policy": own.schedule_policy,
        "chunked_prefill_size": own.chunked_prefill_size or -1,
        "max_prefill_tokens": own.max_prefill_tokens,
        "page_size": settings.block_size,
        "max_total_num_tokens": num_blocks * settings.block_size,
        "max_running_requests": settings.max_num_seqs,
        "schedule_conservativeness": own.schedule_conservativeness,
        "enable_mixed_chunk": own.enable_mixed_chunk,
        "disable_radix_cache": own.disable_radix_cache,
        "disable_overlap_schedule": own.disable_overlap_schedule,
        "ignore_eos": own.ignore_eos,
    }
