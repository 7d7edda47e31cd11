"""Requests that are prefilled on one replica and decoded on another: two rows for a kernel, and one in a result.

Row i is request i: the whole of it, or its prompt with a single output token. The rows after the last request are the
second ones of those that are split, and follow these.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.deployment.memory.sizes import block_bytes
from fastsim.deployment.resolved import Resolved
from fastsim.kernels.accounts import parts
from fastsim.kernels.state import NONE, Requests, State
from fastsim.kernels.transfers.state import NO_LINK, Link
from fastsim.simulation.stream import Stream, share
from fastsim.workload import Workload
from fastsim.workload.following import Following

ADDED = (
    parts.CHUNK_WAIT,
    parts.DECODE_WAIT,
    parts.OTHER_WORK,
    parts.PREFILL_HOST,
    parts.DECODE_HOST,
    parts.LOST_PREFILL,
    parts.LOST_DECODE,
    parts.LAUNCH_WAIT,
)


class Split(NamedTuple):
    """The rows of a simulation, and which of them prefills for each, NONE where a row is computed where it is."""

    workload: Workload
    stream: Stream
    source: NDArray[np.int32]


def link_of(resolved: Resolved) -> Link:
    """Return how KV is transferred, as kernels read it; NO_LINK where every request is computed where it is."""
    how = resolved.deployment.kv_transfer
    if how is None:
        return NO_LINK
    first = resolved.kinds[0]
    size = block_bytes(first.model, first.layout) * first.tensor_parallel_size
    layers = first.model.num_layers if how.layerwise else 1
    return Link(how.link_gb_s * 1e9, how.latency_us * 1e-6, float(size), layers)


def second_rows(resolved: Resolved, num_prompt_tokens: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return the row that decodes each request, int64[n]: its own where the request is not split."""
    how = resolved.deployment.kv_transfer
    number = len(num_prompt_tokens)
    rows = np.arange(number)
    if how is not None:
        split = np.flatnonzero(num_prompt_tokens >= how.min_prompt_tokens)
        rows[split] = number + np.arange(len(split))
    return rows


def split(resolved: Resolved, workload: Workload, stream: Stream) -> Split:
    """Return the rows of a simulation with prefill and decode apart."""
    second = second_rows(resolved, workload.num_prompt_tokens)
    number = workload.num_requests
    of = np.flatnonzero(second >= number)  # the requests that are split
    prompts = np.concatenate([workload.num_prompt_tokens, workload.num_prompt_tokens[of]])
    outputs = np.concatenate([workload.num_output_tokens, workload.num_output_tokens[of]])
    outputs[of] = 1
    rows = np.concatenate([np.arange(number), of])
    hashes = workload.block_hashes
    if hashes is not None:
        hashes = hashes.take(rows).at_most((prompts + outputs) // hashes.block_size)
    limits = stops = None
    if workload.max_tokens is not None:
        limits = workload.max_tokens[rows]
        limits[of] = 1
    if workload.ends_by_stop is not None:
        stops = workload.ends_by_stop[rows]
        stops[of] = False
    both = Workload(
        np.zeros(len(rows)),
        prompts,
        outputs,
        name=workload.name,
        block_hashes=hashes,
        max_tokens=limits,
        ends_by_stop=stops,
    )
    known = stream.following
    follower = np.full(len(rows), NONE, np.int32)
    think = np.zeros(len(rows))
    if known is not None:
        follower[:number], think[:number] = known.follower, known.think
    follower[number:], follower[of] = follower[of], second[of]
    first, loop = (known.first, known.loop) if known else (np.arange(number, dtype=np.int32), np.zeros(0, np.int32))
    following = Following(follower, think, first, loop)
    arrived = np.concatenate([stream.arrived_at, np.full(len(of), np.nan)])
    source = np.full(len(rows), NONE, np.int32)
    source[number:] = of
    return Split(both, share(arrived, prompts, outputs, following), source)


class Transferred(NamedTuple):
    """Where the KV of each request came from, and how long that took; n requests."""

    prefill_replica: NDArray[np.int32]  # int32[n], NONE where the request was computed where it decoded
    prefilled_at: NDArray[np.float64]  # float64[n], s, NaN there
    transfer_at: NDArray[np.float64]  # float64[n], s, when its KV began to be on its way; NaN where it never was
    transfer: NDArray[np.float64]  # float64[n], s, in which its KV was on its way
    transfer_wait: NDArray[np.float64]  # float64[n], s, between its prefill and its decodes besides


def rows_of(
    resolved: Resolved, lane: State, num_prompt_tokens: NDArray[np.integer]
) -> tuple[Requests, NDArray[np.int32], Transferred | None]:
    """Return a row for each request, the tokens that each found in a cache, and where it was split what became of that.

    The rows are those of the kernel where no request is split, and otherwise copies.
    """
    if not resolved.is_apart:
        return lane.requests, lane.engine.cached, None
    rows, number = lane.requests, len(num_prompt_tokens)
    first, second = np.arange(number), second_rows(resolved, num_prompt_tokens)
    apart = second != first
    # The second row waits for the front end of its replica too, from when the first one has finished.
    gap = np.where(apart, rows.scheduled_at[second] - rows.finished_at[first], 0.0)
    prefilled_at = np.where(apart, rows.finished_at[first], np.nan)
    transfer_at = np.where(apart, lane.transfers.started_at[second], np.nan)
    transfer = np.where(apart, lane.transfers.news_at[second] - transfer_at, 0.0)
    transfer[apart & np.isnan(transfer) & np.isfinite(gap)] = 0.0  # its blocks were lost, and it was computed again
    detail = rows.parts
    if detail.size:
        detail = detail[second]
        for part in ADDED:
            detail[:, part] += np.where(apart, rows.parts[first, part], 0.0)
    requests = rows._replace(
        arrived_at=rows.arrived_at[first],
        total=rows.total[second],
        prefill=rows.prefill[second],
        processed=rows.processed[second],
        blocks=rows.blocks[second],
        restarts=rows.restarts[second] + np.where(apart, rows.restarts[first], 0).astype(np.int32),
        scheduled_at=rows.scheduled_at[first],
        started_at=rows.started_at[first],
        first_token_at=rows.first_token_at[second],
        last_token_at=rows.last_token_at[second],
        finished_at=rows.finished_at[second],
        execution_time=rows.execution_time[second] + np.where(apart, rows.execution_time[first], 0.0),
        parts=detail,
        replica=rows.replica[second],
        next=rows.next[second],
        think=rows.think[first],
    )
    cached = lane.engine.cached[first]
    replica = np.where(apart, rows.replica[first], NONE).astype(np.int32)
    return requests, cached, Transferred(replica, prefilled_at, transfer_at, transfer, gap - transfer)
