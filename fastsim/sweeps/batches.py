"""Batches of configurations: cut by estimated work and simulated together, with a row of figures for each."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import FastsimError
from fastsim.predictors.built import Built
from fastsim.result.metrics.definitions import flatten
from fastsim.simulation.many import Run, estimate, simulate_many, tables_key
from fastsim.simulation.run import Progress
from fastsim.sweeps.configuration import Configuration, Row, workload_name
from fastsim.workload import Workload

Outcome = dict[str, float | int | None] | str  # figures by column, or an error

# Rough times, only to balance batches, s: of an iteration or a request, and of the start and end of a simulation.
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
    """The figures or the error of each job; the arguments are those of ``simulate_many``."""
    return [_outcome(run) for run in simulate_many(jobs, threads=threads, progress=progress, build=build)]


def row(configuration: Configuration, outcome: Outcome) -> Row:
    """A row of the table of a sweep: the settings, ``digest``, ``error`` (None or a sentence) and, without an error,
    the figures of summary.json by dotted key."""
    settings = {
        name: workload_name(value) if name == "workload" else value for name, value in configuration.settings.items()
    }
    if isinstance(outcome, str):
        return {**settings, "digest": configuration.digest, "error": outcome}
    return {**settings, "digest": configuration.digest, "error": None, **outcome}


def cut(configurations: Iterable[Configuration], threads: int) -> list[Batch]:
    """Cut configurations into batches, the longest first.

    Configurations that share operator times and workload stay together, so that a thread reads these only once.
    """
    groups: dict[Any, list[tuple[Configuration, float]]] = {}
    for configuration in configurations:
        seconds = STEP_S * estimate(configuration.resolved, configuration.workload) + RUN_S
        key = tables_key(configuration.resolved), configuration.workload.digest
        groups.setdefault(key, []).append((configuration, seconds))
    total = sum(seconds for members in groups.values() for _, seconds in members)
    most = min(MOST_S, max(LEAST_S, total / (8 * threads)))
    batches: list[Batch] = []
    chosen: list[Configuration] = []
    filled = 0.0
    for members in groups.values():
        for configuration, seconds in members:
            if chosen and (filled + seconds > most or len(chosen) == MOST):
                batches.append(Batch(tuple(chosen), filled))
                chosen, filled = [], 0.0
            chosen.append(configuration)
            filled += seconds
    if chosen:
        batches.append(Batch(tuple(chosen), filled))
    return sorted(batches, key=lambda batch: -batch.seconds)


def _outcome(run: Run) -> Outcome:
    if run.summary is not None:
        return flatten(run.summary)
    assert run.error is not None
    return str(run.error) if isinstance(run.error, FastsimError) else f"{type(run.error).__name__}: {run.error}"
