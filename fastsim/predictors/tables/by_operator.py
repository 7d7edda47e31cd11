"""What each operator adds to the tables of a deployment, and what it takes in an iteration or a whole run."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastsim.kernels.tables import FastsimTables
from fastsim.predictors.times.evidence import Evidence
from fastsim.predictors.times.iteration import Iteration
from fastsim.predictors.times.times import Floats, OperatorTimes

from .compose import NO_FASTSIM, fastsim_tables

NOTHING = np.zeros(1)
NO_GRID = np.zeros((2, 2))
GIVEN = Evidence(1, {}, 0, 0, "given", 1.0, 1.0)  # by the user's own tables

ARRAYS = tuple(name for name, value in NO_FASTSIM._asdict().items() if isinstance(value, np.ndarray))
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
    tables = {}
    for name, alone in _apart(times):
        composed = fastsim_tables(
            alone, tensor_parallel_size, num_layers, max_num_seqs, whole.skew, captured, whole.mixed
        )
        shared = {}
        for field in ARRAYS:
            array, total = getattr(composed, field), getattr(whole, field)
            shared[field] = total if np.array_equal(array, total) else array
            if not array.any():
                shared[field] = getattr(NO_FASTSIM, field)
        if any(array.size for array in shared.values()):
            tables[name] = composed._replace(**shared)
    return tables


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


def _apart(times: OperatorTimes) -> Iterator[tuple[str, OperatorTimes]]:
    """Each operator by its name, with zeros in place of all others."""
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
        least=NOTHING,
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
    yield "host", replace(none, host=times.host, least=times.least)


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
