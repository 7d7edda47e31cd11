"""The events of a timeline, a line of JSON each: slices for batches, arrows, counters and requests."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastsim.predictors.tables import by_operator
from fastsim.predictors.tables.by_operator import ByOperator
from fastsim.report.timeline import flows
from fastsim.result.columns import PARTS
from fastsim.result.metrics.occupancy import queued_at
from fastsim.result.wording import OF_VLLM, Wording, section

CHUNK = 20_000  # most events of a kind in one write
COUNTERS = {"queue": "requests", "running": "requests", "KV blocks": "blocks"}


class Part(NamedTuple):
    """The part of a result that a timeline shows."""

    iterations: dict[str, NDArray[Any]]
    requests: dict[str, NDArray[Any]]
    batches: flows.Batches
    rows: NDArray[np.bool_]  # bool[iterations], those to write
    chosen: NDArray[np.bool_]  # bool[requests], those to write
    steps: flows.Flows
    begin: float  # s
    end: float  # s
    every: int  # one batch and one request in so many
    words: Wording  # of the engine
    ranks: int = 1  # of a replica; where there are several, replica_id counts the ranks of all replicas
    pools: tuple[str, ...] = ()  # the pool of each replica, by its number


class Tables(NamedTuple):
    """What a batch of a kind of replica takes by operator."""

    replicas: slice  # those that are of this kind
    operators: ByOperator  # empty where times by operator are left out
    shares: NDArray[np.float64]  # float64[stages], time of the layers of each stage over the mean of all stages


def events(part: Part, tables: Sequence[Tables]) -> Iterator[tuple[int, list[str]]]:
    """Yield the events in chunks, each with the number of batches and requests that it completes.

    Parameters
    ----------
    part : Part
        What to write.
    tables : sequence of Tables
        The tables by operator of each kind of replica.
    """
    yield 0, list(_names(part))
    yield from _slices(part, tables)
    for replica in range(len(part.batches)):
        for lines in _counters(part, replica):
            yield 0, lines
    yield from _requests(part)
    for lines in _transfers(part):
        yield 0, lines


def _names(part: Part) -> Iterator[str]:
    """The names of replicas and stages."""
    num_stages = len(part.batches[0])
    for replica in range(max(len(part.batches), len(part.pools))):
        name = f"replica {replica // part.ranks}"
        if part.pools:
            name += f" ({part.pools[replica]})"
        if part.ranks > 1:
            name += f", rank {replica % part.ranks}"
        yield _meta("process_name", replica + 1, 0, {"name": name})
        yield _meta("process_sort_index", replica + 1, 0, {"sort_index": replica})
        for stage in range(num_stages):
            name = f"stage {stage}" if num_stages > 1 else "batches"
            yield _meta("thread_name", replica + 1, replica * num_stages + stage + 1, {"name": name})


def _meta(name: str, pid: int, tid: int, args: dict[str, Any]) -> str:
    """An event that names a process or a thread."""
    return json.dumps({"ph": "M", "name": name, "pid": pid, "tid": tid, "args": args})


def _slices(part: Part, tables: Sequence[Tables]) -> Iterator[tuple[int, list[str]]]:
    """A slice for each batch on each stage, and the points at which arrows touch it."""
    chosen, column = np.flatnonzero(part.rows), part.iterations
    num_stages = len(part.batches[0])
    order = np.argsort(part.steps.row, kind="stable")
    step_rows = part.steps.row[order]
    completed = _completed(part)
    for first in range(0, len(chosen), CHUNK):
        rows = chosen[first : first + CHUNK]
        begin, end = ns(column["start"][rows]), ns(column["end"][rows])
        cells = {name: column[name][rows].tolist() for name in column if name not in ("start", "end")}
        times = _by_kind(column, rows, tables, completed)
        others = _engine(column, rows, part.words)
        bounds = np.searchsorted(step_rows, [rows[0], rows[-1] + 1])
        at = dict(zip(rows.tolist(), range(len(rows)), strict=True))
        lines = []
        for i, (ts, dur) in enumerate(zip(begin.tolist(), (end - begin).tolist(), strict=True)):
            replica, stage = cells["replica_id"][i], cells["stage_id"][i]
            tokens, prompts = cells["num_tokens"][i], cells["num_prefill_tokens"][i]
            lines.append(
                f'{{"ph":"X","cat":"batch","name":"{_title(tokens - prompts, prompts)}","pid":{replica + 1},'
                f'"tid":{replica * num_stages + stage + 1},"ts":{_us(ts)},"dur":{_us(dur)},"args":{{'
                f'"requests":{cells["num_seqs"][i]},"tokens":{tokens},"prompt tokens":{prompts},'
                f'"decodes":{tokens - prompts},"KV blocks":{cells["kv_blocks_used"][i]}{others[i]}{times[i]}}}}}'
            )
        for place in order[bounds[0] : bounds[1]].tolist():
            i = at[int(part.steps.row[place])]
            replica, stage = cells["replica_id"][i], cells["stage_id"][i]
            phase = "s" if part.steps.first[place] else "f" if part.steps.last[place] else "t"
            # This binds an end to the slice around it instead of the next one.
            bound = ',"bp":"e"' if phase == "f" else ""
            middle = (int(begin[i]) + int(end[i])) // 2
            lines.append(
                f'{{"ph":"{phase}","cat":"flow","name":"request","id":{part.steps.request[place]},'
                f'"pid":{replica + 1},"tid":{replica * num_stages + stage + 1},"ts":{_us(middle)}'
                f"{bound}}}"
            )
        yield len(rows), lines


def _title(decodes: int, prompts: int) -> str:
    """The name of a batch, by its decodes and prompt tokens."""
    if not prompts:
        return f"{decodes} decodes" if decodes != 1 else "1 decode"
    return f"{prompts} prompt tokens + {decodes} decodes" if decodes else f"{prompts} prompt tokens"


def _engine(column: dict[str, NDArray[Any]], rows: NDArray[np.int64], words: Wording) -> list[str]:
    """The JSON ``,"preempted":..,"cached tokens":..`` for each row; empty where the policy is no engine's."""
    if "num_preempted" not in column:
        return [""] * len(rows)
    pairs = zip(column["num_preempted"][rows].tolist(), column["num_cached_tokens"][rows].tolist(), strict=True)
    return [f',"{words.lost}":{preempted},"cached tokens":{cached}' for preempted, cached in pairs]


def _completed(part: Part) -> NDArray[np.int64]:
    """The prompts that each batch completes on the last stage, int64[rows]; each samples a token, as decodes do."""
    number = np.zeros(len(part.rows), np.int64)
    for replica, rows in enumerate(part.batches):
        ends = part.iterations["end"][rows[-1]]
        mine = part.requests["first_token_at"][part.requests["replica_id"] == replica]
        if "prefill_replica_id" in part.requests:  # whose one token there is dropped
            prefilled = part.requests["prefilled_at"][part.requests["prefill_replica_id"] == replica]
            mine = np.concatenate([mine, prefilled])
        place = np.searchsorted(ends, mine[np.isfinite(mine)])
        np.add.at(number, rows[-1][place[place < len(ends)]], 1)
    return number


def _by_kind(
    column: dict[str, NDArray[Any]],
    rows: NDArray[np.int64],
    tables: Sequence[Tables],
    completed: NDArray[np.int64],
) -> list[str]:
    """What ``_operators`` says of each row, by the kind of its replica."""
    said = [""] * len(rows)
    replica = column["replica_id"][rows]
    for replicas, operators, shares in tables:
        first, last = replicas.start or 0, replicas.stop
        places = np.flatnonzero((replica >= first) & (last is None or replica < (last or 0)))
        texts = _operators(column, rows[places], operators, shares, completed)
        for place, text in zip(places.tolist(), texts, strict=True):
            said[place] = text
    return said


def _operators(
    column: dict[str, NDArray[Any]],
    rows: NDArray[np.int64],
    operators: ByOperator,
    shares: NDArray[np.float64],
    completed: NDArray[np.int64],
) -> list[str]:
    """The JSON ``,"operators (ms)":{..}`` for each row."""
    if not operators:
        return [""] * len(rows)
    tokens, seqs, stage = (column[name][rows] for name in ("num_tokens", "num_seqs", "stage_id"))
    sampled = tokens - column["num_prefill_tokens"][rows] + completed[rows]
    begins, ends = stage == 0, stage == len(shares) - 1
    parts = {}
    for name, tables in operators.items():
        if by_operator.is_attention(tables):
            continue
        parts[name] = by_operator.on_each_stage(tables, tokens) * shares[stage]
        first = by_operator.on_first_stage(tables, tokens) + by_operator.on_host(tables, seqs)
        parts[name] += np.where(begins, first, 0.0)
        parts[name] += np.where(ends, by_operator.on_last_stage(tables, sampled), 0.0)
        parts[name] += np.where(ends, 0.0, by_operator.to_next_stage(tables, tokens))
    whole = (column["end"][rows] - column["start"][rows]) * 1e3
    parts["attention"] = np.maximum(0.0, whole - np.sum(list(parts.values()), axis=0))
    names = [name for name, values in parts.items() if values.any()]
    table = np.array([parts[name] for name in names]).T.tolist()
    form = ',"operators (ms)":{{' + ",".join(f'"{name}":{{:.4g}}' for name in names) + "}}"
    return [form.format(*values) for values in table]


def _counters(part: Part, replica: int) -> Iterator[list[str]]:
    """The counters of a replica, each at the times at which it changes."""
    queued, begun, ended = _served(part, replica)
    rows = part.batches[replica][0]
    starts, blocks = part.iterations["start"][rows], part.iterations["kv_blocks_used"][rows]
    last = np.diff(starts, append=np.inf) > 0
    for name, (times, values) in {
        "queue": _level(queued, begun),
        "running": _level(begun, ended),
        "KV blocks": (starts[last], blocks[last]),
    }.items():
        inside = (times >= part.begin) & (times <= part.end)
        moments, counts = ns(times[inside])[:: part.every], values[inside][:: part.every]
        moments, at = np.unique(moments, return_index=True)
        for first in range(0, len(moments), CHUNK):
            pairs = zip(
                moments[first : first + CHUNK].tolist(), counts[at][first : first + CHUNK].tolist(), strict=True
            )
            yield [
                f'{{"ph":"C","name":"{name}","pid":{replica + 1},"ts":{_us(ts)},"args":{{"{COUNTERS[name]}":{count}}}}}'
                for ts, count in pairs
            ]


def _served(part: Part, replica: int) -> NDArray[np.float64]:
    """When the requests of a replica queue there, begin to run, and end, float64[3, n], s."""
    column = part.requests
    mine = column["replica_id"] == replica
    times = np.array([queued_at(column), column["scheduled_at"], column["finished_at"]])
    if "prefill_replica_id" not in column:
        return times[:, mine]
    here = column["prefill_replica_id"] == replica
    prefills = np.array([queued_at(column), column["scheduled_at"], column["prefilled_at"]])
    split = column["prefill_replica_id"] >= 0
    begun = column["prefilled_at"] + column["transfer"] + column["transfer_wait"]
    decodes = np.array([column["prefilled_at"], begun, column["finished_at"]])
    return np.concatenate([times[:, mine & ~split], prefills[:, here], decodes[:, mine & split]], axis=1)


def _level(begins: NDArray[np.float64], ends: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The times at which the number of those begun and not ended may change, s, and that number."""
    begins, ends = (np.sort(times[np.isfinite(times)]) for times in (begins, ends))
    times = np.unique(np.concatenate([begins, ends]))
    return times, np.searchsorted(begins, times, "right") - np.searchsorted(ends, times, "right")


def _requests(part: Part) -> Iterator[tuple[int, list[str]]]:
    """The queueing, prefill and decode of each request, on a track of its own."""
    chosen, column = np.flatnonzero(part.chosen), part.requests
    names = [each.name for each in PARTS if each.name in column]
    shown = [section(name, part.words) for name in names]
    phases = {"front end": column["arrived_at"], "queue": queued_at(column), "prefill": column["scheduled_at"]}
    if "transfer_at" in column:
        phases |= _between(column)
    phases |= {"decode": column["first_token_at"], "": column["finished_at"]}
    again = "restarts" if part.words == OF_VLLM else part.words.losses
    last = ns(part.iterations["end"].max())
    for first in range(0, len(chosen), CHUNK):
        rows = chosen[first : first + CHUNK]
        moments = np.array([times[rows] for times in phases.values()])
        # Times that are missing become the end of the run.
        times = np.where(np.isfinite(moments), ns(np.nan_to_num(moments)), last).T.tolist()
        about = np.array(
            [
                column[n][rows]
                for n in ("request_id", "replica_id", "num_prompt_tokens", "num_output_tokens", "num_restarts")
            ]
        ).T.tolist()
        parts = [column[name][rows] for name in names]
        cached = column["num_cached_tokens"][rows].tolist() if "num_cached_tokens" in column else None
        lines: list[str] = []
        for i, (marks, (request, replica, prompt, output, restarts)) in enumerate(zip(times, about, strict=True)):
            where = f'"cat":"request","id":{request},"pid":{max(replica, 0) + 1},"tid":0'
            args = f'"request":{request},"prompt tokens":{prompt},"output tokens":{output},"{again}":{restarts}'
            args += f',"cached tokens":{cached[i]}' if cached else ""
            times_of_parts = ",".join(
                f'"{name}":{part[i] * 1e3:.6g}' for name, part in zip(shown, parts, strict=True) if part[i] > 0
            )
            args += f',"parts of it (ms)":{{{times_of_parts}}}' if times_of_parts else ""
            lines.append(f'{{"ph":"b","name":"request",{where},"ts":{_us(marks[0])},"args":{{{args}}}}}')
            for name, begin, end in zip(phases, marks[:-1], marks[1:], strict=False):
                if end > begin:
                    lines.append(f'{{"ph":"b","name":"{name}",{where},"ts":{_us(begin)}}}')
                    lines.append(f'{{"ph":"e","name":"{name}",{where},"ts":{_us(end)}}}')
            lines.append(f'{{"ph":"e","name":"request",{where},"ts":{_us(marks[-1])}}}')
        yield len(rows), lines


def _between(column: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """When the phases between the prefill of a request and its decodes begin, s; all at its first token without any.

    KV begins to be on its way once blocks are free for it; the last token of the prompt is computed again thereafter.
    """
    token, moved = column["first_token_at"], np.isfinite(column["transfer_at"])
    apart = np.isfinite(column["prefilled_at"])
    arrived = np.where(moved, column["transfer_at"] + column["transfer"], token)
    begun = np.where(apart, column["prefilled_at"] + column["transfer"] + column["transfer_wait"], token)
    return {
        "wait for KV blocks": np.where(apart, column["prefilled_at"], token),
        "transfer": np.where(moved, column["transfer_at"], np.where(apart, begun, token)),
        "wait for a batch": np.where(moved, arrived, np.where(apart, begun, token)),
        "last prompt token": begun,
    }


def _transfers(part: Part) -> Iterator[list[str]]:
    """A slice for each transfer of KV, beside the batches of the replica that it leaves."""
    column = part.requests
    if "transfer_at" not in column:
        return
    chosen = np.flatnonzero(part.chosen & np.isfinite(column["transfer_at"]) & np.isfinite(column["transfer"]))
    for first in range(0, len(chosen), CHUNK):
        rows = chosen[first : first + CHUNK]
        begin, end = ns(column["transfer_at"][rows]), ns(column["transfer_at"][rows] + column["transfer"][rows])
        names = ("request_id", "prefill_replica_id", "replica_id", "num_prompt_tokens")
        about = zip(begin.tolist(), end.tolist(), *(column[name][rows].tolist() for name in names), strict=True)
        lines = []
        for start, stop, request, source, target, prompt in about:
            where = f'"cat":"transfer","id":{request},"pid":{source + 1},"tid":0'
            name = f'"name":"KV to replica {target}"'
            args = f'{{"request":{request},"from replica":{source},"to replica":{target},"prompt tokens":{prompt}}}'
            lines.append(f'{{"ph":"b",{name},{where},"ts":{_us(start)},"args":{args}}}')
            lines.append(f'{{"ph":"e",{name},{where},"ts":{_us(stop)}}}')
        yield lines


def ns(seconds: Any) -> Any:
    """Convert s to whole nanoseconds, so that slices which do not overlap in s do not overlap afterwards."""
    return np.rint(np.asarray(seconds) * 1e9).astype(np.int64)


def _us(ns: int) -> str:
    """Format nanoseconds as microseconds, the unit of the format, with three decimals."""
    return f"{ns // 1000}.{ns % 1000:03d}"
