"""Which batches a request was in, as far as a result tells: from the times in its two tables.

Known exactly: the batch that ends with its first token, and the one that ends with its last; and without a pipeline the
one that starts when it is first scheduled (in a pipeline, batches wait for their first stage, and it may be any of
these). The batches between are all its chunks when it was never preempted and never waited between them; else they are
left out, as no file says which they were.
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
ROUNDING = 1e-9  # s: waits shorter than this are sums that did not quite cancel


class Flows(NamedTuple):
    """Steps of requests through batches, ordered by request and time: ``row`` of iterations.parquet.

    ``first`` and ``last`` say whether a step begins or ends its request's flow. Every flow has two steps or more.
    """

    request: Integers
    row: Integers
    first: NDArray[np.bool_]
    last: NDArray[np.bool_]


def batches(iterations: Columns) -> Batches:
    """Rows of iterations.parquet by replica and stage, in order of start: that of the batches' forming."""
    replica, stage = iterations["replica_id"], iterations["stage_id"]
    num_replicas, num_stages = (int(ids.max()) + 1 if len(ids) else 0 for ids in (replica, stage))
    order = np.lexsort((iterations["start"], stage, replica))
    bounds = np.searchsorted(
        replica[order].astype(np.int64) * num_stages + stage[order], np.arange(num_replicas * num_stages + 1)
    )
    parts = [order[first:last] for first, last in pairwise(bounds)]
    return [parts[r * num_stages : (r + 1) * num_stages] for r in range(num_replicas)]


def steps(requests: Columns, iterations: Columns, found: Batches, chosen: NDArray[np.bool_]) -> Flows:
    """The flows of the ``chosen`` requests, bool[n]."""
    each = [_of_replica(requests, iterations, rows, chosen, r) for r, rows in enumerate(found)]
    request = np.concatenate([part[0] for part in each]) if each else np.empty(0, np.int64)
    row = np.concatenate([part[1] for part in each]) if each else np.empty(0, np.int64)
    return _flows(request, row)


def _of_replica(
    requests: Columns, iterations: Columns, rows: list[Integers], chosen: NDArray[np.bool_], replica: int
) -> tuple[Integers, Integers]:
    """(request, row) of every step on one replica, in order."""
    ids = np.flatnonzero(chosen & (requests["replica_id"] == replica) & np.isfinite(requests["scheduled_at"]))
    numbers = min(map(len, rows))  # a pipeline cut off in the middle has batches on its first stages only
    begins, ends = iterations["start"][rows[0]], iterations["end"][rows[-1][:numbers]]
    begin = _place(begins, requests["scheduled_at"][ids]) if len(rows) == 1 else np.full(len(ids), NONE)
    token = _place(ends, requests["first_token_at"][ids])
    end = _place(ends, requests["finished_at"][ids])
    together = (begin != NONE) & (token != NONE) & _uninterrupted(requests, ids)
    inner = np.where(together, np.maximum(token - begin - 1, 0), 0)
    # A request's batches: its beginning, the chunks between, its first and its last token.
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
    # A batch that no later stage has seen has no row there.
    whole = batch < numbers
    request, batch = request[whole], batch[whole]
    return np.repeat(request, len(rows)), through[:, batch].T.ravel()


def _place(times: NDArray[np.float64], wanted: NDArray[np.float64]) -> Integers:
    """Where each of ``wanted`` stands in ascending ``times``; NONE where it does not."""
    place = np.searchsorted(times, wanted).astype(np.int64)
    there = place < len(times)
    there[there] = times[place[there]] == wanted[there]
    return np.where(there, place, NONE)


def _uninterrupted(requests: Columns, ids: Integers) -> NDArray[np.bool_]:
    """Whether a request was in every batch from its first to its first token."""
    waited = requests["chunk_wait" if "chunk_wait" in requests else "preempted_time"][ids]
    known: NDArray[np.bool_] = (requests["num_restarts"][ids] == 0) & (waited <= ROUNDING)
    return known


def within(flows: Flows, kept: NDArray[np.bool_]) -> Flows:
    """The steps in the ``kept`` rows, bool[rows], of flows that still have two."""
    inside = kept[flows.row]
    return _flows(flows.request[inside], flows.row[inside])


def _flows(request: Integers, row: Integers) -> Flows:
    """Flows of steps that are ordered within each request; those with one step alone are left out."""
    order = np.argsort(request, kind="stable")
    request, row = request[order], row[order]
    _, place, counts = np.unique(request, return_inverse=True, return_counts=True)
    several = counts[place] > 1 if len(request) else np.empty(0, bool)
    request, row = request[several], row[several]
    first = np.ones(len(request), bool)
    first[1:] = request[1:] != request[:-1]
    return Flows(request, row, first, np.append(first[1:], True) if len(request) else first)
