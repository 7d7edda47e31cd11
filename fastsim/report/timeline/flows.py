"""Infers from the times in the two tables of a result which batches held a request.

Two batches are known exactly: the one that ends with the first token of the request, and the one that ends with its
last. Without a pipeline, so is the batch that starts when the request is first scheduled; in a pipeline, several
batches may wait for their first stage at that time. All batches between the first and the first token held chunks of
the request if it was never preempted and never waited between chunks. Otherwise they are left out, as no file tells
which they were.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Columns = Mapping[str, NDArray[Any]]
Batches = list[list[Integers]]

NONE = -1
ROUNDING = 1e-9  # s; shorter waits are rounding errors


class Flows(NamedTuple):
    """The steps of requests through batches, ordered by request and time; ``row`` is that of iterations.parquet.

    ``first`` and ``last`` tell whether a step begins or ends the flow of its request. Each flow has at least two steps.
    """

    request: Integers
    row: Integers
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]


def batches(iterations: Columns) -> Batches:
    """Return the rows of iterations.parquet by replica and stage, in the order in which the batches start."""
    replica, stage = iterations["replica_id"], iterations["stage_id"]
    num_replicas, num_stages = (int(ids.max()) + 1 if len(ids) else 0 for ids in (replica, stage))
    order = np.lexsort((iterations["start"], stage, replica))
    bounds = np.searchsorted(
        replica[order].astype(np.int64) * num_stages + stage[order], np.arange(num_replicas * num_stages + 1)
    )
    parts = [order[first:last] for first, last in pairwise(bounds)]
    return [parts[r * num_stages : (r + 1) * num_stages] for r in range(num_replicas)]


def steps(requests: Columns, iterations: Columns, batches_of: Batches, chosen: NDArray[np.bool_]) -> Flows:
    """Return the flows of the ``chosen`` requests, bool[requests]; ``batches_of`` is the result of ``batches``."""
    each = [_of_replica(requests, iterations, rows, chosen, r) for r, rows in enumerate(batches_of)]
    if "prefill_replica_id" in requests:
        each = [_prefill(requests, iterations, rows, chosen, r) for r, rows in enumerate(batches_of)] + each
    request = np.concatenate([part[0] for part in each]) if each else np.empty(0, np.int64)
    row = np.concatenate([part[1] for part in each]) if each else np.empty(0, np.int64)
    return _flows(request, row)


def _prefill(
    requests: Columns, iterations: Columns, rows: list[Integers], chosen: NDArray[np.bool_], replica: int
) -> tuple[Integers, Integers]:
    """The request and the row of the batch that ends each prefill on a replica whose KV goes to another."""
    there = requests["prefill_replica_id"] == replica
    ids = np.flatnonzero(chosen & there & np.isfinite(requests["prefilled_at"]))
    batch = _place(iterations["end"][rows[-1]], requests["prefilled_at"][ids])
    known = batch != NONE
    return ids[known], rows[-1][batch[known]]


def _of_replica(
    requests: Columns, iterations: Columns, rows: list[Integers], chosen: NDArray[np.bool_], replica: int
) -> tuple[Integers, Integers]:
    """The request and the row of each step on one replica, in order."""
    ids = np.flatnonzero(chosen & (requests["replica_id"] == replica) & np.isfinite(requests["scheduled_at"]))
    numbers = min(map(len, rows))  # a run that was cut off may have batches on its first stages only
    begins, ends = iterations["start"][rows[0]], iterations["end"][rows[-1][:numbers]]
    begin = first_batch(begins, requests, ids) if len(rows) == 1 else np.full(len(ids), NONE)
    if "prefill_replica_id" in requests:  # which first put it into a batch
        begin = np.where(requests["prefill_replica_id"][ids] < 0, begin, NONE)
    token = _place(ends, requests["first_token_at"][ids])
    end = _place(ends, requests["finished_at"][ids])
    together = (begin != NONE) & (token != NONE) & _uninterrupted(requests, ids)
    inner = np.where(together, np.maximum(token - begin - 1, 0), 0)
    # The batches of a request: its first, those of its chunks, and those of its first and last token.
    request = np.concatenate([ids, np.repeat(ids, inner), ids, ids])
    offset = np.arange(inner.sum()) - np.repeat(np.cumsum(inner) - inner, inner)
    batch = np.concatenate([begin, np.repeat(begin, inner) + 1 + offset, token, end])
    known = batch != NONE
    request, batch = request[known], batch[known]
    order = np.lexsort((batch, request))
    request, batch = request[order], batch[order]
    fresh = np.ones(len(batch), bool)
    fresh[1:] = (request[1:] != request[:-1]) | (batch[1:] != batch[:-1])
    request, batch = request[fresh], batch[fresh]
    through = np.array([stage[:numbers] for stage in rows]) if len(rows) > 1 else rows[0][None, :]
    # A batch that has not reached the last stage has no row there.
    whole = batch < numbers
    request, batch = request[whole], batch[whole]
    return np.repeat(request, len(rows)), through[:, batch].T.ravel()


def _place(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> Integers:
    """The position of each of ``wanted`` in the ascending ``times``, or NONE."""
    place = np.searchsorted(times, wanted).astype(np.int64)
    there = place < len(times)
    there[there] = times[place[there]] == wanted[there]
    return np.where(there, place, NONE)


def first_batch(begins: NDArray[np.float64], requests: Columns, ids: Integers) -> Integers:
    """The position of the first batch of each request in the ascending starts ``begins`` of one stage, or NONE.

    Policy vllm_v1 forms batches before they start, by a time that only results with a breakdown hold.
    """
    if "num_cached_tokens" not in requests:
        return _place(begins, requests["scheduled_at"][ids])
    if "launch_wait" not in requests or not len(begins):
        return np.full(len(ids), NONE)
    start = requests["scheduled_at"][ids] + requests["launch_wait"][ids]
    place = np.minimum(np.searchsorted(begins, start - ROUNDING), len(begins) - 1)
    return np.where(np.abs(begins[place] - start) <= ROUNDING, place, NONE)


def _uninterrupted(requests: Columns, ids: Integers) -> NDArray[np.bool_]:
    """Whether each request was in every batch from its first one to that of its first token."""
    waited = requests["chunk_wait" if "chunk_wait" in requests else "preempted_time"][ids]
    known: NDArray[np.bool_] = (requests["num_restarts"][ids] == 0) & (waited <= ROUNDING)
    return known


def within(flows: Flows, kept: NDArray[np.bool_]) -> Flows:
    """Return the steps in the ``kept`` rows, bool[rows], of the flows that still have two."""
    inside = kept[flows.row]
    return _flows(flows.request[inside], flows.row[inside])


def _flows(request: Integers, row: Integers) -> Flows:
    """Flows from steps that are ordered within each request; flows of a single step are left out."""
    order = np.argsort(request, kind="stable")
    request, row = request[order], row[order]
    _, place, counts = np.unique(request, return_inverse=True, return_counts=True)
    several = counts[place] > 1 if len(request) else np.empty(0, bool)
    request, row = request[several], row[several]
    first = np.ones(len(request), bool)
    first[1:] = request[1:] != request[:-1]
    return Flows(request, row, first, np.append(first[1:], True) if len(request) else first)
