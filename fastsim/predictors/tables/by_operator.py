"""One iteration by operator: what the tables charge for each, summing up to what the kernel charges."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from fastsim.deployment.resolved import Resolved
from fastsim.kernels.cost import FastsimTables
from fastsim.predictors.times.evidence import Inquiry
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.times import Floats, OperatorTimes

from .compose import fastsim_tables

NOTHING = np.zeros(1)
NO_GRID = np.zeros((2, 2))
GIVEN = Inquiry(1, {}, 0, 0, "given", 1.0, 1.0)  # by the user's own tables


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: its time over all layers and stages, ms, and what is known of it."""

    name: str
    ms: float
    about: Inquiry

    @property
    def low_ms(self) -> float:
        """Nine of ten times lie above it, but for one in twenty."""
        return self.ms * self.about.low

    @property
    def high_ms(self) -> float:
        """Nine of ten times lie below it, but for one in twenty."""
        return self.ms * self.about.high


def breakdown(resolved: Resolved, times: OperatorTimes, known: dict[str, Inquiry], iteration: Iteration) -> list[Row]:
    """Every operator of ``iteration``, the costliest first. ``known``: from ``inquire``; empty for given tables."""
    stages, tp = resolved.pipeline_parallel_size, resolved.tensor_parallel_size
    layers, seqs = resolved.layers_per_stage, resolved.scheduler.max_num_seqs
    rows = []
    for name, alone in apart(times):
        tables = fastsim_tables(alone, tp, layers, seqs, resolved.device.skew)
        if ms := iteration_ms(tables, iteration, stages):
            rows.append(Row(name, ms, known.get(name, GIVEN)))
    return sorted(rows, key=lambda row: -row.ms)


def iteration_ms(tables: FastsimTables, iteration: Iteration, stages: int) -> float:
    """What the kernel charges for an iteration, over all stages, ms."""
    tokens, sampled = iteration.num_tokens, iteration.num_seqs
    ms = _beyond(tables.token_ms, tables.token_slope, tokens)
    if number := iteration.num_decodes:
        ms += _linear(tables.decode_ms[number], iteration.decode_kv(tables.skew) / tables.kv_step)
    for chunk, processed in iteration.chunks:
        columns = np.array([_linear(row, chunk / tables.chunk_step) for row in tables.prefill_ms])
        ms += _linear(columns, processed / tables.kv_step)
    ms = stages * ms + _beyond(tables.first_ms, tables.first_slope, tokens) + tables.host_ms[sampled]
    return float(ms + tables.last_ms[sampled] + (stages - 1) * _beyond(tables.send_ms, tables.send_slope, tokens))


def apart(times: OperatorTimes) -> Iterator[tuple[str, OperatorTimes]]:
    """Each operator by its name, with the times of no other."""
    size = max(table.size for table in times.tokens.values())
    silent = {"": np.zeros(size)}
    none = replace(
        times,
        tokens=silent,
        decode=NO_GRID,
        prefill=NO_GRID,
        launch_ms=0.0,
        skew_ms=0.0,
        first=NOTHING,
        last=NOTHING,
        host=NOTHING,
        parts={},
    )
    for name, row in times.tokens.items():
        alone = replace(none, tokens={**silent, name: row})
        if name == "all_reduce":
            alone = replace(alone, launch_ms=times.launch_ms, skew_ms=times.skew_ms)
        yield name, alone
    for name, part in parts_of(times).items():
        match kind_of(name):
            case "decode":
                yield name, replace(none, decode=part)
            case "prefill":
                yield name, replace(none, prefill=part)
            case _:
                yield name, replace(none, last=part)
    yield "embedding", replace(none, first=times.first)
    yield "host", replace(none, host=times.host)


def parts_of(times: OperatorTimes) -> dict[str, Floats]:
    """What decode, prefill and last are sums of."""
    whole = {"attn_decode": times.decode, "attn_prefill": times.prefill, "lm_head": times.last}
    return dict(times.parts) or whole


def kind_of(part: str) -> str:
    """The field of OperatorTimes that a part belongs to."""
    kind = part.rpartition("_")[2]
    return kind if kind in ("decode", "prefill") else "last"


def shares(rows: list[Row]) -> dict[str, float]:
    """Share of the time by how it is known: measured, outside, modelled, given."""
    total = sum(row.ms for row in rows)
    found: dict[str, float] = {}
    for row in rows:
        found[row.about.how] = found.get(row.about.how, 0.0) + row.ms / total
    return {how: round(share, 4) for how, share in sorted(found.items())}


def interval(rows: list[Row]) -> tuple[float, float]:
    """Ends of an interval for the sum, ms: operators err independently of each other."""
    total = sum(row.ms for row in rows)
    down = math.sqrt(sum((row.ms - row.low_ms) ** 2 for row in rows))
    return total - down, total + math.sqrt(sum((row.high_ms - row.ms) ** 2 for row in rows))


def _beyond(table: Floats, slope: float, index: int) -> float:
    last = table.size - 1
    return float(table[index]) if index <= last else float(table[last]) + slope * (index - last)


def _linear(row: Floats, at: float) -> float:
    cell = min(int(at), row.size - 2)
    return float(row[cell] + (row[cell + 1] - row[cell]) * (at - cell))
