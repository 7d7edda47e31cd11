"""What each operator adds to the tables of a deployment, and what it takes in an iteration or a whole run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.tables import FastsimTables
from fastsim.predictors.times.evidence import Evidence
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.times import Floats, OperatorTimes

from .compose import NO_FASTSIM, end_slope, grid, line, of_layer, ran_sizes

GIVEN = Evidence(1, {}, 0, 0, "given", 1.0, 1.0)  # by the user's own tables

ARRAYS = tuple(name for name, value in NO_FASTSIM._asdict().items() if isinstance(value, np.ndarray))
SLOPES = {"token_ms": "token_slope", "first_ms": "first_slope", "send_ms": "send_slope"}  # beyond the end of an array
# Tables by operator; arrays to which an operator adds nothing are empty.
ByOperator = Mapping[str, FastsimTables]


@dataclass(frozen=True, slots=True)
class Row:
    """One operator: its time over all layers and stages, ms, and what is known of it."""

    name: str
    ms: float
    about: Evidence

    @property
    def low_ms(self) -> float:
        """Lower end of the 90 % interval, ms: 5 % of times fall below."""
        return self.ms * self.about.low

    @property
    def high_ms(self) -> float:
        """Upper end of the 90 % interval, ms: 5 % of times lie above."""
        return self.ms * self.about.high


def by_operator(
    times: OperatorTimes,
    whole: FastsimTables,
    tensor_parallel_size: int,
    num_layers: float,
    max_num_seqs: int,
    captured: Sequence[int] | None = None,
) -> dict[str, FastsimTables]:
    """Tables of each operator alone; added up they are ``whole``, what ``fastsim_tables`` composes of the same times.

    An array that is all of the whole's is that array: a model with one kind of attention has its grids once.
    """
    size = max(table.size for table in times.tokens.values())
    ran = ran_sizes(size, max_num_seqs, captured)
    none = whole._replace(**{field: getattr(NO_FASTSIM, field) for field in (*ARRAYS, *SLOPES.values())})
    tables = {}

    def add(name: str, **fields: Floats) -> None:
        own: dict[str, Any] = {}
        for field, array in fields.items():
            if array.any():
                total = getattr(whole, field)
                own[field] = total if array is total or np.array_equal(array, total) else array
                if field in SLOPES:
                    own[SLOPES[field]] = end_slope(array)
        if own:
            tables[name] = none._replace(**own)

    for name in times.tokens:
        if name == "send_recv":
            add(name, send_ms=of_layer(times, name, size))
        elif name != "all_reduce" or tensor_parallel_size > 1:
            token_ms = num_layers * of_layer(times, name, size, tensor_parallel_size)[ran]
            token_ms[0] = 0.0
            add(name, token_ms=token_ms)
    for name, part in parts_of(times).items():
        match kind_of(name):
            case "decode":
                add(name, decode_ms=whole.decode_ms if part is times.decode else _decode(part, num_layers, whole))
            case "prefill":
                add(name, prefill_ms=whole.prefill_ms if part is times.prefill else num_layers * grid(part, 2))
            case _:
                add(name, last_ms=line(part, max_num_seqs + 1))
    add("embedding", first_ms=line(times.first, 2))
    add("host", host_ms=line(times.host, max_num_seqs + 1), least_ms=line(times.least, max_num_seqs + 1))
    return tables


def _decode(part: Floats, num_layers: float, whole: FastsimTables) -> Floats:
    decode = num_layers * grid(part, len(whole.decode_ms))
    decode[0] = 0.0
    return decode


def breakdown(operators: ByOperator, known: Mapping[str, Evidence], iteration: Iteration, num_stages: int) -> list[Row]:
    """Every operator of ``iteration``, the costliest first.

    ``known``: what ``evidence_of`` says of each operator; empty for times that a user gave.
    """
    times = {name: iteration_ms(tables, iteration, num_stages) for name, tables in operators.items()}
    rows = [Row(name, ms, known.get(name, GIVEN)) for name, ms in times.items() if ms]
    return sorted(rows, key=lambda row: -row.ms)


def iteration_ms(tables: FastsimTables, iteration: Iteration, num_stages: int) -> float:
    """What the kernel charges for an iteration, over all stages, ms."""
    tokens, seqs = np.array([iteration.num_tokens]), np.array([iteration.num_seqs])
    ms = num_stages * layers_ms(tables, iteration) + on_first_stage(tables, tokens)[0] + on_host(tables, seqs)[0]
    return float(ms + on_last_stage(tables, seqs)[0] + (num_stages - 1) * to_next_stage(tables, tokens)[0])


def layers_ms(tables: FastsimTables, iteration: Iteration) -> float:
    """What the kernel charges for an iteration of the layers of a mean stage, ms."""
    ms = float(on_each_stage(tables, np.array([iteration.num_tokens]))[0])
    if (number := iteration.num_decodes) and tables.decode_ms.size:
        decode = _linear(tables.decode_ms[number], iteration.decode_kv(tables.skew) / tables.kv_step)
        ms += decode * (tables.mixed if iteration.chunks else 1.0)
    for chunk, processed in iteration.chunks if tables.prefill_ms.size else ():
        columns = np.array([_linear(row, chunk / tables.chunk_step) for row in tables.prefill_ms])
        ms += _linear(columns, processed / tables.kv_step)
    return ms


def on_each_stage(tables: FastsimTables, tokens: NDArray[np.integer]) -> Floats:
    """float64[n], ms on each stage of batches of ``tokens`` (int[n]), attention left out."""
    return beyond(tables.token_ms, tables.token_slope, tokens)


def on_first_stage(tables: FastsimTables, tokens: NDArray[np.integer]) -> Floats:
    """float64[n], ms on the first stage besides: the embedding of ``tokens`` (int[n])."""
    return beyond(tables.first_ms, tables.first_slope, tokens)


def on_host(tables: FastsimTables, seqs: NDArray[np.integer]) -> Floats:
    """float64[n], ms that the GPUs of the first stage wait for the host, for batches of ``seqs`` (int[n]) requests."""
    return beyond(tables.host_ms, 0.0, seqs)


def on_last_stage(tables: FastsimTables, sampled: NDArray[np.integer]) -> Floats:
    """float64[n], ms on the last stage besides, for batches that give ``sampled`` (int[n]) output tokens."""
    return beyond(tables.last_ms, 0.0, sampled)


def to_next_stage(tables: FastsimTables, tokens: NDArray[np.integer]) -> Floats:
    """float64[n], ms to send the activations of ``tokens`` (int[n]) from a stage to the next."""
    return beyond(tables.send_ms, tables.send_slope, tokens)


def beyond(table: Floats, slope: float, at: NDArray[np.integer]) -> Floats:
    """Entries of a table that goes on as a line after its last entry; zeros where the table is empty."""
    if not table.size:
        return np.zeros(at.shape)
    last = table.size - 1
    return np.asarray(table[np.minimum(at, last)] + slope * np.maximum(at - last, 0))


def is_attention(tables: FastsimTables) -> bool:
    """Whether an operator's time depends on the context of requests, not on the tokens of a batch alone."""
    return bool(tables.decode_ms.size or tables.prefill_ms.size)


def parts_of(times: OperatorTimes) -> dict[str, Floats]:
    """What decode, prefill and last are sums of."""
    whole = {"attn_decode": times.decode, "attn_prefill": times.prefill, "lm_head": times.last}
    return dict(times.parts) or whole


def kind_of(part: str) -> str:
    """The field of OperatorTimes that a part belongs to."""
    kind = part.rpartition("_")[2]
    return kind if kind in ("decode", "prefill") else "last"


def shares(rows: list[Row]) -> dict[str, float]:
    """Share of the time by how it is known: measured, modelled and outside, 0 included, or given."""
    total = math.fsum(row.ms for row in rows)
    known = {row.about.how for row in rows}
    by_evidence = dict.fromkeys(known if "given" in known else ("measured", "modelled", "outside"), 0.0)
    for row in rows:
        by_evidence[row.about.how] += row.ms / total
    return {how: round(share, 4) for how, share in sorted(by_evidence.items())}


def interval(rows: list[Row]) -> tuple[float, float]:
    """Ends of the 90 % interval of the sum, ms: operators err independently of each other."""
    total = math.fsum(row.ms for row in rows)
    down = math.sqrt(math.fsum((row.ms - row.low_ms) ** 2 for row in rows))
    return total - down, total + math.sqrt(math.fsum((row.high_ms - row.ms) ** 2 for row in rows))


def _linear(row: Floats, at: float) -> float:
    cell = min(int(at), row.size - 2)
    return float(row[cell] + (row[cell + 1] - row[cell]) * (at - cell))
