"""The state of a simulation as arrays, declared once: what each holds, its shape and its unit.

The shell allocates them, kernels change them in place. N requests, R replicas, S pipeline stages,
W places in a batch (the batch size cap).
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
    UNSEEN,  # requests of the stream that the replica has not seen arrive yet
    WAITING,  # requests that have arrived and hold no memory: the waiting queue
    PREEMPTED,  # of these, restarted ones; they stand before the others, last come first
    PRESENT,  # requests that have arrived and are not finished
    RUNNING,  # requests (faster_transformer: batches) that wait for their next iteration
    ALLOCATED,  # requests that hold memory
    FREE,  # KV blocks
    PEAK,  # most KV blocks ever held
    IN_FLIGHT,  # batches formed and not ended
    FORM_DUE,  # 1 when a batch is to be formed now
    WAITED,  # decode iterations since the last prefill batch (lightllm)
    RESTARTS,  # restarts so far
    RESTARTS_BEFORE,  # the same before the last formation of a batch
    ITERATIONS,  # batches formed so far
    TOKENS,  # tokens processed so far
    OUTCOME,  # exits.Ending
    GROUPED,  # 1 when decodes run as a group (group.py)
    GROUP,  # members of the group
    GROUP_STEP,  # iterations the group has taken part in
    GROUP_KV,  # tokens its members have processed, summed
    LONGEST,  # the most that a member had processed at step 0
    FRESH,  # members that have not taken part in an iteration yet
    CHUNKED,  # prompts begun and not complete, while decodes run as a group
    SKIPPED,  # of these, the first ones, that got nothing in the last iteration
    EVENTS_HEAD,  # first of the ring of events that are due now
    EVENTS,  # how many they are
    SEQUENCE,  # stage starts so far; orders stage ends at equal times
    TBT_COUNT,  # gaps between output tokens
    RESTING,  # the batch that has just ended and stays together (standing.py), NONE when there is none
    SHIFT,  # times that the bins of the series have folded
    NUM_COUNTS,
) = range(34)

# Columns of Batches.features.
(
    NUM_SEQS,
    NUM_TOKENS,
    NUM_PREFILL_TOKENS,
    NUM_DECODES,
    DECODE_KV,  # tokens that the decodes have processed, summed
    LONGEST_KV,  # the most that one decode has processed
    NUM_PREFILLS,
    PREFILL_KV,  # tokens before each chunk, rounded up to the step of the table, summed
    PREFILL_SQUARES,  # squares of the chunk lengths, summed
    PREFILL_PAIRS,  # chunk lengths times tokens before, summed
    NUM_SAMPLED,  # requests that produce an output token
    NUM_MEMBERS,  # places that the batch holds memory for (faster_transformer)
    IN_USE,
    NUM_LISTED,  # members in Batches.request; the others are in Batches.standing
    STANDING,  # these others: decodes that stay together (standing.py)
    STEP,  # tokens that they have taken since step 0
    DUE,  # the step in which the first of them finishes
    EVEN,  # 1 when all of them took their last token when the batch last ended
    NUM_FEATURES,
) = range(19)

# Columns of Batches.sums.
(
    SUM_WORK,  # on stages
    SUM_WAIT,  # on none
    SUM_HOST,  # host time
    SUM_OTHER,  # what the batches take longer than with their decodes alone
    NUM_SUMS,
) = range(5)

# Columns of State.cursor.
(
    REPLICA,  # the replica that is being advanced
    SLOT,  # the batch that is to be formed or has ended
    FIRST,  # replicas [FIRST, LAST) are simulated
    LAST,
    NEXT_REQUEST,  # first to arrive of the requests that no router has seen, NONE when there is none
    LEFT,  # iterations until the kernel comes back
    LOGGED,  # rows written to the log
    PLACED,  # second answer of the last call that has two
    NUM_CURSORS,
) = range(9)

# Columns of State.moments.
(
    HORIZON,  # up to which replicas are advanced
    ORIGIN,  # the first arrival, from which the bins of series count
    NUM_MOMENTS,
) = range(3)

# Columns of Replicas.times.
(
    CLOCK,
    TBT_SUM,
    TBT_MAX,
    LAST_END,  # end of the last iteration of the group
    WORK,  # time in iterations of the group
    WORK_LOW,  # what its sum has lost by rounding
    IDLE,  # time between iterations of the group
    HOST,  # host time of its iterations
    OTHER,  # what they take longer than with the group alone
    NUM_TIMES,
) = range(10)


class Limits(NamedTuple):
    """What bounds a batch on the replicas of a pool: a scheduler's settings, in its own words."""

    num_stages: int
    num_blocks: int
    block_size: int  # tokens
    watermark_blocks: int
    blocks_per_sequence: int  # held at once by orca and faster_transformer
    max_num_seqs: int
    micro_batch_size: int  # sequences in a batch: max_num_seqs // num_stages
    max_batch_size: int  # the same for orca and faster_transformer
    max_num_batched_tokens: int
    chunk_size: int
    max_waiting_iters: int
    router: int  # ROUTED, LEAST_OUTSTANDING, LEAST_WAITING or ASKED; the same for all pools


class Requests(NamedTuple):
    """Struct of arrays, one entry per request, in any order; times in seconds, NaN where not yet."""

    arrived_at: Floats  # of this simulation alone: a kernel may write when a request arrives that is still to come
    total: Ints  # prompt and output tokens
    prefill: Ints  # tokens to process before the next output token: the prompt, or all so far after a restart
    processed: Ints  # tokens processed; the first output token counts when the prefill is complete
    blocks: Ints  # KV blocks held
    restarts: Ints
    scheduled_at: Floats  # first put into a batch
    started_at: Floats  # first stage started
    first_token_at: Floats
    last_token_at: Floats
    finished_at: Floats
    execution_time: Floats  # s in iterations, summed over stages
    parts: Floats  # [N, breakdown.NUM_PARTS] s, where the time goes; [0, NUM_PARTS] when nobody asked
    detail: Floats  # breakdown.DETAIL or NO_DETAIL
    replica: Ints
    next: Ints  # next to arrive on the same replica; of those that no router has seen, next to arrive at all


class Replicas(NamedTuple):
    """One row per replica."""

    pool: Ints  # [R] of Limits and Cost
    counts: Longs  # [R, NUM_COUNTS]
    times: Floats  # [R, NUM_TIMES] s
    busy: Floats  # [R, S] s in iterations
    preempted: Ints  # [R, W] restarted requests, the next one last
    running: Ints  # [R, W * S] requests (faster_transformer: batches) that wait for their next iteration
    heap: Longs  # [R, W] members of the group, first to finish first: step of the end, then the request
    growth: Ints  # [R, block size] members of the group that need a block, by step modulo the block size
    fresh: Ints  # [R, W] members that have not taken part in an iteration yet
    chunked: Ints  # [R, W] prompts begun and not complete, while decodes run as a group
    stage_end: Floats  # [R, S] s, when the batch on the stage ends
    stage_seconds: Floats  # [R, S] s, how long that batch takes there
    stage_batch: Longs  # [R, S] the batch on the stage, NONE when idle
    stage_sequence: Longs  # [R, S] order in which stages started
    queue: Longs  # [R, S, S] batches before a stage, oldest first
    queued: Longs  # [R, S]
    load: Floats  # [R] requests, what a router that looks keeps low
    lightest: Ints  # tournament of the replicas by load
    quiet_until: Floats  # [R] s, when the load of a replica may change next by itself
    soonest: Ints  # tournament of the replicas by quiet_until
    events: Longs  # [R, 8 * S + 8] ring of events due now
    sums: Longs  # [R, measure.NUM_SUMS] work; of no replica when nobody asked
    series: Longs  # [R, measure.BINS, measure.NUM_SERIES] over time; of no replica when nobody asked


class Batches(NamedTuple):
    """Up to S batches in flight per replica; a batch keeps its place until it ends.

    There are B places, S in a pipeline of one stage and S + 1 in others: one to form a batch in while the last stays.
    """

    request: Ints  # [R, B, W]
    tokens: Ints  # [R, B, W]
    features: Longs  # [R, B, NUM_FEATURES]
    layers_ms: Floats  # [R, B] what is the same on every stage
    on_stage: Floats  # [R, B] s spent on stages so far, by the clock
    seconds: Floats  # [R, B] s on the same, by the tables
    standing: Ints  # [R, B, W] members that stay together from batch to batch
    growth: Ints  # [R, B, block size] of these, who needs a block, by step modulo the block size
    sums: Floats  # [R, B, NUM_SUMS] s since their step 0
    last_end: Floats  # [R, B] s, when the last of these batches ended


class Log(NamedTuple):
    """One row per batch and stage, in order of start; empty arrays keep no log."""

    replica: Ints
    stage: Ints
    start: Floats  # s
    end: Floats  # s
    num_seqs: Ints
    num_tokens: Ints
    num_prefill_tokens: Ints
    kv_blocks: Ints


class Tally(NamedTuple):
    """Batches by what they are; empty when nobody asked."""

    batch_size: Longs  # [W + 1] batches by number of sequences
    batch_decodes: Longs  # [W + 1] the same by decodes
    batch_tokens: Longs  # [counters.NUM_SIZES] batches by number of tokens
    batch_prefill_tokens: Longs  # [counters.NUM_SIZES] the same by prompt tokens
    batch_seconds: Longs  # [counters.NUM_BINS] batches on stages by time


class State(NamedTuple):
    """Everything that changes. Threads share requests, replicas and batches and own the rest."""

    requests: Requests
    replicas: Replicas
    batches: Batches
    log: Log
    tally: Tally
    tbt: Longs  # [counters.NUM_BINS] gaps between output tokens by length
    cursor: Longs  # [NUM_CURSORS]
    moments: Floats  # [NUM_MOMENTS] s
    scratch: Longs  # [2, W * S + W]
