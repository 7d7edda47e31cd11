"""Curves of several deployments: their names, and the files that hold them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastsim.deployment.description import Deployment
from fastsim.files.writing import replacing
from fastsim.planning.along import Known, along
from fastsim.planning.confirming import BEST
from fastsim.planning.load_curve import Curve
from fastsim.planning.search import SearchResult
from fastsim.planning.sensitivity import name_of
from fastsim.planning.trials import Trials
from fastsim.result.metrics.objectives import parse_all

TABLE, SUMMARY, PAGE = "curve.parquet", "curve.json", "report.html"


def names_of(files: Sequence[str], deployments: Sequence[Deployment]) -> list[str]:
    """Names for deployments: those of their files, as far as these differ, or nothing for one alone."""
    if len(files) < 2:
        return [""] * len(deployments)
    stems = [Path(file).stem for file in files]
    return stems if len(set(stems)) == len(stems) else [str(file) for file in files]


def of_search(found: SearchResult, threads: int | None = None) -> list[Curve]:
    """The curves of a search's winner and runner-up, whose capacities are known; none where nothing was confirmed."""
    wanted = parse_all(found.objectives)
    best = [(candidate, row) for candidate, row in zip(found.candidates, found.rows, strict=True) if row["score"]]
    made = []
    for candidate, row in best[:BEST]:
        if not row["held"] or not row["ceiling"]:
            continue
        load = float(row.get("users") or row["capacity"])
        limits = tuple(filter(None, row["limited_by"].split(", ")))
        known = Known(load, row["ceiling"], row["requests"], limits, 1.1 * load)
        trials = Trials(candidate.resolved, candidate.source, wanted)
        made.append(along(trials, known, name_of(row), threads=threads))
    return made


def rows_of(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    """A row for each point of each curve."""
    return [
        {
            "name": curve.name,
            "users" if curve.users else "rate": point.load,
            "requests_per_s": point.rate,
            "within_objectives": point.met,
            "missed": ", ".join(point.missed),
            "drift": point.drift,
            "goodput": point.goodput,
            "dollars_per_million_requests": point.dollars_per_million_requests,
            **point.figures,
            "is_knee": point.load == curve.knee,
            "is_capacity": point.load == curve.capacity,
            "num_requests": point.num_requests,
            "span_s": point.span,
        }
        for curve in curves
        for point in curve.points
    ]


def as_dict(curves: Sequence[Curve], workload: str) -> dict[str, Any]:
    """The content of curve.json."""
    return {"workload": workload, "curves": [curve.as_dict() for curve in curves]}


def save(curves: Sequence[Curve], workload: str, page: str, folder: Path) -> None:
    """Write the table, the JSON and ``page`` (HTML). Raises OutputError."""
    with replacing(folder, (TABLE, SUMMARY, PAGE)) as part:
        pq.write_table(pa.Table.from_pylist(rows_of(curves)), part / TABLE)
        (part / SUMMARY).write_text(json.dumps(as_dict(curves, workload), indent=2) + "\n")
        (part / PAGE).write_text(page, encoding="utf-8")
