"""What the sglang policy keeps beside requests and batches: the rules of its release, and the radix tree."""

from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.schedulers import Settings
from fastsim.kernels.engine.state import NO_ENGINE, Engine, EngineLimits
from fastsim.kernels.memory import radix_tree as columns
from fastsim.kernels.sglang import state
from fastsim.kernels.sglang.state import SHORT_MATCH, Sglang, SglangLimits
from fastsim.kernels.state import NONE, Limits
from fastsim.simulation.arena import Arena
from fastsim.simulation.engine import NO_BLOCKS, check_size, in_blocks, lay_out_engine
from fastsim.workload import Workload
from fastsim.workload.blocks import BlockHashes

START_RATIO, LEAST_RATIO = 0.7, 0.14  # of schedule_conservativeness 1, and of the start
DECODES_TO_LEAST = 600


def sglang_limits(scheduler: Settings) -> SglangLimits:
    """Return the settings of the sglang policy as its kernel reads them, and zeros for every other policy."""
    own = scheduler.sglang
    if own is None:
        return state.NO_SGLANG
    start = min(START_RATIO * own.schedule_conservativeness, 1.0)
    least = min(LEAST_RATIO * start, 1.0)
    release = own.release
    return SglangLimits(
        by_longest_match=int(own.schedule_policy == "lpm"),
        chunk=own.chunked_prefill_size or 0,
        mixed=int(own.enable_mixed_chunk and own.chunked_prefill_size is not None),
        radix_cache=int(not own.disable_radix_cache),
        overlap=int(not own.disable_overlap_schedule),
        ignore_eos=int(own.ignore_eos),
        start_ratio=start,
        least_ratio=least,
        ratio_step=(start - least) / DECODES_TO_LEAST,
        idle_pass_resets_ratio=int(release.idle_pass_resets_ratio),
        filters_before_prefill=int(release.filters_before_prefill),
        counts_places_first=int(release.counts_places_first),
        matches_leave_a_token=int(release.matches_leave_a_token),
        refreshes_waiting=int(release.refreshes_waiting),
        ignore_eos_reserves_all=int(release.ignore_eos_reserves_all),
        stops_without_budget=int(release.stops_without_budget),
        tests_memory_once=int(release.tests_memory_once),
        chunks_lift_input_limit=int(release.chunks_lift_input_limit),
        evicts_whole_need=int(release.evicts_whole_need),
        mixes_unchecked=int(release.mixes_unchecked),
        leaves_out_last_tokens=int(release.leaves_out_last_tokens),
        ends_node_at_prompt=int(release.ends_node_at_prompt),
    )


def shared_limits(own: SglangLimits, max_model_len: int) -> EngineLimits:
    """What the sglang policy uses of the settings of engines."""
    return NO_ENGINE._replace(max_model_len=max_model_len, depth=1 + own.overlap)


def bytes_each(limits: Limits) -> tuple[int, int]:
    """The memory that the policy takes for each request and for the tree of each replica, bytes."""
    if limits.sglang == state.NO_SGLANG:
        return 0, 0
    tree = 4 * columns.NUM_NODE_COLUMNS + 3 * 8
    return 4 * 4 + 8, limits.sglang.radix_cache * (tree * (limits.num_blocks + 1) + 4 * _buckets(limits.num_blocks))


@cache
def no_sglang() -> Sglang:
    """Return what the other policies have in its place: arrays without entries, which all simulations share."""
    return _arrays(0, 0, NO_BLOCKS, Arena())


def lay_out_sglang(number_of_replicas: int, limits: Limits, workload: Workload, arena: Arena) -> tuple[Engine, Sglang]:
    """Return what the sglang policy keeps, before the first request arrives; part of it is shared with vllm_v1.

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
    """
    engine = lay_out_engine(number_of_replicas, limits, workload, arena)
    own = _arrays(workload.num_requests, number_of_replicas, limits, arena)
    own.prompt[:] = workload.num_prompt_tokens
    # The engine cuts max_tokens so that each request fits by itself.
    longest = min(limits.engine.max_model_len, limits.num_blocks * limits.block_size) - 2
    engine.limit[:] = np.maximum(
        np.minimum(engine.limit, longest), workload.num_prompt_tokens + workload.num_output_tokens
    )
    own.counts[:, [state.CHUNKED, state.NEXT_CHUNKED]] = NONE
    own.counts[:, state.FREE_PAGES] = limits.num_blocks
    own.ratio[:] = limits.sglang.start_ratio
    own.beginning[:] = -2 - np.arange(workload.num_requests)
    own.span[:] = 1
    engine = engine._replace(hash_start=np.zeros(workload.num_requests + 1, np.int64))
    if limits.sglang.radix_cache:
        own.nodes[:, columns.ROOT] = 0
        own.nodes[:, columns.ROOT, columns.PARENT] = NONE
        own.tree_counts[:, columns.UNUSED] = NONE
        own.tree_counts[:, columns.USED] = 1
        if workload.block_hashes is not None:
            check_size(workload, "scheduler.page_size", limits.block_size)
            span, offsets, hashes, beginning = _identities(workload.block_hashes, limits.block_size)
            own.span[:] = span
            own.beginning[:] = np.where(beginning >= 0, beginning, own.beginning)
            engine = engine._replace(hash_start=offsets, hashes=hashes)
    return engine, own


def _arrays(requests: int, replicas: int, limits: Limits, arena: Arena) -> Sglang:
    """The arrays, before anything is written."""
    nodes = limits.sglang.radix_cache * limits.num_blocks + 1
    num_buckets = limits.sglang.radix_cache * _buckets(limits.num_blocks) or 1

    def of_requests(name: str) -> NDArray[np.int32]:
        return arena.take(f"sglang_{name}", requests, np.int32)

    def of_nodes(name: str) -> NDArray[np.int64]:
        return arena.room(f"sglang_{name}", (replicas, nodes), np.int64)

    return Sglang(
        prompt=of_requests("prompt"),
        filled=of_requests("filled"),
        in_tree=of_requests("in_tree"),
        node=of_requests("node"),
        beginning=arena.take("sglang_beginning", requests, np.int64),
        span=arena.take("sglang_span", 1, np.int64),
        counts=arena.take("sglang_counts", (replicas, state.NUM_SGLANG_COUNTS), np.int64),
        ratio=arena.take("sglang_ratio", replicas),
        budget=arena.take("sglang_budget", (replicas, state.NUM_BUDGETS)),
        queue=arena.take("sglang_queue", (replicas, state.MOST_SORTED), np.int64),
        keys=arena.take("sglang_keys", (replicas, state.MOST_SORTED), np.int64),
        lives=arena.take("sglang_lives", (replicas, limits.max_num_seqs + 2, 2), np.int64),
        nodes=arena.room("sglang_nodes", (replicas, nodes, columns.NUM_NODE_COLUMNS), np.int32),
        identity=of_nodes("identity"),
        stamp=of_nodes("stamp"),
        buckets=arena.take("sglang_buckets", (replicas, num_buckets), np.int32),
        heap=of_nodes("heap"),
        tree_counts=arena.take("sglang_tree_counts", (replicas, columns.NUM_RADIX_COUNTS), np.int64),
    )


def _buckets(num_blocks: int) -> int:
    return 1 << max(0, num_blocks).bit_length()


@lru_cache(maxsize=2)  # searches and sweeps simulate the same requests again and again
def _identities(
    known: BlockHashes, page_size: int
) -> tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The pages of a block, the first hash of each request, all hashes, and that of each beginning, -1 without one.

    Beginnings are compared by the first block that reaches to their end.
    """
    size = max(page_size, known.block_size)
    offsets, values = in_blocks(known, size)
    values = np.unique(values, return_inverse=True)[1].astype(np.int64)
    place = -(-SHORT_MATCH // known.block_size) - 1
    has = known.counts > place
    beginning = np.full(len(known.counts), -1, np.int64)
    beginning[has] = np.unique(known.values[known.offsets[:-1][has] + place], return_inverse=True)[1]
    return size // page_size, offsets, values, beginning
