"""What the vllm_v1 policy keeps beside requests and batches: the rules of its release, queues and KV blocks."""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.schedulers import Settings
from fastsim.errors import WorkloadError
from fastsim.kernels.engine import state
from fastsim.kernels.engine.state import Engine, EngineLimits
from fastsim.kernels.state import NONE, Limits
from fastsim.kernels.transfers.state import NO_LINK
from fastsim.simulation.arena import Arena
from fastsim.simulation.ranks import rows_of
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

STEPS_BACK = {
    "never": state.NEVER_BACK,
    "scheduled": state.BACK_IF_SCHEDULED,
    "always": state.ALWAYS_BACK,
}
LAUNCHES = {"running": state.RUNNING_BATCH, "tokens": state.WITH_TOKENS, "work": state.WITH_WORK}
PIPELINES = {
    "none": state.EVERY_BATCH,
    "one_batch": state.ONE_BATCH,
    "every_batch": state.EVERY_BATCH,
    "turns": state.TURNS,
}

NO_BLOCKS = Limits(1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)  # of a policy that keeps nothing of its own
NEVER = -(1 << 40)  # the call of the scheduler that gave the newest token, before the first


def engine_limits(scheduler: Settings, max_model_len: int, awaits_tokens: bool) -> EngineLimits:
    """Return the settings of the vllm_v1 policy as its kernel reads them, and zeros for every other policy.

    Parameters
    ----------
    scheduler : Settings
        The settings of the scheduler.
    max_model_len : int
        Most tokens of a request.
    awaits_tokens : bool
        Whether a batch of an asynchronous pipeline starts once the last stage has sampled the tokens that it computes.
        The clock of the recordings lets it start before.
    """
    release = scheduler.release
    if release is None:
        return state.NO_ENGINE
    return EngineLimits(
        max_model_len=max_model_len,
        by_priority=int(scheduler.scheduling_policy == "priority"),
        prefix_caching=int(scheduler.enable_prefix_caching),
        chunked_prefill=int(scheduler.enable_chunked_prefill),
        threshold=scheduler.long_prefill_token_threshold,
        asynchronous=int(scheduler.async_scheduling),
        depth=scheduler.batch_queue_depth,
        sleep_s=float(scheduler.empty_step_sleep_s) if release.empty_step_sleep_s > 0 else 0.0,
        whole_prompt=int(scheduler.scheduler_reserve_full_isl),
        unhashed_first=int(release.unhashed_first),
        threshold_alone=int(release.threshold_alone),
        requester_goes_on=int(release.requester_goes_on),
        steps_back=STEPS_BACK[release.victim_steps_back],
        extra_slot=int(release.async_extra_slot),
        skips_prompts=int(release.skips_prompts),
        victim_keeps_tokens=int(release.victim_keeps_tokens),
        launches_while=LAUNCHES[release.launches_while],
        drains=int(release.drains_before_resume),
        shares_turns=PIPELINES[release.async_pipelines] if scheduler.async_scheduling else state.EVERY_BATCH,
        awaits_tokens=int(scheduler.async_scheduling and awaits_tokens),
    )


class Sizes(NamedTuple):
    """How many blocks the policy must tell apart on each replica.

    entries : rows of Engine.blocks besides END: blocks that can be found, and runs of free ones.
    findable : of these, blocks that can be found.
    longest : blocks of the longest request that can be found.
    """

    entries: int
    findable: int
    longest: int


def sizes_of(limits: Limits, workload: Workload, fewest: int | None = None) -> Sizes:
    """Return what a replica has at most, whichever requests come to it; ``fewest``: KV blocks of the smallest pool.

    While ``max_num_seqs`` of the largest requests fit together, none is preempted, as no others hold blocks: then only
    blocks that have a hash are ever found, and each request frees its others in two runs at most. Else any block may
    be found.
    """
    if not limits.engine.prefix_caching:
        return Sizes(0, 0, 0)
    # Asynchronous scheduling may compute a token after the last one in every batch in flight.
    total = workload.num_prompt_tokens + workload.num_output_tokens + limits.engine.depth
    blocks = -(-total // limits.block_size)
    longest, others = int(blocks.max(initial=0)), max(0, workload.num_requests - limits.max_num_seqs)
    if limits.link != NO_LINK:  # requests that do not run hold blocks as well
        return Sizes(limits.num_blocks, limits.num_blocks, longest)
    if int(np.partition(blocks, others)[others:].sum() if others else blocks.sum()) > (fewest or limits.num_blocks):
        return Sizes(limits.num_blocks, limits.num_blocks, longest)
    hashes = len(_hashes(workload, limits.block_size)[1])
    entries = min(limits.num_blocks, hashes + 2 * workload.num_requests + 2)
    return Sizes(entries, min(entries, hashes), longest if hashes else 0)


def bytes_each(limits: Limits, workload: Workload, fewest: int) -> tuple[int, int]:
    """The memory that the policy takes for each request and, of replicas with prefix caching, for each replica, bytes.

    Every replica has all that it may need from the start, those that no request comes to as well.
    """
    if limits.engine == state.NO_ENGINE:
        return 0, 0
    per_request = 4 * 14 + 8 * 3
    if not limits.engine.prefix_caching:
        return per_request, 0
    sizes = sizes_of(limits, workload, fewest)
    per_replica = 4 * state.NUM_BLOCK_COLUMNS * sizes.entries + 4 * limits.max_num_seqs
    if sizes.findable:
        per_replica += 12 * sizes.entries + 4 * _buckets(sizes.findable)
    return per_request, per_replica


@cache
def no_engine() -> Engine:
    """Return what the other policies have in its place: arrays without entries, which all simulations share."""
    return _arrays(0, 0, NO_BLOCKS, Arena(), Sizes(0, 0, 0), (np.zeros(1, np.int64), np.zeros(0, np.int64)))


def lay_out_engine(
    number_of_replicas: int, limits: Limits, workload: Workload, arena: Arena, fewest: int | None = None
) -> Engine:
    """Return what the vllm_v1 policy keeps, before the first request arrives.

    Parameters
    ----------
    number_of_replicas : int
        Replicas.
    limits : Limits
        Limits of the policy.
    workload : Workload
        The requests.
    arena : Arena
        Memory for the arrays.
    fewest : int, optional
        KV blocks of the smallest pool; those of ``limits`` by default.
    """
    total = workload.num_prompt_tokens + workload.num_output_tokens
    num_blocks = -(-total // limits.block_size)
    hashes = np.zeros(1, np.int64), np.zeros(0, np.int64)
    if limits.engine.prefix_caching:
        hashes = _hashes(workload, limits.block_size)
    sizes = sizes_of(limits, workload, fewest)
    engine = _arrays(workload.num_requests, rows_of(number_of_replicas, limits), limits, arena, sizes, hashes)
    engine.counts[:, [state.ROOT, state.ENDED]] = NONE
    engine.counts[:, state.ROWS_FREE] = _rows(workload.num_requests, limits)
    engine.known[:] = workload.num_prompt_tokens
    engine.limit[:] = _limits_known(workload, limits.engine.max_model_len)
    if workload.priority is not None:
        engine.priority[:] = workload.priority
    engine.private[1:] = -np.cumsum(num_blocks[:-1])
    engine.private[:] -= 2
    if limits.engine.prefix_caching:
        engine.rows[:] = np.arange(engine.rows.shape[1] - 1, -1, -1)
        free_all(engine, np.full(rows_of(number_of_replicas, limits), limits.num_blocks))
    return engine


def _arrays(
    requests: int,
    replicas: int,
    limits: Limits,
    arena: Arena,
    sizes: Sizes,
    hashes: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Engine:
    """The arrays, before anything is written."""
    pools, width, depth = replicas * limits.engine.prefix_caching, limits.max_num_seqs, limits.engine.depth
    blocks = pools, sizes.entries + 1
    found = blocks if sizes.findable else (pools, 1)
    rows = _rows(requests, limits)

    def of_requests(name: str, value: int = 0) -> NDArray[np.int32]:
        return arena.take(f"engine_{name}", requests, np.int32, value)

    return Engine(
        known=of_requests("known"),
        sampled=of_requests("sampled"),
        limit=of_requests("limit"),
        priority=of_requests("priority"),
        in_batches=of_requests("in_batches"),
        last_call=arena.take("engine_last_call", requests, np.int64, NEVER),
        cached=of_requests("cached"),
        cached_blocks=of_requests("cached_blocks"),
        findable=of_requests("findable"),
        row=of_requests("row", NONE),
        hash_start=hashes[0],
        hashes=hashes[1],
        private=arena.take("engine_private", requests, np.int64),
        order=of_requests("order"),
        member=of_requests("member"),
        left=of_requests("left"),
        right=of_requests("right"),
        rank=of_requests("rank"),
        phases=arena.take("engine_phases", (pools, limits.block_size, 2), np.int32, NONE),
        samples=arena.take("engine_samples", (replicas, depth, width), np.int32),
        batch_start=arena.take("engine_batch_start", (replicas, depth)),
        batch_end=arena.take("engine_batch_end", (replicas, depth)),
        counted=arena.take("engine_counted", replicas),
        counts=arena.take("engine_counts", (replicas, state.NUM_ENGINE_COUNTS), np.int64),
        cohorts=arena.take("cohorts", (replicas, limits.num_stages, state.NUM_COHORT_COUNTS), np.int64),
        blocks=arena.room("engine_blocks", (*blocks, state.NUM_BLOCK_COLUMNS), np.int32),
        block_hash=arena.room("engine_block_hash", found, np.int64),
        next_alike=arena.room("engine_next_alike", found, np.int32),
        buckets=arena.take("engine_buckets", (pools, _buckets(sizes.findable)), np.int32),
        table=arena.room("engine_table", (pools, rows, sizes.longest), np.int32),
        rows=arena.take("engine_rows", (pools, rows), np.int32),
    )


def _rows(requests: int, limits: Limits) -> int:
    """Requests that may hold blocks at once: where KV is transferred, more than may run."""
    if limits.link == NO_LINK:
        return limits.max_num_seqs
    return max(limits.max_num_seqs, min(limits.num_blocks, requests))


def free_all(engine: Engine, num_blocks: NDArray[np.integer]) -> None:
    """Put all blocks of every replica, int[R], in the list of free ones, as one run."""
    first = state.END + 1
    engine.blocks[:, state.END] = first, first, 0, state.UNCACHED
    engine.blocks[:, first] = state.END, state.END, 0, state.UNCACHED
    engine.blocks[:, first, state.NUMBER] = num_blocks
    engine.counts[:, state.ENTRIES_USED] = first + 1
    engine.counts[:, state.SPARE] = NONE


def _buckets(findable: int) -> int:
    return 1 << max(0, 2 * findable - 1).bit_length()


def _limits_known(workload: Workload, max_model_len: int) -> NDArray[np.int64]:
    """The tokens to which the engine expects each request to come at most, int64[n]."""
    outputs = workload.num_output_tokens if workload.max_tokens is None else workload.max_tokens
    limit = workload.num_prompt_tokens.astype(np.int64) + outputs
    if workload.max_tokens is None and workload.ends_by_stop is not None:
        limit = np.where(workload.ends_by_stop, max_model_len, limit)
    known: NDArray[np.int64] = np.minimum(limit, max_model_len)
    return known


def _hashes(workload: Workload, block_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first hash of each request, int64[n + 1], and all hashes, none of them negative."""
    if workload.block_hashes is None:
        return np.zeros(workload.num_requests + 1, np.int64), np.zeros(0, np.int64)
    check_size(workload, "scheduler.block_size", block_size)
    return in_blocks(workload.block_hashes, block_size)


def check_size(workload: Workload, setting: str, size: int) -> None:
    """Raise WorkloadError unless blocks of ``size`` tokens, which is a setting, fit the workload's block_hashes."""
    assert workload.block_hashes is not None
    known = workload.block_hashes.block_size
    if size % known and known % size:
        raise WorkloadError(
            f"{workload.name}: block_hashes are of blocks of {known} tokens, of which {setting} {size} is no "
            f"divisor or multiple (valid: {known})"
        )


@lru_cache(maxsize=2)  # searches and sweeps simulate the same requests again and again
def in_blocks(known: BlockHashes, block_size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same by blocks of ``block_size``: tokens of a smaller block are equal where those of the larger one are."""
    values, counts, most = known.values, known.counts, known.block_size
    if block_size < most or (values.size and values.min() < 0):
        values = np.unique(values, return_inverse=True)[1].astype(np.int64)
    if block_size == most:
        return known.offsets, values
    if block_size < most:
        ratio = most // block_size
        return known.offsets * ratio, (values[:, None] * ratio + np.arange(ratio)).ravel()
    ratio = block_size // most
    offsets = np.concatenate([[0], np.cumsum(counts // ratio)])
    within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts // ratio)
    return offsets, values[np.repeat(known.offsets[:-1], counts // ratio) + (within + 1) * ratio - 1]
