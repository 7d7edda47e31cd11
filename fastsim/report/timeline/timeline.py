"""A result as a timeline for Perfetto or Chrome: JSON in the Trace Event Format, written as it is made.

A replica is a process and each of its pipeline stages a thread with every batch as a slice. Besides, each replica has
counters (requests that wait, requests under way, KV blocks held), a track of requests with their queueing, prefill and
decode, and flows: arrows that follow a request through the batches that it is known to have been in (flows.py).
"""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from fastsim.deployment.resolved import Deployment, resolve
from fastsim.errors import ConfigError, FastsimError, InputError
from fastsim.files.writing import refuse_folder, writing
from fastsim.predictors.build import build_cost
from fastsim.predictors.tables.by_operator import ByOperator
from fastsim.report.timeline import flows
from fastsim.report.timeline.events import Part, events
from fastsim.result.result import Result

LIMIT = 400_000  # batches that a timeline holds unless it is asked for more
FLOW = "Arrows follow a request from its first batch (without a pipeline) to those of its first and last token"


class Told(NamedTuple):
    """What a timeline holds."""

    num_batches: int
    num_requests: int
    begin: float  # s
    end: float  # s
    every: int
    note: str


def timeline(
    folder: str | Path,
    out: str | Path,
    begin: float | None = None,
    end: float | None = None,
    every: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Told:
    """Write the batches and requests of a result between ``begin`` and ``end`` s to ``out``; .json is not gzipped.

    ``every``: only one batch and one request in so many, and the batches that these requests' arrows touch; None takes
    as many as make the file hold LIMIT batches. Raises InputError for a result without iterations.parquet and
    ConfigError for a window that holds no batch.
    """
    folder, out = Path(folder), Path(out)
    refuse_folder(out, "trace.json.gz")
    result = Result.load(folder)
    if result.iterations is None:
        raise InputError(
            f"{folder}: holds no iterations.parquet, which a timeline is made of; simulate with --iterations"
        )
    part = _part(result, folder, begin, end, every)
    operators = _operators(folder / "config.json")
    told = _told(part, operators)
    total, done = told.num_batches + told.num_requests, 0
    with writing(out) as temporary, _open(temporary, out) as file:
        head = {"displayTimeUnit": "ms", "otherData": {"about": told.note}}
        file.write((json.dumps(head)[:-1] + ', "traceEvents": [\n').encode())
        first = True
        for number, lines in events(part, operators):
            if lines:
                file.write(("" if first else ",\n").encode() + ",\n".join(lines).encode())
                first = False
            done += number
            progress(min(1.0, done / max(1, total)))
        file.write(b"\n]}\n")
    return told


@contextmanager
def _open(path: Path, out: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    with path.open("wb") as raw:
        if out.suffix == ".json":
            yield raw
            return
        # Neither name nor time, so that the same timeline is the same file.
        with gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
            yield file


def _part(result: Result, folder: Path, begin: float | None, end: float | None, every: int | None) -> Part:
    assert result.iterations is not None
    iterations = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}
    requests = result.columns()
    start, stop = iterations["start"], iterations["end"]
    first, last = (float(start.min()), float(stop.max())) if len(start) else (0.0, 0.0)
    begin, end = first if begin is None else begin, last if end is None else end
    rows = (stop >= begin) & (start <= end)
    if begin >= end or not rows.any():
        raise ConfigError(
            f"{folder}: no batch lies between {begin:g} and {end:g} s; the run is from {first:g} to {last:g} s"
        )
    if every is None:
        every = max(1, -(-int(rows.sum()) // LIMIT))
    with np.errstate(invalid="ignore"):
        chosen = (requests["arrived_at"] <= end) & ~(requests["finished_at"] < begin)
    chosen &= requests["request_id"] % every == 0
    found = flows.batches(iterations)
    steps = flows.within(flows.steps(requests, iterations, found, chosen), rows)
    if every > 1:
        some = np.zeros(len(rows), bool)
        for stages in found:
            for stage in stages:
                some[stage[::every]] = True
        some[steps.row] = True
        rows &= some
    return Part(iterations, requests, found, rows, chosen, steps, begin, end, every)


def _operators(config: Path) -> ByOperator:
    """Tables by operator of the deployment in a result's config.json, empty where they cannot be had again.

    That is so for Vidur's composition, whose times are no sums over operators, and for operator times, models or
    policies in files that are no longer there.
    """
    try:
        return build_cost(resolve(Deployment.load(config))).operators
    except FastsimError:
        return {}


def _told(part: Part, operators: ByOperator) -> Told:
    whole = "all" if part.every == 1 else f"one in {part.every}"
    note = (
        f"fastsim timeline, {part.begin:g} to {part.end:g} s: {whole} of the batches and requests. {FLOW}, and through "
        "its chunks where the result tells which these are. Operators are in ms and add up to the batch"
    )
    if part.every > 1:
        note = note.replace(". Arrows", ", and the batches that arrows touch. Arrows", 1)
    note += "; attention is what remains." if operators else "; they are left out, as their times cannot be had again."
    number = int(part.rows.sum())
    return Told(number, int(part.chosen.sum()), part.begin, part.end, part.every, note)
