"""Draws the workload of several tenants, whose requests are merged by their arrival."""

from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from fastsim.files.memory import check_memory
from fastsim.workload.blocks import BlockHashes
from fastsim.workload.gaps import ClosedLoop
from fastsim.workload.origin import Origin
from fastsim.workload.synthetic import draw
from fastsim.workload.tenants import Mixture
from fastsim.workload.users import as_sessions, interleave, numbers
from fastsim.workload.workload import COLUMNS, Workload

BYTES = 700  # of memory for a request while it is drawn and merged, without its hashes

Integers = NDArray[np.int64]


def draw_mixed(mixed: Mixture, name: str) -> Workload:
    """Draw the first requests of all tenants.

    Each tenant has random streams of its own, so a longer workload begins with the shorter one, unless there are users
    who wait for their answers: these send their share of all requests. A task of several turns or branches stays
    together, where it begins. Raises the errors of ``synthetic.draw``.
    """
    number = mixed.common.num_requests
    check_memory(number, f"num_requests: {number:,} requests", BYTES)
    seeds = np.random.SeedSequence(mixed.common.seed).spawn(len(mixed.parts))
    closed = [isinstance(part.gaps, ClosedLoop) for part in mixed.parts]
    if not any(closed):
        drawn, order = _draw_open(mixed, name, seeds, number)
        return _merged(mixed, name, drawn, order)
    weights = [weight if waits else 0.0 for weight, waits in zip(mixed.weights, closed, strict=True)]
    of_open = sum(weight for weight, waits in zip(mixed.weights, closed, strict=True) if not waits)
    *sent, rest = numbers([*weights, of_open], number)
    drawn, order = _draw_open(mixed, name, seeds, rest)
    starts = np.concatenate([np.zeros(0) if one is None else _starts(one) for one in drawn])[order]
    places = [_places(drawn, order)]
    loops: list[tuple[Workload, float]] = []
    for index, (part, count) in enumerate(zip(mixed.parts, sent, strict=True)):
        if count:
            loop = as_sessions(draw(part.model_copy(update={"num_requests": count}), name, seeds[index]))
            loops.append((loop, weights[index]))
            places.append(np.stack([np.full(count, index), np.arange(count)]))
            drawn[index] = loop
    tenant, row = np.concatenate(places, axis=1)[:, interleave(starts, of_open, loops)]
    merged = _merged(mixed, name, drawn, _firsts(drawn)[tenant] + row)
    if rest or merged.max_concurrency is not None:
        return merged
    return replace(merged, max_concurrency=int(np.count_nonzero(~np.isnan(merged.arrived_at))))  # all of the users


def _firsts(drawn: list[Workload | None]) -> Integers:
    """The place of each tenant's first row, where the rows of one tenant lie after those of the other, int64[n]."""
    sizes = np.array([0 if one is None else one.num_requests for one in drawn], np.int64)
    return np.cumsum(sizes) - sizes


def _places(drawn: list[Workload | None], order: Integers) -> Integers:
    """The tenant, and the row among the tenant's, of each row in an order of all tenants' rows, int64[2, n]."""
    firsts = _firsts(drawn)
    tenant = np.searchsorted(firsts, order, side="right") - 1
    return np.stack([tenant, order - firsts[tenant]])


def _draw_open(
    mixed: Mixture, name: str, seeds: list[np.random.SeedSequence], number: int
) -> tuple[list[Workload | None], Integers]:
    """Draw requests of the tenants whose requests arrive by themselves, and the order of the first ``number`` of these.

    The order counts the rows of one tenant after those of the other.
    """
    drawn: list[Workload | None] = [None] * len(mixed.parts)
    if not number:
        return drawn, np.zeros(0, np.int64)
    expected = [number * rate / sum(mixed.rates) for rate in mixed.rates]
    counts = [min(number, ceil(each + 6 * each**0.5 + 16)) if each else 0 for each in expected]
    while True:
        for index, (part, count) in enumerate(zip(mixed.parts, counts, strict=True)):
            known = drawn[index]
            if count and (known is None or known.num_requests < count):
                # A copy of the seed, as spawning from one changes it.
                seed = np.random.SeedSequence(entropy=seeds[index].entropy, spawn_key=seeds[index].spawn_key)
                drawn[index] = draw(part.model_copy(update={"num_requests": count}), name, seed)
        starts = [np.zeros(0) if one is None else _starts(one) for one in drawn]
        order = np.argsort(np.concatenate(starts), kind="stable")[:number]
        end = np.concatenate(starts)[order[-1]]
        few = [0 < count < number and start[-1] <= end for count, start in zip(counts, starts, strict=True)]
        if not any(few):
            return drawn, order
        counts = [min(number, 2 * count) if more else count for count, more in zip(counts, few, strict=True)]


def _starts(workload: Workload) -> NDArray[np.float64]:
    """When the task of each request begins, float64[num_requests], s."""
    return np.maximum.accumulate(np.nan_to_num(workload.arrived_at))


def _merged(mixed: Mixture, name: str, drawn: list[Workload | None], order: Integers) -> Workload:
    """The rows ``order`` of all tenants' requests, one tenant's after the other's."""
    known = [(index, one) for index, one in enumerate(drawn) if one is not None]
    tenant = np.repeat([index for index, _ in known], [one.num_requests for _, one in known])[order]
    columns = {column: np.concatenate([getattr(one, column) for _, one in known])[order] for column in COLUMNS}
    many = len(drawn)
    think = session = hashes = None
    if any(one.session_id is not None for _, one in known):
        ids = [np.arange(one.num_requests) if one.session_id is None else one.session_id for _, one in known]
        session = np.concatenate([each * many + index for each, (index, _) in zip(ids, known, strict=True)])[order]
    if any(one.think_time is not None for _, one in known):
        times = [np.full(one.num_requests, np.nan) if one.think_time is None else one.think_time for _, one in known]
        think = np.concatenate(times)[order]
    if any(one.block_hashes is not None for _, one in known):
        hashes = _joined(known, many, mixed.common.block_size).take(order)
    priorities = [each.priority for each in mixed.tenants]
    origin = next((one.origin for _, one in known if one.origin is not None), None)
    return Workload(
        **columns,
        name=name,
        block_hashes=hashes,
        origin=origin if hashes is None else replace(origin or Origin(), hashed=True),
        session_id=session,
        think_time=think,
        max_concurrency=mixed.common.max_concurrency,
        priority=np.array([each or 0 for each in priorities], np.int32)[tenant]
        if any(each is not None for each in priorities)
        else None,
        tenant=np.array([each.name for each in mixed.tenants])[tenant],
    )


def _joined(known: list[tuple[int, Workload]], many: int, block_size: int) -> BlockHashes:
    """The hashes of all tenants, one tenant's after the other's; those of different tenants differ."""
    values, counts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for index, one in known:
        own = one.block_hashes
        counts.append(np.zeros(one.num_requests, np.int64) if own is None else own.counts)
        if own is not None:
            values.append(own.values * many + index)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    return BlockHashes(np.concatenate(values), offsets, block_size)
