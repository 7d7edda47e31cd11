"""Writes a result as a timeline for Perfetto or Chrome: JSON in the Trace Event Format.

A replica is a process, each of its pipeline stages is a thread, and each batch on a stage is a slice. Each replica also
has counters (waiting requests, running requests, KV blocks held), a track of requests with their queueing, prefill and
decode, and flows: arrows that follow a request through the batches that are known to have held it. Where prefill and
decode are apart, transfers of KV are slices of the replica that they leave, and arrows go from the batch that ends a
prefill to that of the first token.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.errors import ConfigError, FastsimError, InputError
from fastsim.files.writing import refuse_folder, writing
from fastsim.predictors.build import build_cost
from fastsim.report.timeline import flows
from fastsim.report.timeline.events import Part, Tables, events
from fastsim.result import wording
from fastsim.result.result import Result

LIMIT = 400_000  # batches in a timeline if the caller does not say how many to keep


class Written(NamedTuple):
    """What a timeline holds."""

    num_batches: int
    num_requests: int
    begin: float  # s
    end: float  # s
    every: int  # one batch and one request in so many
    note: str  # what is in the timeline and what is left out


def timeline(
    folder: str | Path,
    out: str | Path,
    begin: float | None = None,
    end: float | None = None,
    every: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Written:
    """Write the batches and requests of a result as a timeline.

    Parameters
    ----------
    folder : str or Path
        Output folder of `fastsim simulate --iterations`.
    out : str or Path
        The file to write. A name that ends with .json is written as text, any other is compressed with gzip.
    begin, end : float, optional
        The part of the run to write, s; by default the whole run.
    every : int, optional
        Keep one batch and one request in so many, and all batches that the arrows of these requests touch. By default
        as many are kept as leave at most LIMIT batches.
    progress : callable, optional
        Called with the share of the events written so far, from 0 to 1.

    Returns
    -------
    Written
        What the timeline holds.

    Raises
    ------
    InputError
        The result has no iterations.parquet.
    ConfigError
        No batch lies between ``begin`` and ``end``.
    """
    folder, out = Path(folder), Path(out)
    refuse_folder(out, "trace.json.gz")
    result = Result.load(folder)
    if result.iterations is None:
        raise InputError(f"{folder}: holds no iterations.parquet, which a timeline needs; simulate with --iterations")
    part = _part(result, folder, begin, end, every)
    tables = _tables(folder / "config.json")
    written = _written(part, all(each.operators for each in tables))
    total, done = written.num_batches + written.num_requests, 0
    with writing(out) as temporary, _open(temporary, out) as file:
        head = {"displayTimeUnit": "ms", "otherData": {"about": written.note}}
        file.write((json.dumps(head)[:-1] + ', "traceEvents": [\n').encode())
        first = True
        for number, lines in events(part, tables):
            if lines:
                file.write(("" if first else ",\n").encode() + ",\n".join(lines).encode())
                first = False
            done += number
            progress(min(1.0, done / max(1, total)))
        file.write(b"\n]}\n")
    return written


@contextmanager
def _open(path: Path, out: Path) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """Open ``path`` for writing, as a gzip file unless ``out`` ends with .json."""
    with path.open("wb") as raw:
        if out.suffix == ".json":
            yield raw
            return
        # Without a name and a time in the header, equal timelines give equal files.
        with gzip.GzipFile("", "wb", 4, raw, mtime=0) as file:
            yield file


def _part(result: Result, folder: Path, begin: float | None, end: float | None, every: int | None) -> Part:
    """Choose the batches and requests to write."""
    assert result.iterations is not None
    iterations = {name: result.iterations[name].to_numpy() for name in result.iterations.column_names}
    requests = result.columns()
    ranks = int(result.config["deployment"].get("data_parallel_size", 1))
    if ranks > 1:
        iterations, requests = (
            table | {"replica_id": table["replica_id"] * ranks + table["rank"]} for table in (iterations, requests)
        )
    start, stop = iterations["start"], iterations["end"]
    first, last = (float(start.min()), float(stop.max())) if len(start) else (0.0, 0.0)
    begin, end = first if begin is None else begin, last if end is None else end
    rows = (stop >= begin) & (start <= end)
    if begin >= end or not rows.any():
        raise ConfigError(
            f"{folder}: no batch lies between {begin:g} and {end:g} s; the run lasts from {first:g} to {last:g} s"
        )
    if every is None:
        every = max(1, -(-int(rows.sum()) // LIMIT))
    with np.errstate(invalid="ignore"):
        chosen = (requests["arrived_at"] <= end) & ~(requests["finished_at"] < begin)
    chosen &= requests["request_id"] % every == 0
    batches = flows.batches(iterations)
    steps = flows.within(flows.steps(requests, iterations, batches, chosen), rows)
    if every > 1:
        some = np.zeros(len(rows), bool)
        for stages in batches:
            for stage in stages:
                some[stage[::every]] = True
        some[steps.row] = True
        rows &= some
    deployment = result.config["deployment"]
    pools = tuple(pool["name"] for pool in deployment.get("pools") or () for _ in range(pool["num_replicas"]))
    words = wording.of(result.config)
    return Part(iterations, requests, batches, rows, chosen, steps, begin, end, every, words, ranks, pools)


def _tables(config: Path) -> list[Tables]:
    """The tables by operator of the deployment in a config.json, of each of its pools; empty where they cannot be built
    again.

    Vidur's composition has none, since its times are not sums over operators. Operator times, models and policies may
    also come from files that no longer exist.
    """
    try:
        resolved = resolve(Deployment.load(config))
        built = build_cost(resolved)
    except FastsimError:
        return [Tables(slice(None), {}, np.ones(1))]
    kinds = built.pools or (built,)
    pairs = zip(resolved.by_kind, kinds, strict=True)
    return [Tables(replicas, each.operators, each.cost.shares) for (_, replicas), each in pairs]


def _written(part: Part, has_operators: bool) -> Written:
    """Describe what the timeline holds."""
    kept = "all batches and requests"
    if part.every > 1:
        kept = f"one in {part.every} batches and requests, and the batches that arrows touch"
    times = "are left out, as they cannot be computed"
    if has_operators:
        times = "are in ms and add up to the batch; attention takes what the others leave"
    note = (
        f"fastsim timeline from {part.begin:g} to {part.end:g} s with {kept}. Arrows follow a request from its first "
        "batch (without a pipeline) to the batches of its first and last token, and through the batches of its chunks "
        f"where the result determines them. Times by operator {times}."
    )
    return Written(int(part.rows.sum()), int(part.chosen.sum()), part.begin, part.end, part.every, note)
