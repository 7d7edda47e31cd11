"""What a page needs of a result: its figures, thinned curves, and more detail where few runs share a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastsim.errors import InputError
from fastsim.report.thin import Curve, Floats, Level, Spread, curve, edges, level, rate, spread
from fastsim.result.columns import PARTS
from fastsim.result.kinds import num_replicas
from fastsim.result.metrics.definitions import LATENCIES, flatten
from fastsim.result.metrics.occupancy import queued_at
from fastsim.result.metrics.window import inside
from fastsim.result.result import Result

OLD_PARTS = ("queue", "to first token", "decode")  # parts of the end-to-end time in results without a breakdown
GROUPS = (("all", 0.0), ("slowest 10 %", 0.9), ("slowest 1 %", 0.99))
NUM_SLOWEST = 10
SLOW = ("request_id", "replica_id", "arrived_at", "num_prompt_tokens", "num_output_tokens", "num_restarts")


class Group(NamedTuple):
    """The requests from a quantile upwards, and the mean of each part of their time, s."""

    name: str
    number: int
    parts: dict[str, float]


class Batches(NamedTuple):
    """Histograms of the batches by size and by tokens, and KV blocks and busy stages over time."""

    sizes: tuple[Floats, Floats]  # edges in requests, number of batches
    prefill: tuple[Floats, Floats]  # edges in tokens, number of batches with prompt tokens
    decode: tuple[Floats, Floats]  # edges in tokens, number of batches
    kv: Spread  # KV blocks held when batches start
    busy: Floats  # share of busy stages in each bin
    preempted: Floats | None  # requests preempted in each bin; None where the policy is no engine's, as the next
    cached: Floats | None  # tokens found in the prefix or radix cache in each bin


@dataclass(frozen=True)
class Detail:
    """The detail of a run, for pages with few runs."""

    queue: Level
    running: Level
    arrivals: Floats  # requests/s in each bin of queue.edges
    completions: Floats  # requests/s in each bin of queue.edges
    latency: dict[str, Spread]  # TTFT and end-to-end time by time of arrival, s
    by_e2e: list[Group]
    by_ttft: list[Group]
    slowest: list[dict[str, float]]  # the slowest requests, the slowest first
    batches: Batches | None


@dataclass(frozen=True)
class Run:
    """One result of a page.

    ``curves`` holds the distribution of each latency but TBT, as no file holds every gap between tokens. Requests that
    the summary excludes as warm-up or cool-down are in no curve. ``number`` is the position among the runs of the page,
    which gives the run its colour.
    """

    name: str
    number: int
    summary: dict[str, Any]
    config: dict[str, Any]
    figures: dict[str, float | int | None]
    num_finished: int
    curves: dict[str, Curve]
    detail: Detail | None


def read(folders: Sequence[Path], detail: bool, points: int, progress: Any) -> list[Run]:
    """Read the results in ``folders``.

    Parameters
    ----------
    folders : sequence of Path
        Output folders of `fastsim simulate`.
    detail : bool
        Whether to keep the detail of each run.
    points : int
        Most points of each curve.
    progress : callable
        Called with the share of the folders read so far, from 0 to 1.

    Raises
    ------
    InputError
        A folder holds no result, or is given twice.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        if (other := seen.setdefault(folder.resolve(), folder)) is not folder:
            same = f"as {other}" if str(other) != str(folder) else "twice"
            raise InputError(f"{folder}: is given {same}; name each result once")
    names = _names([folder.resolve() for folder in folders])
    runs = []
    for done, (folder, name) in enumerate(zip(folders, names, strict=True)):
        runs.append(run_of(name, done, Result.load(folder), detail, points))
        progress((done + 1) / len(folders))
    return runs


def _names(folders: list[Path]) -> list[str]:
    """The last part of each path, with as many of the parts before it as tell the paths apart."""
    length = 1
    while len({folder.parts[-length:] for folder in folders}) < len(folders):
        length += 1
    return ["/".join(folder.parts[-length:]) for folder in folders]


def run_of(name: str, number: int, result: Result, detail: bool, points: int) -> Run:
    """What a page needs of one result; its parameters are those of Run and of ``read``."""
    kept = _kept(result)
    columns = {latency.key: result.column(latency.key)[kept] for latency in LATENCIES if latency.key != "tbt"}
    return Run(
        name=name,
        number=number,
        summary=result.summary,
        config=result.config,
        figures=flatten(result.summary),
        num_finished=int(np.isfinite(result.column("finished_at")).sum()),
        curves={key: curve(values, points) for key, values in columns.items()},
        detail=_detail(result) if detail and result.requests.num_rows else None,
    )


def _kept(result: Result) -> Any:
    """An index of the requests that the latencies of the summary cover."""
    out = result.summary.get("excluded", {})
    kept = inside(result.column("arrived_at"), (out.get("warm_up_s", 0.0), out.get("cool_down_s", 0.0)))
    return slice(None) if kept is None else kept


def _detail(result: Result) -> Detail:
    """The detail of a result that has requests."""
    arrived, scheduled = result.column("arrived_at"), result.column("scheduled_at")
    finished = result.column("finished_at")
    last = max(arrived.max(), np.nanmax(finished)) if np.isfinite(finished).any() else arrived.max()
    at, kept = edges(float(arrived[0]), float(last)), _kept(result)
    queued = queued_at(result.columns())
    return Detail(
        queue=level(queued, scheduled, at),
        running=level(scheduled, finished, at),
        arrivals=rate(arrived, at),
        completions=rate(finished, at),
        latency={key: spread(arrived, result.column(key), at) for key in ("ttft", "e2e")},
        by_e2e=_groups(result.column("e2e")[kept], _parts(result, kept)),
        by_ttft=_groups(result.column("ttft")[kept], _first_parts(result, kept)),
        slowest=_slowest(result, kept),
        batches=None if result.iterations is None or not result.iterations.num_rows else _batches(result, at),
    )


def _parts(result: Result, kept: Any) -> dict[str, Floats]:
    """The parts of the end-to-end time, s; three parts for an older result, which has no breakdown."""
    names = [column.name for column in PARTS if column.name in result.requests.column_names]
    if names:
        return {name: result.column(name)[kept] for name in names}
    delay, ttft, e2e = (result.column(name)[kept] for name in ("scheduling_delay", "ttft", "e2e"))
    return dict(zip(OLD_PARTS, (delay, ttft - delay, e2e - ttft), strict=True))


def _first_parts(result: Result, kept: Any) -> dict[str, Floats]:
    """The parts of the time to the first token, s."""
    delay, ttft = result.column("scheduling_delay")[kept], result.column("ttft")[kept]
    has_front_end = "front_end" in result.requests.column_names
    front_end = {"front_end": result.column("front_end")[kept]} if has_front_end else {}
    transfers = {
        name: result.column(name)[kept]
        for name in ("transfer_wait", "transfer")
        if name in result.requests.column_names
    }
    rest = ttft - delay - sum(front_end.values()) - sum(transfers.values())
    computed = "batches up to the first token" if transfers else "first batch to first token"
    return {**front_end, "queue_wait": delay, computed: rest, **transfers}


def _groups(values: Floats, parts: dict[str, Floats]) -> list[Group]:
    """The mean parts of the requests from each quantile of ``values`` upwards."""
    known = np.isfinite(values)
    if not known.any():
        return []
    groups = []
    for name, share in GROUPS:
        chosen = known & (values >= np.quantile(values[known], share, method="higher"))
        means = {part: float(found[chosen].mean()) for part, found in parts.items()}
        groups.append(Group(name, int(chosen.sum()), means))
    return groups


def _slowest(result: Result, kept: Any) -> list[dict[str, float]]:
    """The requests with the largest end-to-end time, the slowest first."""
    e2e = result.column("e2e")[kept]
    count = min(NUM_SLOWEST, int(np.isfinite(e2e).sum()))
    worst = np.argsort(np.where(np.isfinite(e2e), -e2e, np.inf), kind="stable")[:count]
    cached = ("num_cached_tokens",) if "num_cached_tokens" in result.requests.column_names else ()
    columns = {name: result.column(name)[kept] for name in (*SLOW, *cached, "ttft", "e2e")}
    columns |= {f"part.{name}": found for name, found in _parts(result, kept).items()}
    return [{name: float(values[i]) for name, values in columns.items()} for i in worst]


def _batches(result: Result, at: Floats) -> Batches:
    """Histograms and series of the batches on the first stage of a result that keeps iterations."""
    table = result.iterations
    assert table is not None
    column = {name: table[name].to_numpy() for name in table.column_names}
    first = column["stage_id"] == 0
    prompts = column["num_prefill_tokens"][first]
    stages = 1 + int(column["stage_id"].max())
    replicas = max(num_replicas(result.config["deployment"]), 1 + int(column["replica_id"].max()))
    working = level(column["start"], column["end"], at).mean / (stages * replicas)
    return Batches(
        sizes=_histogram(column["num_seqs"][first]),
        prefill=_histogram(prompts[prompts > 0]),
        decode=_histogram((column["num_tokens"] - column["num_prefill_tokens"])[first]),
        kv=spread(column["start"], column["kv_blocks_used"].astype(np.float64), at),
        busy=working,
        preempted=_sums(column, "num_preempted", first, at),
        cached=_sums(column, "num_cached_tokens", first, at),
    )


def _sums(column: dict[str, Any], name: str, first: Any, at: Floats) -> Floats | None:
    """A column of the batches that start in each bin, summed over those on the first stage; None without the column."""
    if name not in column:
        return None
    counted, _ = np.histogram(column["start"][first], at, weights=column[name][first].astype(np.float64))
    return counted


def _histogram(values: Any) -> tuple[Floats, Floats]:
    """The edges and counts of about 60 bins of whole numbers."""
    if not len(values):
        return np.array([0.0, 1.0]), np.zeros(1)
    low, high = int(values.min()), int(values.max()) + 1
    width = max(1, -(-(high - low) // 60))
    at = np.arange(low, high + width, width, dtype=np.float64)
    return at, np.histogram(values, at)[0].astype(np.float64)
