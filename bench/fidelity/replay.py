"""What fastsim predicts for runs of real engines: each is simulated once per draw, and its rows are read off."""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fastsim.deployment.description import Deployment
from fastsim.deployment.resolve import resolve
from fastsim.deployment.resolved import Resolved
from fastsim.errors import FastsimError
from fastsim.predictors.built import Built
from fastsim.predictors.replicates import replicates
from fastsim.result.metrics.replicates import HIGH, LOW
from fastsim.simulation.many import simulate_many
from fastsim.workload import Workload

from .runs import METRICS, Row, Run, figures_of


class Replayed(NamedTuple):
    """A row and what was predicted for it: the same figures as were measured, means over the draws."""

    row: Row
    predicted: Mapping[str, float]
    lowest: Mapping[str, float]  # over the draws
    highest: Mapping[str, float]


class Interval(NamedTuple):
    """The 90 % interval of a figure that was measured for a row, s."""

    row: Row
    metric: str
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Whether the measured figure lies inside."""
        return self.low <= self.row.measured[self.metric] <= self.high


def replayed(runs: Sequence[Run], threads: int | None = None) -> tuple[list[Replayed], list[str]]:
    """All rows of the runs that can be simulated, and why the others cannot be: one sentence a row."""
    jobs: list[tuple[Resolved, Workload]] = []
    asked: list[tuple[Run, int]] = []  # with the number of its first job
    refused = []
    for run in runs:
        try:
            deployment = resolve(Deployment.load(run.fields))
        except FastsimError as error:
            refused += [_first_line(error)] * len(run.rows)
            continue
        asked.append((run, len(jobs)))
        jobs += [(deployment, workload) for workload in run.workloads]
    outcomes = simulate_many(jobs, threads=threads, requests=True, too_long="clip")
    rows = []
    for run, first in asked:
        own = outcomes[first : first + len(run.workloads)]
        errors = [outcome.error for outcome in own if outcome.error is not None]
        if errors:
            refused += [_first_line(errors[0])] * len(run.rows)
            continue
        tables = [outcome.requests for outcome in own]
        rows += [_of_row(row, run.stages, tables) for row in run.rows]
    return rows, refused


def intervals(runs: Sequence[Run], number: int, threads: int | None = None) -> list[Interval]:
    """The intervals of all rows that can be simulated, from ``number`` draws of operator times and of engine times."""
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = pool.map(lambda run: _intervals(run, number), runs)
        return [interval for of_run in found for interval in of_run]


def _intervals(run: Run, number: int) -> list[Interval]:
    try:
        deployment = resolve(Deployment.load(run.fields))
        drawn = []
        for index, one in enumerate(replicates(deployment, number, deployment.seed)):
            job = (one.resolved, run.workloads[index % len(run.workloads)])
            build = partial(_given, one.built)
            (outcome,) = simulate_many([job], threads=1, requests=True, build=build, too_long="clip")
            if outcome.requests is None:
                return []
            drawn.append(outcome.requests)
    except FastsimError:
        return []
    return [
        Interval(row, name, *np.quantile([figures(table, run.stages, row.stage)[name] for table in drawn], (LOW, HIGH)))
        for row in run.rows
        for name in row.measured
        if name in METRICS
    ]


def _given(built: Built, resolved: Resolved) -> Built:
    return built


def _of_row(row: Row, stages: NDArray[np.int64] | None, tables: Sequence[pa.Table]) -> Replayed:
    drawn = [figures(table, stages, row.stage) for table in tables]
    names = [name for name in row.measured if name in drawn[0]]

    def over(combine: Callable[[list[float]], Any]) -> dict[str, float]:
        return {name: float(combine([one[name] for one in drawn])) for name in names}

    return Replayed(row, over(lambda values: sum(values) / len(values)), over(min), over(max))


def figures(table: pa.Table, stages: NDArray[np.int64] | None, stage: int | None) -> dict[str, float]:
    """The figures of a simulation's requests, or of those of one stage."""
    chosen = np.arange(table.num_rows)
    if stages is not None and stage is not None:
        chosen = np.flatnonzero(stages[table["request_id"].to_numpy()] == stage)
    columns = (table[name].to_numpy()[chosen] for name in ("ttft", "tpot", "e2e", "arrived_at", "num_output_tokens"))
    return figures_of(*columns)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
