"""The state of a simulation as arrays, declared once: what each array holds, its shape and its unit.

The shell allocates the arrays and kernels change them in place. Shapes are stated in N requests, R replicas, S pipeline
stages, B batches that a replica keeps, and W requests that a replica may hold in memory (``max_num_seqs``).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .engine.state import NO_ENGINE, Engine, EngineLimits
from .ranks.state import NO_RANKS, RankLimits, Ranks
from .replicas.routers import ALONE, NO_ROUTING, Routing, Share
from .sglang.state import NO_SGLANG, Sglang, SglangLimits
from .transfers.state import NO_LINK, Link, Transfers

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
    EVENTS_HEAD,  # index of the first event in the ring; with a timetable, of the oldest batch in flight
    EVENTS,  # events in the ring
    SEQUENCE,  # stage starts so far; orders stage ends at equal times
    TBT_COUNT,  # gaps between output tokens
    KEPT_BATCH,  # batch that has just ended and whose members are still resident in it, NONE when there is none
    LAST_ARRIVED,  # last request of the stream that has arrived
    SHIFT,  # how many times the bins of the series have been folded
    REMOTE,  # requests that wait for their KV to be transferred, or to run after that
    NUM_COUNTS,
) = range(36)

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
    NUM_PREEMPTED,  # vllm_v1 and sglang: requests preempted since the batch before it was formed
    NUM_CACHED,  # vllm_v1 and sglang: tokens that the requests admitted to it found in the cache
    COHORT,  # vllm_v1 with pipelines: the cohort that its residents are (engine/cohorts.py)
    NUM_FEATURES,
) = range(22)

# Columns of Batches.sums.
(
    SUM_WORK,  # time on stages
    SUM_WAIT,  # time on no stage
    SUM_HOST,  # host time
    SUM_OTHER,  # how much longer the batches take than they would with their decodes alone
    NUM_SUMS,
) = range(5)

# Columns of Batches.segments: what cost.steady_segment returns.
VALUE, RISE, CELL, SEGMENT_END, NUM_SEGMENT_COLUMNS = range(5)

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
    TURN_OF_PREFILLS,  # the same of those that are prefilled for another replica (transfers/route.py)
    NUM_CURSORS,
) = range(14)

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
    router: int  # as in replicas/routers.py; the same for all pools
    engine: EngineLimits = NO_ENGINE  # of the vllm_v1 policy; sglang has only ``depth``
    routing: Routing = NO_ROUTING  # of the router; the same for all pools
    sglang: SglangLimits = NO_SGLANG  # of the sglang policy
    share: Share = ALONE  # of the pool, where there are several
    ranks: RankLimits = NO_RANKS  # of replicas whose ranks step together
    link: Link = NO_LINK  # over which KV is transferred


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
    """One row per replica; with ranks, one per rank, and behind those one per replica (ranks/)."""

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
    stage_end: Floats  # [R, S] s, when the batch on the stage leaves it; with a timetable, when the last one does
    stage_start: Floats  # [R, S] s, with a timetable: when the last batch comes to the stage
    stage_seconds: Floats  # [R, S] s, how long the batch is on the stage
    stage_batch: Longs  # [R, S] the batch on the stage, NONE when idle
    stage_sequence: Longs  # [R, S] order in which stages started
    queue: Longs  # [R, S, S] batches before a stage, oldest first; with a timetable, first a ring of those in flight
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
    segments: Floats  # [R, B, NUM_SEGMENT_COLUMNS] where the residents are on attention's line, while batches go round
    last_end: Floats  # [R, B] s, when the residents last took a token
    leaves_at: Floats  # [R, B] s, when the batch leaves the last stage, where that is known (replicas/timetable.py)


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
    num_preempted: Ints  # this and the next: empty but for vllm_v1 and sglang
    num_cached_tokens: Ints


class Tally(NamedTuple):
    """Histograms of batches; empty without detail."""

    batch_size: Longs  # [W + 1] batches by number of requests
    batch_decodes: Longs  # [W + 1] batches by number of decodes
    batch_tokens: Longs  # [histogram.NUM_SIZES] batches by number of tokens
    batch_prefill_tokens: Longs  # [histogram.NUM_SIZES] batches by number of prompt tokens
    batch_seconds: Longs  # [histogram.NUM_BINS] batches on a stage by their time there


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
    sglang: Sglang
    ranks: Ranks
    later: Ints  # [N] heap of requests that follow others and are to arrive, the next on top; [0] where all is known
    transfers: Transfers
