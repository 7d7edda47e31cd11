"""Configurations in batches: cut by estimated work, simulated together, a row for each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import FastsimError
from fastsim.predictors.build import Built
from fastsim.result.metrics.definitions import flatten
from fastsim.simulation.many import Run, estimate, simulate_many, tables_key
from fastsim.simulation.run import Progress
from fastsim.sweeps.configuration import Configuration, named
from fastsim.workload import Workload

Row = dict[str, Any]
Outcome = dict[str, float | int | None] | str  # figures, or an error

# Rough, for balance only: s of an iteration or request, and of a simulation's beginning and end.
STEP_S, RUN_S = 7e-9, 2e-3
LEAST_S, MOST_S = 0.1, 1.0  # of a batch: long enough that handing it out costs little, short enough to lose
MOST = 50  # configurations of a batch


@dataclass(frozen=True, slots=True)
class Batch:
    """Configurations that one thread simulates, and about how long that takes, s."""

    configurations: tuple[Configuration, ...]
    seconds: float


def simulate(
    jobs: Sequence[tuple[Resolved, Workload]],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    build: Callable[[Resolved], Built] | None = None,
) -> list[Outcome]:
    """The figures of each job, or why there are none."""
    return [_outcome(run) for run in simulate_many(jobs, threads=threads, progress=progress, build=build)]


def row(configuration: Configuration, outcome: Outcome) -> Row:
    """A row of the table of a sweep: the fields that vary, ``digest``, ``error`` (None or a sentence) and, without an
    error, the figures of summary.json by dotted key."""
    fields = {name: named(value) if name == "workload" else value for name, value in configuration.overrides.items()}
    if isinstance(outcome, str):
        return {**fields, "digest": configuration.digest, "error": outcome}
    return {**fields, "digest": configuration.digest, "error": None, **outcome}


def cut(configurations: Iterable[Configuration], threads: int) -> list[Batch]:
    """Batches, the largest first. Those that share tables and workload stay together, so that each is read once."""
    groups: dict[Any, list[tuple[Configuration, float]]] = {}
    for one in configurations:
        seconds = STEP_S * estimate(one.resolved, one.workload) + RUN_S
        groups.setdefault((tables_key(one.resolved), one.workload.digest), []).append((one, seconds))
    total = sum(seconds for members in groups.values() for _, seconds in members)
    most = min(MOST_S, max(LEAST_S, total / (8 * threads)))
    batches: list[Batch] = []
    chosen: list[Configuration] = []
    filled = 0.0
    for members in groups.values():
        for one, seconds in members:
            if chosen and (filled + seconds > most or len(chosen) == MOST):
                batches.append(Batch(tuple(chosen), filled))
                chosen, filled = [], 0.0
            chosen.append(one)
            filled += seconds
    if chosen:
        batches.append(Batch(tuple(chosen), filled))
    return sorted(batches, key=lambda batch: -batch.seconds)


def _outcome(run: Run) -> Outcome:
    if run.summary is not None:
        return flatten(run.summary)
    assert run.error is not None
    return str(run.error) if isinstance(run.error, FastsimError) else f"{type(run.error).__name__}: {run.error}"
