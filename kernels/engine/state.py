"""What the vllm_v1 policy keeps beside the state of a simulation, and the settings and rules that it goes by."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

# Columns of Engine.counts.
(
    OLDEST,  # slot of the oldest batch in flight
    CALLS,  # calls of the scheduler so far
    UNANNOUNCED,  # 1 when a request has finished since the last call of the scheduler
    IDLE_CALL,  # 1 when the last pass of the engine loop scheduled no tokens
    ROOT,  # the first waiting request by priority, NONE when none waits
    ROWS_FREE,  # rows of the block tables that no request has
    QUERIED,  # tokens that were looked up in the prefix cache at admission
    HIT,  # of these, tokens that were cached
    QUERIED_AGAIN,  # the same for requests that were preempted before
    HIT_AGAIN,
    EVICTED,  # cached blocks that were taken for other tokens
    ADMISSIONS,  # requests admitted so far
    NEWEST,  # the latest admission of those that have joined the group
    REFUSED,  # CHUNK or WHOLE when the first waiting request is refused as long as none finishes, 0 otherwise
    MISSING,  # identity of the first block that it has not found in the cache, NONE when no other has that block
    LATEST_FINISH,  # the largest step by which the heap has ordered a member since the group began
    UNFORESEEN,  # members that end before the engine expects them to
    AHEAD,  # 1 when the group's next step is formed, and runs alone once the batch in flight has ended
    LINKED,  # members of the group that are in the list of a phase
    FLYING_BEFORE,  # batches in flight when the last step of the group was formed
    ENTRIES_USED,  # rows of Engine.blocks that have been in use
    SPARE,  # the first of these that is not in use, NONE without one
    HITS_BEFORE,  # tokens found in the cache before the last formation of a batch with tokens
    FOR_PREFILLS,  # preemptions that made room for a chunk of a prefill; all others made room for a decode
    OUTRANKED,  # preemptions of a request with a lower priority than the one that they made room for
    RESTARTS_BEFORE_TOKEN,  # preemptions before requests were last given an output token
    ENDED,  # cohort whose batch has ended since the last call of the scheduler, NONE when none has
    NUM_ENGINE_COUNTS,
) = range(28)

# Columns of Engine.cohorts, where no comment says more as of a group in Replicas.counts.
(
    COHORT_SIZE,
    COHORT_STEP,
    COHORT_KV,
    COHORT_LONGEST,
    COHORT_NEWEST,  # the latest admission of a member
    COHORT_LEAVES,  # the step that is the last of a member, which leaves before
    COHORT_CALL,  # the call of the scheduler that formed its last batch
    COHORT_FLYING,  # batches of the cohort that were in flight then
    NUM_COHORT_COUNTS,
) = range(9)

# Why the first waiting request is refused: blocks for a chunk of it are not free, or no place, or blocks for all of it,
# whatever the chunk.
CHUNK, WHOLE = range(1, 3)

# Columns of Engine.phases.
FIRST_OF_PHASE, LAST_OF_PHASE = range(2)

# Engine.left of a member that is in no list of a phase.
UNLINKED = -2

# Row of Engine.blocks that ends the list of free blocks: it stands before the first and after the last. It is no block,
# and so it is also what an empty bucket and the end of a bucket have: these begin as zeros, which take no memory.
END = 0

# Columns of Engine.blocks.
(
    AFTER,  # the next free entry, or the next that is not in use
    BEFORE,  # the free entry before
    NUMBER,  # requests that hold a block that can be found; blocks of a run
    KIND,  # UNCACHED, CACHED or INDEXED
    NUM_BLOCK_COLUMNS,
) = range(5)

# A run of free blocks: those that are full of a request's own tokens are CACHED, as it may be preempted and resume, but
# not in the index, as it has finished. A block in the index is an entry of its own.
UNCACHED, CACHED, INDEXED = range(3)


class EngineLimits(NamedTuple):
    """The settings of the vllm_v1 policy, and the rules of its release; flags are 0 or 1."""

    max_model_len: int  # tokens of prompt and output
    by_priority: int  # requests wait, and are preempted, by priority
    prefix_caching: int
    chunked_prefill: int
    threshold: int  # most tokens of a chunk (long_prefill_token_threshold); 0: as many as the budget has
    asynchronous: int  # a batch is scheduled while the batch before it runs
    depth: int  # most batches in flight
    sleep_s: float  # s, after a pass of the engine loop that scheduled no tokens
    whole_prompt: int  # a request is admitted only if blocks for all its tokens are free
    unhashed_first: int  # freed blocks that are not cached are the first to be taken again
    threshold_alone: int  # the threshold holds for the only request as well
    requester_goes_on: int  # a request that preempts itself does not end the batch, by priority
    steps_back: int  # how the loop goes on after a victim that stands earlier, by priority: NEVER_BACK and others
    extra_slot: int  # asynchronous: a token is scheduled after the last one too
    skips_prompts: int  # without chunks: prompts that do not fit are passed over
    victim_keeps_tokens: int  # a victim that has tokens in this batch keeps them, by priority
    launches_while: int  # when the loop schedules again before the oldest batch has ended: RUNNING_BATCH and others
    drains: int  # a preempted request waits until no batch in flight has it
    shares_turns: int  # asynchronous pipelines: ONE_BATCH and others
    awaits_tokens: int  # asynchronous pipelines: a batch starts once the tokens that it computes have been sampled


# Engine.samples: what the tokens of a member of a batch are; all but a PART yield an output token.
PART, LAST_PART, DECODE = range(3)

# Engine.member. NEW: the batch in flight lists the request, and the sums of the group do not count for it yet.
OUTSIDE, MEMBER, NEW = range(3)

NEVER_BACK, BACK_IF_SCHEDULED, ALWAYS_BACK = range(3)
RUNNING_BATCH, WITH_TOKENS, WITH_WORK = range(3)
EVERY_BATCH, ONE_BATCH, TURNS = range(3)

NO_ENGINE = EngineLimits(0, 0, 0, 0, 0, 0, 0, 0.0, *[0] * 12)


class Engine(NamedTuple):
    """What the vllm_v1 policy keeps besides; without it, and where prefixes are not cached, arrays are empty.

    D batches in flight per replica, B blocks and runs of them that are told apart, M blocks of the longest request, H
    hashes in all.
    """

    known: Ints  # [N] prompt and output tokens that the scheduler knows
    sampled: (
        Ints  # [N] asynchronous: output tokens of batches in flight, which the scheduler counts before it knows them
    )
    limit: Ints  # [N] most tokens that the request may come to, as far as the scheduler knows
    priority: Ints  # [N] lower is served first
    in_batches: Ints  # [N] batches in flight that have the request
    last_call: Longs  # [N] the last call of the scheduler in which the request was given its newest token
    cached: Ints  # [N] tokens found in the cache at the first admission
    cached_blocks: Ints  # [N] of its blocks, how many are full of known tokens and so cached
    findable: Ints  # [N] of these, how many are in the index
    row: Ints  # [N] row of the block tables, NONE without one
    hash_start: Longs  # [N + 1] first hash of each request
    hashes: Longs  # [H] identity of the blocks of each request; equal where all tokens up to there are equal
    private: Longs  # [N] identity of the first block for which the request has no hash, less 2; negative
    order: Ints  # [N] admissions before that of the request
    member: Ints  # [N] OUTSIDE, MEMBER or NEW: whether a running request is in the group (engine/group.py)
    left: Ints  # [N] branches in the heap of waiting requests by priority; neighbours in the list of a phase
    right: Ints
    rank: Ints  # [N] length of the right branch
    phases: Ints  # [R, block size, 2] members that need a block in a step modulo the block size: first and last
    samples: Ints  # [R, D, W] PART, LAST_PART or DECODE
    batch_start: Floats  # [R, D] s, when a batch starts on the first stage
    batch_end: Floats  # [R, D] s, when it leaves the last
    counted: Floats  # [R] s, up to when running requests and KV blocks are counted
    counts: Longs  # [R, NUM_ENGINE_COUNTS]
    cohorts: Longs  # [R, S, NUM_COHORT_COUNTS] decodes of pipelines that take turns (engine/cohorts.py)
    blocks: Ints  # [R, B + 1, NUM_BLOCK_COLUMNS] blocks that can be found, and runs of free ones that cannot
    block_hash: Longs  # [R, B + 1] identity of the tokens up to the end of a block in the index
    next_alike: Ints  # [R, B + 1] the next block in the same of Engine.buckets, END when it is the last
    buckets: Ints  # [R, number of buckets] first cached block of a bucket of hashes, END when it is empty
    table: Ints  # [R, W, M] blocks of each row that can be found, in order of tokens
    rows: Ints  # [R, W] rows that no request has
