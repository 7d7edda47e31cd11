"""What the sglang policy keeps beside the state of a simulation, and the settings and rules that it goes by.

It shares some columns with the vllm_v1 policy, whose state is in engine/state.py: of Engine ``known``, ``limit``,
``sampled`` (output tokens of batches in flight), ``cached``, the identities of prefixes, ``samples``, and the times of
batches. ``Requests.processed`` has the KV slots of a request.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

SHORT_MATCH = 32  # tokens: a request that shares more with an earlier one than with the tree waits for that one
MOST_SORTED = 128  # requests: lpm leaves a longer queue as it is

# Columns of Sglang.counts.
(
    FREE_PAGES,  # pages that neither a request nor the tree has
    IS_FULL,  # 1 when no prefill is tried until a request leaves the running batch
    CHUNKED,  # the request in the middle of its prompt, NONE when there is none
    NEXT_CHUNKED,  # the same after the batch that is being formed
    LAST_MODE,  # of the batch that the pass before launched: NOTHING, PREFILL, DECODES or MIXED
    LAST_SLOT,  # the slot of that batch
    IDLE_IN_A_ROW,  # passes that did nothing, since one did something
    IDLE_PASSES,  # passes that did nothing so far
    UNSORTED,  # passes so far that left the waiting requests as they were
    RESULTS,  # batches that have ended so far
    RETRACTED,  # requests that were retracted when the last batch was formed
    AHEAD,  # 1 when the next batch is scheduled, and a run of unchanged ones begins once the one in flight has ended
    UNCHANGED,  # 1 when the oldest batch in flight is one of such a run
    LIVES,  # rows of Sglang.lives in use, NONE before the first attempt of a pass
    NUM_SGLANG_COUNTS,
) = range(15)

NOTHING, PREFILL, DECODES, MIXED = range(4)

# Engine.samples, beside those of vllm_v1: a member that has been retracted since.
DROPPED = 3

# Columns of Sglang.budget: what a prefill batch may still take.
(
    PROMISED,  # KV slots that are promised to requests, for outputs to come as well
    TAKEN,  # KV slots that this batch takes
    INPUT_TOKENS,  # left of max_prefill_tokens
    CHUNK_TOKENS,  # left of chunked_prefill_size
    NUM_BUDGETS,
) = range(5)

# Columns of Sglang.lives: output tokens that are left to a request, and tokens that it has.
LEFT_OUTPUTS, HELD_TOKENS = range(2)


class SglangLimits(NamedTuple):
    """The settings of the sglang policy, and the rules of its release; flags are 0 or 1.

    Settings that Limits has are there: max_running_requests is max_num_seqs, max_prefill_tokens
    max_num_batched_tokens, and a KV block is a page.
    """

    by_longest_match: int  # schedule_policy lpm
    chunk: int  # chunked_prefill_size, tokens; 0: prompts are not cut
    mixed: int  # decodes may join a prefill batch
    radix_cache: int
    overlap: int  # a batch is scheduled while the batch before it runs
    ignore_eos: int  # every request is sent with it
    start_ratio: float  # of new_token_ratio
    least_ratio: float
    ratio_step: float  # by which each decode lowers it
    idle_pass_resets_ratio: int
    filters_before_prefill: int
    counts_places_first: int
    matches_leave_a_token: int
    refreshes_waiting: int
    ignore_eos_reserves_all: int
    stops_without_budget: int
    tests_memory_once: int
    chunks_lift_input_limit: int
    evicts_whole_need: int
    mixes_unchecked: int
    leaves_out_last_tokens: int
    ends_node_at_prompt: int


NO_SGLANG = SglangLimits(0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, *[0] * 13)


class Sglang(NamedTuple):
    """What the sglang policy keeps besides; without it all arrays are empty.

    K nodes of the radix tree, one more than there are pages, or 1 where it is disabled.
    """

    prompt: Ints  # [N] tokens
    filled: Ints  # [N] tokens whose KV is there after the last batch that computed a part of the prompt
    in_tree: Ints  # [N] leading pages that the tree owns, under a lock of the request
    node: Ints  # [N] the node in which those pages end; the root without any
    beginning: Longs  # [N] identity of the first 32 tokens
    span: Longs  # [1] pages of a block whose identity is known
    counts: Longs  # [R, NUM_SGLANG_COUNTS]
    ratio: Floats  # [R] new_token_ratio
    budget: Floats  # [R, NUM_BUDGETS] of the prefill batch that is being formed
    queue: Longs  # [R, MOST_SORTED] waiting requests while they are sorted
    keys: Longs  # [R, MOST_SORTED] by which
    lives: Longs  # [R, W + 2, 2] requests in order of their ends, while a prefill batch is formed
    nodes: Ints  # [R, K, NUM_NODE_COLUMNS] this and the next: as in memory/radix.py
    identity: Longs  # [R, K]
    stamp: Longs  # [R, K]
    buckets: Ints  # [R, a power of 2]
    heap: Longs  # [R, K]
    tree_counts: Longs  # [R, NUM_RADIX_COUNTS]
