"""The twin's counts: batches by size, work by replica, and series, from what it formed and when nothing happened."""

from __future__ import annotations

import bisect
from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from reference.core import Outcome
from reference.state import Settings

from fastsim.kernels.accounts import scale

TICKS = 2**20  # per s
SHORTEST_BIN, BINS = 2**10, 256  # ticks; bins


class Work(NamedTuple):
    squares: int
    pairs: int
    sampled: int


class Measured(NamedTuple):
    batch_size: dict[int, int]
    batch_decodes: dict[int, int]
    batch_tokens: dict[int, int]  # by bin
    batch_prefill_tokens: dict[int, int]
    batch_seconds: dict[int, int]
    replicas: list[Work]
    series: NDArray[np.float64]  # as Measures.series
    bin_ticks: int


def measure(twin: Outcome, settings: Settings) -> Measured:
    batches = [formed.batch for formed in twin.formed]
    sizes, edges = scale.sizes().tolist(), scale.edges().tolist()

    def of(values: list[int], bounds: list[int]) -> dict[int, int]:
        return dict(Counter(bisect.bisect_right(bounds, value) - 1 for value in values))

    seconds = [max(row.end - row.start, edges[0]) for row in twin.iterations]
    bin_ticks, series = over_time(twin, settings)
    return Measured(
        dict(Counter(len(batch.requests) for batch in batches)),
        dict(Counter(batch.num_tokens - batch.num_prefill_tokens for batch in batches)),
        of([batch.num_tokens for batch in batches], sizes),
        of([batch.num_prefill_tokens for batch in batches], sizes),
        of(seconds, edges),
        [work(twin, replica_id) for replica_id in range(settings.num_replicas)],
        series,
        bin_ticks,
    )


def work(twin: Outcome, replica_id: int) -> Work:
    entries = [e for formed in twin.formed if formed.replica_id == replica_id for e in formed.batch.entries]
    return Work(
        sum(entry.tokens**2 for entry in entries),
        sum(entry.tokens * entry.processed for entry in entries),
        sum(entry.is_decode or entry.processed + entry.tokens == entry.prefill for entry in entries),
    )


def over_time(twin: Outcome, settings: Settings) -> tuple[int, NDArray[np.float64]]:
    """The width of a bin in ticks, and [replica, bin, busy, running, kv, prefill tokens, decode tokens]."""
    origin = min(request.arrived_at for request in twin.requests if request.arrived_at >= 0)

    def tick(time: float) -> int:
        return int((time - origin) * TICKS)

    spans = [(span, tick(span.start), tick(span.end)) for span in twin.spans if span.busy_stages]
    used = [end - 1 for _, start, end in spans if end > start] + [tick(formed.time) for formed in twin.formed]
    last = max(used, default=0)
    width = SHORTEST_BIN
    while last // width >= BINS:
        width *= 2
    series = np.zeros((settings.num_replicas, BINS, 5))
    for span, start, end in spans:
        for place in range(start // width, end // width + 1):
            inside = min(end, (place + 1) * width) - max(start, place * width)
            if inside > 0:
                levels = span.busy_stages, span.running, span.kv_blocks
                series[span.replica_id, place, :3] += [level * inside for level in levels]
    for formed in twin.formed:
        place, prompts = tick(formed.time) // width, formed.batch.num_prefill_tokens
        series[formed.replica_id, place, 3:] += prompts, formed.batch.num_tokens - prompts
    series[:, :, :3] /= TICKS
    return width, series
