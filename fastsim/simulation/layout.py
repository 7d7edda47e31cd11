"""The arrays that a kernel works on, laid out as they are before the first request arrives."""

import math
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels import state
from fastsim.kernels.accounts import scale
from fastsim.kernels.accounts import series as measure
from fastsim.kernels.accounts.parts import DETAIL, NO_DETAIL, NUM_PARTS
from fastsim.kernels.engine.state import Engine
from fastsim.kernels.ranks.state import Ranks
from fastsim.kernels.replicas.routers import ROUTED
from fastsim.kernels.sglang.state import Sglang
from fastsim.kernels.state import Batches, Limits, Log, Replicas, Requests, State, Tally
from fastsim.kernels.transfers.state import Transfers
from fastsim.simulation.arena import Arena
from fastsim.simulation.engine import no_engine
from fastsim.simulation.ranks import first_replica, no_ranks, rows_of
from fastsim.simulation.sglang import no_sglang
from fastsim.simulation.stream import Stream, share
from fastsim.simulation.transfers import no_transfers
from fastsim.workload.following import Following

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]


@lru_cache(maxsize=256)
def bytes_each(num_stages: int, max_num_seqs: int, block_size: int, detail: bool) -> tuple[int, int]:
    """The memory that a simulation takes for each request and for each replica, bytes."""
    limits = Limits(num_stages, 1, block_size, 1, 1, max_num_seqs, 1, 1, 1, 1, 1, ROUTED)
    arena = Arena()
    one = share(np.zeros(1), np.ones(1, np.int32), np.ones(1, np.int32))
    requests = lay_out_requests(one, arena, detail)
    replicas, batches = lay_out_replicas(1, limits, arena, detail), lay_out_batches(1, limits, arena)
    return sum(np.asarray(column).nbytes for column in requests), sum(column.nbytes for column in (*replicas, *batches))


def lay_out_requests(stream: Stream, arena: Arena, detail: bool = False, front_end: float = 0.0) -> Requests:
    """Return the columns of requests that are yet to arrive; ``detail`` also keeps where the time of each one goes.

    Kernels know when requests reach a scheduler, which is ``front_end``, s, after a client sends them: a request that
    follows another is sent once its user has thought, and reaches the scheduler that much later.
    """
    number = len(stream.arrived_at)
    arrived_at, prefill = arena.take("arrived_at", number), arena.take("prefill", number, np.int32)
    np.add(stream.arrived_at, front_end, out=arrived_at)
    prefill[:] = stream.num_prompt_tokens
    following = stream.following
    never = {
        name: arena.take(name, number, value=math.nan)
        for name in ("scheduled_at", "started_at", "first_token_at", "last_token_at", "finished_at")
    }
    return Requests(
        arrived_at=arrived_at,
        total=stream.total,
        prefill=prefill,
        processed=arena.take("processed", number, np.int32),
        blocks=arena.take("blocks", number, np.int32),
        restarts=arena.take("restarts", number, np.int32),
        execution_time=arena.take("execution_time", number),
        parts=arena.take("parts", (number if detail else 0, NUM_PARTS)),
        detail=DETAIL if detail else NO_DETAIL,
        replica=arena.take("replica", number, np.int32, state.NONE),
        next=arena.take("next", number, np.int32, state.NONE),
        follower=following.follower if following else arena.take("follower", 0, np.int32),
        think=_delayed(following.think, front_end) if following else arena.take("think", 0),
        **never,
    )


def _delayed(think: Floats, front_end: float) -> Floats:
    """Return how long after the end of the one before a request reaches a scheduler, s."""
    return think + front_end if front_end else think


def lay_out_replicas(num_replicas: int, limits: Limits, arena: Arena, detail: bool = False) -> Replicas:
    """Return the columns of replicas that hold no request, all of one pool."""
    num_replicas = rows_of(num_replicas, limits)
    first = first_replica(num_replicas, limits)
    shape = (num_replicas, limits.num_stages)
    places = (num_replicas, limits.max_num_seqs)
    counts = arena.take("counts", (num_replicas, state.NUM_COUNTS), np.int64)
    counts[:, [state.HEAD, state.COMING, state.TAIL, state.KEPT_BATCH]] = state.NONE
    counts[:, state.FREE] = limits.num_blocks
    return Replicas(
        pool=arena.take("pool", num_replicas, np.int32),
        counts=counts,
        times=arena.take("times", (num_replicas, state.NUM_TIMES)),
        busy=arena.take("busy", shape),
        preempted=arena.take("preempted", places, np.int32),
        running=arena.take("running", (num_replicas, limits.max_num_seqs * limits.num_stages), np.int32),
        heap=arena.take("heap", places, np.int64),
        growth=arena.take("growth", (num_replicas, limits.block_size), np.int32),
        fresh=arena.take("fresh", places, np.int32),
        chunked=arena.take("chunked", places, np.int32),
        stage_end=arena.take("stage_end", shape),
        stage_start=arena.take("stage_start", shape),
        stage_seconds=arena.take("stage_seconds", shape),
        stage_batch=arena.take("stage_batch", shape, np.int64, state.NONE),
        stage_sequence=arena.take("stage_sequence", shape, np.int64),
        queue=arena.take("queue", (*shape, limits.num_stages), np.int64),
        queued=arena.take("queued", shape, np.int64),
        load=arena.take("load", num_replicas),
        lightest=_winner_tree(first, num_replicas, "lightest", arena),
        quiet_until=arena.take("quiet_until", num_replicas, value=math.inf),
        soonest=_winner_tree(first, num_replicas, "soonest", arena),
        events=arena.take("events", (num_replicas, 8 * limits.num_stages + 8), np.int64),
        sums=arena.take("sums", (num_replicas * detail, measure.NUM_SUMS), np.int64),
        series=arena.take("series", (num_replicas * detail, measure.BINS, measure.NUM_SERIES), np.int64),
    )


def _winner_tree(first: int, last: int, name: str, arena: Arena) -> NDArray[np.int32]:
    """Return the tournament of the replicas in some rows, up to but not including ``last``, which have the same key."""
    drawn = _drawn_tree(first, last)
    winners = arena.take(name, len(drawn), np.int32)
    winners[:] = drawn
    return winners


@cache
def _drawn_tree(first: int, last: int) -> NDArray[np.int32]:
    """The tree of kernels.replicas.tournament, int32[2 * P], P the next power of two, in which all keys are equal."""
    leaves = 1 << max(1, (last - 1).bit_length())
    winners = np.full(2 * leaves, state.NONE, np.int32)
    winners[leaves + first : leaves + last] = np.arange(first, last)
    for node in range(leaves - 1, 0, -1):
        winners[node] = winners[2 * node] if winners[2 * node] != state.NONE else winners[2 * node + 1]
    return winners


def lay_out_batches(num_replicas: int, limits: Limits, arena: Arena) -> Batches:
    """Return the places of the batches in flight, all of them free."""
    num_replicas = rows_of(num_replicas, limits)
    shape = (num_replicas, max(limits.num_stages + (limits.num_stages > 1), limits.engine.depth))
    return Batches(
        request=arena.take("batch_request", (*shape, limits.max_num_seqs), np.int32),
        tokens=arena.take("batch_tokens", (*shape, limits.max_num_seqs), np.int32),
        features=arena.take("features", (*shape, state.NUM_FEATURES), np.int64),
        layers_ms=arena.take("layers_ms", shape),
        on_stage=arena.take("on_stage", shape),
        seconds=arena.take("batch_seconds", shape),
        residents=arena.take("residents", (*shape, limits.max_num_seqs), np.int32),
        growth=arena.take("batch_growth", (*shape, limits.block_size), np.int32),
        sums=arena.take("batch_sums", (*shape, state.NUM_SUMS)),
        segments=arena.take("segments", (*shape, state.NUM_SEGMENT_COLUMNS)),
        last_end=arena.take("batch_last_end", shape),
        leaves_at=arena.take("batch_leaves_at", shape),
    )


def lay_out_log(rows: int, engine: bool = False) -> Log:
    """Return a log with room for ``rows`` rows, one per batch and stage; a log without rows is never written.

    ``engine`` also keeps what only vllm_v1 and sglang log.
    """

    if not rows:
        return _no_log()

    def ints(rows: int = rows) -> NDArray[np.int32]:
        return np.zeros(rows, np.int32)

    own = ints(rows * engine), ints(rows * engine)
    return Log(ints(), ints(), np.zeros(rows), np.zeros(rows), ints(), ints(), ints(), ints(), *own)


@cache
def _no_log() -> Log:
    none, never = np.zeros(0, np.int32), np.zeros(0)
    return Log(none, none, never, never, none, none, none, none, none, none)


def lay_out_tally(limits: Limits, detail: bool, arena: Arena) -> Tally:
    """Return histograms of batches in which every count is 0; without ``detail`` they have no bins."""

    def take(name: str, size: int) -> NDArray[np.int64]:
        return arena.take(f"tally_{name}", size * detail, np.int64)

    return Tally(
        batch_size=take("batch_size", limits.max_num_seqs + 1),
        batch_decodes=take("batch_decodes", limits.max_num_seqs + 1),
        batch_tokens=take("batch_tokens", scale.NUM_SIZES),
        batch_prefill_tokens=take("batch_prefill_tokens", scale.NUM_SIZES),
        batch_seconds=take("batch_seconds", scale.NUM_BINS),
    )


def lay_out_lane(
    requests: Requests,
    replicas: Replicas,
    batches: Batches,
    limits: Limits,
    first: int,
    last: int,
    log_rows: int,
    arena: Arena,
    following: Following | None = None,
    engine: Engine | None = None,
    sglang: Sglang | None = None,
    front_end: float = 0.0,
    ranks: Ranks | None = None,
    transfers: Transfers | None = None,
) -> State:
    """Return the state of one thread, which simulates the replicas from ``first`` up to, but not including, ``last``.

    ``log_rows`` is the number of rows that its log of iterations has room for; 0 keeps no log. Where requests follow
    others (``following``), one thread simulates all replicas. ``engine`` is what the policies of engines keep, and
    ``sglang`` what the sglang policy keeps besides. ``front_end``, s, is how long requests take from their clients to
    a scheduler: series count from when the first one is sent. ``ranks``: what replicas of several ranks keep.
    """
    cursor = arena.take("cursor", state.NUM_CURSORS, np.int64)
    before = first_replica(len(replicas.counts), limits)
    cursor[[state.REPLICA, state.FIRST]] = before + first
    cursor[state.LAST] = before + last
    number = len(requests.arrived_at)
    moments = arena.take("moments", state.NUM_MOMENTS)
    moments[state.HORIZON] = math.inf
    if number:
        first_arrival = requests.arrived_at[following.first[0] if following else 0]
        moments[state.ORIGIN] = first_arrival - front_end
    cursor[[state.NEXT_REQUEST, state.NEXT_IN_LOOP]] = state.NONE
    if following:
        _link(requests, replicas, limits, following, cursor)
    elif limits.router != ROUTED and number:
        # All wait for the router, in order of arrival.
        requests.next[:-1] = np.arange(1, number)
        cursor[state.NEXT_REQUEST] = 0
    if cursor[state.NEXT_REQUEST] != state.NONE:
        moments[state.HORIZON] = first_arrival
    return State(
        requests=requests,
        replicas=replicas,
        batches=batches,
        log=lay_out_log(log_rows, engine is not None and engine.counts.size > 0),
        tally=lay_out_tally(limits, requests.parts.size > 0, arena),
        tbt=arena.take("tbt", scale.NUM_BINS, np.int64),
        cursor=cursor,
        moments=moments,
        scratch=arena.take("scratch", (2, limits.max_num_seqs * (limits.num_stages + 1)), np.int64),
        engine=no_engine() if engine is None else engine,
        sglang=no_sglang() if sglang is None else sglang,
        ranks=no_ranks() if ranks is None else ranks,
        later=arena.take("later", number if following else 0, np.int32),
        transfers=no_transfers() if transfers is None else transfers,
    )


def _link(
    requests: Requests, replicas: Replicas, limits: Limits, following: Following, cursor: NDArray[np.int64]
) -> None:
    """Make lists of the requests that come first and of the closed loop; the first go to the router if there is one."""
    for ids in (following.first, following.loop):
        requests.next[ids[:-1]] = ids[1:]
    if following.loop.size:
        cursor[state.NEXT_IN_LOOP] = following.loop[0]
    if limits.router != ROUTED:
        cursor[state.NEXT_REQUEST] = following.first[0]
        return
    cursor[state.DIRECT] = 1
    requests.replica[following.first] = 0
    replicas.counts[0, [state.HEAD, state.COMING]] = following.first[0]
    replicas.counts[0, state.TAIL] = following.first[-1]
    replicas.counts[0, state.UNSEEN] = following.first.size


def assign(requests: Requests, replicas: Replicas, replica_of: Integers) -> None:
    """Give every request to its replica before the simulation starts; ``replica_of`` holds int[n] replicas, from 0."""
    number = len(replicas.counts)
    requests.replica[:] = replica_of
    if number == 1:
        order: Integers = np.arange(len(replica_of))
    else:  # a sort of 16-bit keys takes time linear in the number of requests
        order = np.argsort(replica_of.astype(np.uint16) if number <= 1 << 16 else replica_of, kind="stable")
    sizes = np.bincount(replica_of, minlength=number)
    ends = np.cumsum(sizes)
    served = sizes > 0
    heads, tails = order[(ends - sizes)[served]], order[ends[served] - 1]
    requests.next[order[:-1]] = order[1:]
    requests.next[tails] = state.NONE
    for column, value in ((state.HEAD, heads), (state.COMING, heads), (state.TAIL, tails)):
        replicas.counts[served, column] = value
    replicas.counts[:, state.UNSEEN] = sizes
