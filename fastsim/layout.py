"""Arrays for the kernel: the state of a simulation before anything has happened."""

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels import counters, state
from fastsim.kernels.route import ROUTED
from fastsim.kernels.state import Batches, Limits, Log, Replicas, Requests, State
from fastsim.kernels.tournament import seat

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]


def lay_out_requests(arrived_at: Floats, prompts: Integers, outputs: Integers) -> Requests:
    """Requests yet to arrive. ``arrived_at`` float64[n], s, ascending; lengths in tokens, >= 1."""
    number = len(arrived_at)

    def never() -> Floats:
        return np.full(number, np.nan)

    def none() -> NDArray[np.int32]:
        return np.zeros(number, np.int32)

    return Requests(
        arrived_at=np.array(arrived_at, np.float64),
        total=(prompts + outputs).astype(np.int32),
        prefill=prompts.astype(np.int32),
        processed=none(),
        blocks=none(),
        restarts=none(),
        scheduled_at=never(),
        started_at=never(),
        first_token_at=never(),
        last_token_at=never(),
        finished_at=never(),
        execution_time=np.zeros(number),
        replica=np.full(number, state.NONE, np.int32),
        next=np.full(number, state.NONE, np.int32),
    )


def lay_out_replicas(num_replicas: int, limits: Limits) -> Replicas:
    """Empty replicas."""
    shape = (num_replicas, limits.num_stages)
    width = limits.max_num_seqs
    counts = np.zeros((num_replicas, state.NUM_COUNTS), np.int64)
    counts[:, [state.HEAD, state.COMING, state.TAIL]] = state.NONE
    counts[:, state.FREE] = limits.num_blocks
    return Replicas(
        counts=counts,
        times=np.zeros((num_replicas, state.NUM_TIMES)),
        busy=np.zeros(shape),
        preempted=np.zeros((num_replicas, width), np.int32),
        running=np.zeros((num_replicas, width * limits.num_stages), np.int32),
        heap=np.zeros((num_replicas, width), np.int64),
        growth=np.zeros((num_replicas, limits.block_size), np.int32),
        fresh=np.zeros((num_replicas, width), np.int32),
        chunked=np.zeros((num_replicas, width), np.int32),
        stage_end=np.zeros(shape),
        stage_seconds=np.zeros(shape),
        stage_batch=np.full(shape, state.NONE),
        stage_sequence=np.zeros(shape, np.int64),
        queue=np.zeros((*shape, limits.num_stages), np.int64),
        queued=np.zeros(shape, np.int64),
        load=np.zeros(num_replicas),
        lightest=seat(num_replicas),
        quiet_until=np.full(num_replicas, np.inf),
        soonest=seat(num_replicas),
        events=np.zeros((num_replicas, 8 * limits.num_stages + 8), np.int64),
    )


def lay_out_batches(num_replicas: int, limits: Limits) -> Batches:
    """Batches of which none is in use."""
    shape = (num_replicas, limits.num_stages)
    return Batches(
        request=np.zeros((*shape, limits.max_num_seqs), np.int32),
        tokens=np.zeros((*shape, limits.max_num_seqs), np.int32),
        features=np.zeros((*shape, state.NUM_FEATURES), np.int64),
        layers_ms=np.zeros(shape),
    )


def lay_out_log(rows: int) -> Log:
    """Room for ``rows`` iterations; 0 keeps no log."""

    def ints() -> NDArray[np.int32]:
        return np.zeros(rows, np.int32)

    return Log(ints(), ints(), np.zeros(rows), np.zeros(rows), ints(), ints(), ints(), ints())


def lay_out_lane(
    requests: Requests,
    replicas: Replicas,
    batches: Batches,
    limits: Limits,
    first: int,
    last: int,
    log_rows: int,
) -> State:
    """The state of one thread, which simulates replicas [first, last)."""
    cursor = np.zeros(state.NUM_CURSORS, np.int64)
    cursor[[state.REPLICA, state.FIRST]] = first
    cursor[state.LAST] = last
    routed = limits.router == ROUTED or not len(requests.arrived_at)
    return State(
        requests=requests,
        replicas=replicas,
        batches=batches,
        log=lay_out_log(log_rows),
        tbt=np.zeros(counters.NUM_BINS, np.int64),
        cursor=cursor,
        until=np.array([np.inf if routed else requests.arrived_at[0]]),
        scratch=np.zeros((2, limits.max_num_seqs * (limits.num_stages + 1)), np.int64),
    )


def assign(requests: Requests, replicas: Replicas, replica_of: Integers) -> None:
    """Give every request to its replica beforehand. ``replica_of`` int[n], counted from 0."""
    requests.replica[:] = replica_of
    order = np.argsort(replica_of, kind="stable")
    grouped = replica_of[order]
    same = grouped[1:] == grouped[:-1]
    requests.next[order[:-1][same]] = order[1:][same]
    heads = order[np.r_[True, ~same]]
    tails = order[np.r_[~same, True]]
    for column, value in ((state.HEAD, heads), (state.COMING, heads), (state.TAIL, tails)):
        replicas.counts[replica_of[value], column] = value
    replicas.counts[:, state.UNSEEN] = np.bincount(replica_of, minlength=len(replicas.counts))
