"""All figures with their meanings, and what a run follows from."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastsim.report.page.page import Block, Cell, Table
from fastsim.report.runs import Run
from fastsim.report.words import NOTHING, figure, interval, meaning, number, seconds, share, statistic, title
from fastsim.result.metrics.definitions import METRICS, STATISTICS

DIGEST = re.compile("[0-9a-f]{40,}")
SHOWN = ("mean", "p50", "p90", "p99", "p999", "max")


def distributions(run: Run, section: str) -> Table:
    """The distributions of a section of the summary (latency, request, batch), a row each."""
    names = [
        m.name
        for m in METRICS
        if m.name.startswith(f"{section}.") and any(f"{m.name}.{stat}" in run.figures for stat in STATISTICS)
    ]
    rows = [
        [
            Cell(title(name.partition(".")[2])),
            *(
                Cell(figure(key, run.figures.get(key)), run.figures.get(key), key)
                for key in (f"{name}.{s}" for s in SHOWN)
            ),
        ]
        for name in names
    ]
    meanings = {title(name.partition(".")[2]): meaning(name) for name in names}
    return Table(["", *(statistic(name) for name in SHOWN)], rows, meanings=meanings)


def scalars(runs: Sequence[Run]) -> Table:
    """Every other figure, a row each and a column by run, with its 90 % interval where it has one."""
    apart = tuple(f"{m.name}." for m in METRICS if m.kind == "distribution")
    keys = [key for key in runs[0].figures if not key.startswith((*apart, "objectives.", "latency."))]
    rows = []
    for key in keys:
        cells = [Cell(_value(run, key), run.figures.get(key), key) for run in runs]
        rows.append([Cell(_heading(key)), *cells])
    meanings = {_heading(key): text for key in keys if (text := meaning(key))}
    return Table(
        ["", *(run.name for run in runs)] if len(runs) > 1 else ["", "value"],
        rows,
        filtered=len(rows) > 12,
        meanings=meanings,
    )


def slowest(run: Run) -> list[Block]:
    """The slowest requests, one by one."""
    if run.detail is None or not run.detail.slowest:
        return []
    parts = [key for key in run.detail.slowest[0] if key.startswith("part.")]
    parts = [key for key in parts if any(row[key] > 0 for row in run.detail.slowest)]
    head = ["request", "replica", "arrived", "prompt", "output", "restarts", "TTFT", "end to end"]
    head += [title(key.removeprefix("part.")) for key in parts]
    rows = []
    for row in run.detail.slowest:
        counts = ("request_id", "replica_id", "arrived_at", "num_prompt_tokens", "num_output_tokens", "num_restarts")
        cells = [Cell(seconds(row[key]) if key == "arrived_at" else f"{row[key]:.0f}", row[key]) for key in counts]
        cells += [Cell(seconds(row[key]), row[key]) for key in ("ttft", "e2e", *parts)]
        rows.append(cells)
    return [Table(head, rows, "The slowest requests, end to end")]


def replicas(run: Run) -> list[Block]:
    """A row by replica, where the summary holds them and there are several."""
    found = run.summary.get("replicas") or []
    if len(found) < 2:
        return []
    head = ["replica", *(title(key) for key in found[0])]
    rows: list[list[Cell | str]] = []
    for place, one in enumerate(found):
        cells = [_of_replica(key, value) for key, value in one.items()]
        rows.append([Cell(str(place), place), *cells])
    return [Table(head, rows, "By replica, and by stage where there are several", filtered=len(rows) > 12)]


def _of_replica(key: str, value: Any) -> Cell:
    values = value if isinstance(value, list) else [value]
    said = share if key in ("busy", "mfu", "mean_kv", "peak_kv") else number
    known = [one for one in values if one is not None]
    return Cell(", ".join(map(said, values)), math.fsum(known) / len(known) if known else None)


def configuration(runs: Sequence[Run]) -> Table:
    """What the runs follow from, a row per field."""
    return _fields(runs, fields(runs))


def differences(runs: Sequence[Run]) -> Table:
    """What was asked for, where it differs between the runs; what follows from it is left out."""
    found = fields(runs)
    asked = {
        key: values
        for key, values in found.items()
        if key.startswith(("deployment.", "workload.")) and not key.endswith("num_blocks") and len(set(values)) > 1
    }
    return _fields(runs, asked)


def _fields(runs: Sequence[Run], found: dict[str, list[str]]) -> Table:
    rows: list[list[Cell | str]] = [[key, *values] for key, values in found.items()]
    return Table(["", *(run.name for run in runs)] if len(runs) > 1 else ["", "value"], rows, filtered=len(rows) > 12)


def common(runs: Sequence[Run]) -> Table:
    """Fields that are the same in all runs."""
    same = [[key, values[0]] for key, values in fields(runs).items() if len(set(values)) == 1]
    return Table(["", "value"], same, filtered=True)


def fields(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The fields of config.json by their dotted key, with the value in every run."""
    found = [{key: _plain(value) for key, value in _flat(run.config)} for run in runs]
    keys = dict.fromkeys(key for each in found for key in each)
    return {key: [each.get(key, NOTHING) for each in found] for key in keys}


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, part in value.items():
        name = f"{before}.{key}" if before else key
        found += _flat(part, name) if isinstance(part, Mapping) else [(name, part)]
    return found


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) if value else NOTHING
    if value is None:
        return NOTHING
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f"{text[:12]}…" if DIGEST.fullmatch(text) else text


def _value(run: Run, key: str) -> str:
    text = figure(key, run.figures.get(key))
    ends = run.summary.get("replicates", {}).get("intervals", {}).get(key)
    return text if ends is None else f"{text} ({interval(key, ends)})"


def _heading(name: str) -> str:
    section, _, key = name.partition(".")
    return f"{title(section)}: {title(key.replace('.', ' '))}" if key else title(section)
