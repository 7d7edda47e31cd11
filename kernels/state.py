"""The state of a simulation as arrays, declared once: what each array holds, its shape and its unit.

The shell allocates the arrays and kernels change them in place. Shapes are stated in N requests, R replicas, S pipeline
stages, B batches that a replica keeps, and W requests that a replica may hold in memory (``max_num_seqs``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
Longs = NDArray[np.int64]

NONE = -1  # the null id of requests, batches and stages

# Columns of Replicas.counts.
(
    HEAD,  # request at the head of the stream of arrivals that were not yet admitted
    COMING,  # first request of the stream that has not arrived yet
    TAIL,  # last request of the stream
    UNSEEN,  # requests of the stream that have not arrived yet
    WAITING,  # requests that have arrived and hold no memory: the waiting queue
    PREEMPTED,  # of these, the restarted ones; they are first in the queue, the last to restart foremost
    PRESENT,  # requests that have arrived and are not finished
    RUNNING,  # requests (faster_transformer: batches) that wait for their next iteration
    ALLOCATED,  # requests that hold memory
    FREE,  # KV blocks
    PEAK,  # most KV blocks ever held
    IN_FLIGHT,  # batches formed and not ended
    FORM_DUE,  # 1 when a batch is to be formed now
    WAITED,  # decode iterations since the last prefill batch (lightllm)
    RESTARTS,  # restarts so far
    RESTARTS_BEFORE,  # the same before the last formation of a batch; vllm_v1: of one with tokens
    ITERATIONS,  # batches formed so far
    TOKENS,  # tokens processed so far
    OUTCOME,  # exits.Ending
    GROUPED,  # 1 when decodes run as a group (iterations/group.py)
    GROUP,  # members of the group
    GROUP_STEP,  # iterations the group has taken part in
    GROUP_KV,  # tokens its members have processed, summed
    LONGEST,  # the most that a member had processed at step 0
    FRESH,  # members that have not taken part in an iteration of the group yet
    CHUNKED,  # prompts whose prefill has begun and is not complete, while decodes run as a group
    SKIPPED,  # of these, how many, counted from the first, got no tokens in the last iteration
    EVENTS_HEAD,  # index of the first event in the ring of events that are due now
    EVENTS,  # events in the ring
    SEQUENCE,  # stage starts so far; orders stage ends at equal times
    TBT_COUNT,  # gaps between output tokens
    KEPT_BATCH,  # batch that has just ended and whose members are still resident in it, NONE when there is none
    LAST_ARRIVED,  # last request of the stream that has arrived
    SHIFT,  # how many times the bins of the series have been folded
    NUM_COUNTS,
) = range(35)

# Columns of Batches.features.
(
    NUM_SEQS,
    NUM_TOKENS,
    NUM_PREFILL_TOKENS,
    NUM_DECODES,
    DECODE_KV,  # tokens that the decodes have processed, summed
    LONGEST_KV,  # most tokens that one of the decodes has processed
    NUM_PREFILLS,
    PREFILL_KV,  # tokens before each chunk, rounded up to the step of the table, summed
    PREFILL_SQUARES,  # squares of the chunk lengths, summed
    PREFILL_PAIRS,  # chunk lengths times tokens before, summed
    NUM_SAMPLED,  # requests that produce an output token
    NUM_HOLDERS,  # requests that the batch holds memory for (faster_transformer)
    IN_USE,  # 1 from when the batch is formed until it ends
    NUM_LISTED,  # members in Batches.request; the others are in Batches.residents
    NUM_RESIDENTS,  # these others: decodes that stay from batch to batch (iterations/pipeline_decodes.py)
    STEP,  # tokens that each resident has taken since step 0
    FIRST_FINISH,  # step in which the first resident finishes
    ALIGNED,  # 1 when all residents took their last token when the batch last ended
    NUM_PREEMPTED,  # vllm_v1: requests preempted since the batch before it was formed
    NUM_CACHED,  # vllm_v1: tokens that the requests admitted to it found in the cache
    NUM_FEATURES,
) = range(21)

# Columns of Batches.sums.
(
    SUM_WORK,  # time on stages
    SUM_WAIT,  # time on no stage
    SUM_HOST,  # host time
    SUM_OTHER,  # how much longer the batches take than they would with their decodes alone
    NUM_SUMS,
) = range(5)

# Columns of State.cursor.
(
    REPLICA,  # the replica that is being advanced
    SLOT,  # which of the replica's batches is to be formed or has ended
    FIRST,  # replicas [FIRST, LAST) are simulated
    LAST,
    NEXT_REQUEST,  # first to arrive of the requests that no router has seen, NONE when there is none
    LEFT,  # iterations until the kernel comes back
    LOGGED,  # rows written to the log
    LEFT_OVER,  # prompts in scratch that got no tokens in the batch being formed (sarathi)
    NEXT_IN_LOOP,  # first request of the closed loop that has no arrival time yet, NONE when there is none
    LATER,  # requests in State.later
    DIRECT,  # 1 where one replica serves all requests, and those in State.later come to it without a router
    TURN,  # requests that round_robin has routed (replicas/route.py)
    NUM_CURSORS,
) = range(13)

# Columns of State.moments.
(
    HORIZON,  # up to which replicas are advanced
    ORIGIN,  # the first arrival, from which the bins of series count
    NUM_MOMENTS,
) = range(3)

# Columns of Replicas.times.
(
    CLOCK,  # how far the replica has been advanced
    TBT_SUM,  # gaps between output tokens, summed
    TBT_MAX,  # the longest of these gaps
    LAST_END,  # end of the last iteration of the group
    WORK,  # time in iterations of the group, summed
    WORK_LOW,  # what this sum has lost by rounding
    IDLE,  # time between iterations of the group, summed
    HOST,  # host time of these iterations, summed
    OTHER,  # how much longer these iterations take than they would with the group alone, summed
    NUM_TIMES,
) = range(10)


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
    REFUSED,  # 1 when the first waiting request will be refused as long as none finishes
    HITS_BEFORE,  # tokens found in the cache before the last formation of a batch with tokens
    NUM_ENGINE_COUNTS,
) = range(16)

# Columns of Engine.phases.
FIRST_OF_PHASE, LAST_OF_PHASE = range(2)

# Columns of Engine.blocks; row num_blocks is the end of the list of free blocks, before its first and after its last.
(
    AFTER,  # the next free block
    BEFORE,  # the free block before
    REFERENCES,  # requests that hold the block
    CACHED,  # UNCACHED, PRIVATE or INDEXED
    NUM_BLOCK_COLUMNS,
) = range(5)

# A block that is full is cached. Where only the request itself can ever find it, it is not in the index until the
# request is preempted.
UNCACHED, PRIVATE, INDEXED = range(3)


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


NEVER_BACK, BACK_IF_SCHEDULED, ALWAYS_BACK = range(3)
RUNNING_BATCH, WITH_TOKENS, WITH_WORK = range(3)
EVERY_BATCH, ONE_BATCH, TURNS = range(3)

NO_ENGINE = EngineLimits(0, 0, 0, 0, 0, 0, 0, 0.0, *[0] * 11)


class Limits(NamedTuple):
    """What bounds a batch on the replicas of a pool: a scheduler's settings, in its own words."""

    num_stages: int
    num_blocks: int
    block_size: int  # tokens
    watermark_blocks: int  # that admission leaves free
    blocks_per_sequence: int  # that orca and faster_transformer reserve for a request
    max_num_seqs: int  # most requests that hold memory
    micro_batch_size: int  # most requests in a batch: max_num_seqs // num_stages
    max_batch_size: int  # most requests in a batch of orca and faster_transformer
    max_num_batched_tokens: int  # of a batch: vllm, lightllm
    chunk_size: int  # tokens of a batch: sarathi
    max_waiting_iters: int  # decode iterations between two attempts to admit: lightllm
    router: int  # as in replicas/route.py; the same for all pools
    engine: EngineLimits = NO_ENGINE  # of the vllm_v1 policy


class Requests(NamedTuple):
    """Struct of arrays, one entry per request, in any order; times in seconds, NaN where not yet."""

    arrived_at: Floats  # of a request that follows another NaN, or when its client wants to send it, until it is known
    total: Ints  # prompt and output tokens
    prefill: Ints  # tokens to process before the next output token: the prompt, or all tokens so far after a restart
    processed: Ints  # tokens processed; the first output token counts when the prefill is complete
    blocks: Ints  # KV blocks held
    restarts: Ints
    scheduled_at: Floats  # first put into a batch
    started_at: Floats  # first stage started
    first_token_at: Floats
    last_token_at: Floats
    finished_at: Floats
    execution_time: Floats  # s in iterations, summed over stages
    parts: Floats  # [N, breakdown.NUM_PARTS] s, where the time goes; [0, NUM_PARTS] without detail
    detail: Floats  # breakdown.DETAIL or NO_DETAIL
    replica: Ints  # NONE before the request is routed
    next: Ints  # next to arrive on the same replica; of those that no router has seen, next to arrive at all
    follower: (
        Ints  # which arrives once this one has finished, NONE or LOOP (memory/followers.py); [0] where all is known
    )
    think: Floats  # s, from the end of the request that it follows to its arrival; [0] where all is known


class Replicas(NamedTuple):
    """One row per replica."""

    pool: Ints  # [R] of Limits and Cost
    counts: Longs  # [R, NUM_COUNTS]
    times: Floats  # [R, NUM_TIMES] s
    busy: Floats  # [R, S] s in iterations
    preempted: Ints  # [R, W] restarted requests, the next one last
    running: Ints  # [R, W * S] requests (faster_transformer: batches) that wait for their next iteration
    heap: Longs  # [R, W] heap of the group's members, the next to finish on top: last step << 32 | request
    growth: Ints  # [R, block size] how many members of the group need a block, by step modulo the block size
    fresh: Ints  # [R, W] members that have not taken part in an iteration of the group yet
    chunked: Ints  # [R, W] prompts whose prefill has begun and is not complete, while decodes run as a group
    stage_end: Floats  # [R, S] s, when the batch on the stage leaves it
    stage_seconds: Floats  # [R, S] s, how long the batch is on the stage
    stage_batch: Longs  # [R, S] the batch on the stage, NONE when idle
    stage_sequence: Longs  # [R, S] order in which stages started
    queue: Longs  # [R, S, S] batches before a stage, oldest first
    queued: Longs  # [R, S] batches in each queue
    load: Floats  # [R] requests, by which least_outstanding and least_waiting choose a replica
    lightest: Ints  # tournament of the replicas by load (replicas/tournament.py)
    quiet_until: Floats  # [R] s, when the load of a replica may change next without a request being routed to it
    soonest: Ints  # tournament of the replicas by quiet_until
    events: Longs  # [R, 8 * S + 8] ring of events due now
    sums: Longs  # [R, counts.NUM_SUMS] work; [0, NUM_SUMS] without detail
    series: Longs  # [R, counts.BINS, counts.NUM_SERIES] what happens over time; [0, BINS, NUM_SERIES] without detail


class Batches(NamedTuple):
    """Up to S batches in flight per replica; a batch keeps its slot until it ends.

    There are B slots: one where a replica has one stage, and S + 1 in a pipeline, so that a batch can be formed while
    the batch that has just ended keeps its residents.
    """

    request: Ints  # [R, B, W] members, those that are listed
    tokens: Ints  # [R, B, W] tokens that each of them computes in the batch
    features: Longs  # [R, B, NUM_FEATURES]
    layers_ms: Floats  # [R, B] ms, the layers of a mean stage; affine: ns, all of a stage
    on_stage: Floats  # [R, B] s on stages so far, by the clock
    seconds: Floats  # [R, B] s on stages so far, by the tables
    residents: Ints  # [R, B, W] members that stay from batch to batch
    growth: Ints  # [R, B, block size] how many residents need a block, by step modulo the block size
    sums: Floats  # [R, B, NUM_SUMS] s since step 0 of the residents
    last_end: Floats  # [R, B] s, when the residents last took a token


class Log(NamedTuple):
    """One row per batch and stage, those of a stage in order of start. No log is kept where the arrays are empty."""

    replica: Ints
    stage: Ints
    start: Floats  # s
    end: Floats  # s
    num_seqs: Ints
    num_tokens: Ints
    num_prefill_tokens: Ints
    kv_blocks: Ints
    num_preempted: Ints  # this and the next: empty without the vllm_v1 policy
    num_cached_tokens: Ints


class Tally(NamedTuple):
    """Histograms of batches; empty without detail."""

    batch_size: Longs  # [W + 1] batches by number of requests
    batch_decodes: Longs  # [W + 1] batches by number of decodes
    batch_tokens: Longs  # [histogram.NUM_SIZES] batches by number of tokens
    batch_prefill_tokens: Longs  # [histogram.NUM_SIZES] batches by number of prompt tokens
    batch_seconds: Longs  # [histogram.NUM_BINS] batches on a stage by their time there


class Engine(NamedTuple):
    """What the vllm_v1 policy keeps besides; without it, and where prefixes are not cached, arrays are empty.

    D batches in flight per replica, K KV blocks, M blocks of the longest request, H hashes in all.
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
    registered: Ints  # [N] of its blocks, how many are full and so can be found by others
    row: Ints  # [N] row of the block tables, NONE without one
    hash_start: Longs  # [N + 1] first hash of each request
    hashes: Longs  # [H] identity of the blocks of each request; equal where all tokens up to there are equal
    private: Longs  # [N] identity of the first block for which the request has no hash, less 2; negative
    order: Ints  # [N] admissions before that of the request
    member: Ints  # [N] iterations/engine_group.py: whether a running request is in the group
    left: Ints  # [N] branches in the heap of waiting requests by priority; neighbours in the list of a phase
    right: Ints
    rank: Ints  # [N] length of the right branch
    phases: Ints  # [R, block size, 2] members that need a block in a step modulo the block size: first and last
    samples: Ints  # [R, D, W] 1 where a member of a batch yields an output token
    batch_start: Floats  # [R, D] s, when a batch starts on the first stage
    batch_end: Floats  # [R, D] s, when it leaves the last
    counted: Floats  # [R] s, up to when running requests and KV blocks are counted
    counts: Longs  # [R, NUM_ENGINE_COUNTS]
    blocks: Ints  # [R, K + 1, NUM_BLOCK_COLUMNS]
    block_hash: Longs  # [R, K] identity of the tokens up to the end of a block in the index
    next_alike: Ints  # [R, K] the next block in the same of Engine.buckets, NONE when it is the last
    buckets: Ints  # [R, number of buckets] first cached block of a bucket of hashes, NONE when it is empty
    table: Ints  # [R, W, M] blocks of each row, in order of tokens
    rows: Ints  # [R, W] rows that no request has


class State(NamedTuple):
    """Everything that changes. Threads share requests, replicas and batches; each has the other arrays for itself."""

    requests: Requests
    replicas: Replicas
    batches: Batches
    log: Log
    tally: Tally
    tbt: Longs  # [histogram.NUM_BINS] gaps between output tokens (TBT) by length
    cursor: Longs  # [NUM_CURSORS]
    moments: Floats  # [NUM_MOMENTS] s
    scratch: Longs  # [2, W * S + W] working memory of a policy while it forms a batch
    engine: Engine
    later: Ints  # [N] heap of requests that follow others and are to arrive, the next on top; [0] where all is known
