"""Sweeps: every configuration of a space simulated, on the threads of this process or on a Dask cluster."""

import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fastsim.deployment.schedulers import is_function
from fastsim.errors import ConfigError
from fastsim.sweeps.batches import Batch, Outcome, cut, row, simulate
from fastsim.sweeps.space import Dropped, Space
from fastsim.sweeps.store import Dataset, column_type

if TYPE_CHECKING:
    from distributed import Client

BLOCK = 2000  # configurations that are sorted into batches at once
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Sweep:
    """What a sweep came to."""

    folder: Path
    configurations: int  # in the table
    computed: int  # of these, this time
    failed: int  # of these, rows with an error
    dropped: dict[str, Dropped]
    seconds: float


def sweep(
    space: Space | str | Path | Mapping[str, Any],
    out: str | Path,
    client: "Client | None" = None,
    *,
    workers: int | None = None,
    threads: int | None = None,
    yes: bool = False,
    progress: Progress | None = None,
) -> Sweep:
    """Simulate every configuration of ``space`` into the Parquet files of the folder ``out``.

    On ``threads`` of this process (as many as cores), on ``workers`` processes of this machine, or on the cluster of
    ``client``, any distributed.Client: the same rows to the bit, in any order. What the folder has already is not
    computed again. A configuration that fails is a row with its error. ``yes``: also more than 100,000 combinations.
    ``progress`` is called with configurations done and in all.

    Raises ConfigError for the space, OutputError for the folder, ClusterError for a cluster that cannot be used, and
    FastsimError when its scheduler is lost; the folder is valid then too, and the same call goes on where it ended.
    """
    began = time.monotonic()
    space = Space.load(space, yes=yes)
    if client is not None and workers is not None:
        raise ConfigError("workers: a client brings its own; give one of client and workers")
    columns = {name: pa.string() if name == "workload" else column_type(space.values(name)) for name in space.names}
    about = {"digest": space.digest, "space": space.place, "varied": space.names, "combinations": space.size}
    with Dataset(Path(out), columns, about) as dataset:
        before = dataset.rows
        if client is not None or workers is not None:
            results = _on_cluster(space, dataset, client, workers)
        else:
            number = threads or os.cpu_count() or 1
            results = here(_batches(space, dataset.done, number), number)
        if progress:
            progress(dataset.rows, space.size)
        for batch, outcomes in results:
            dataset.add(row(*one) for one in zip(batch.configurations, outcomes, strict=True))
            if progress:
                progress(dataset.rows, space.size - sum(one.count for one in space.dropped.values()))
        dropped = {reason: {"count": one.count, "example": one.example} for reason, one in space.dropped.items()}
        dataset.finish(configurations=dataset.rows, failed=dataset.failed, dropped=dropped)
        seconds = time.monotonic() - began
        return Sweep(dataset.folder, dataset.rows, dataset.rows - before, dataset.failed, dict(space.dropped), seconds)


def here(batches: Iterator[Batch], threads: int) -> Generator[tuple[Batch, list[Outcome]], None, None]:
    """Batches with the outcomes of their configurations, simulated by threads of this process."""
    stop = threading.Event()

    def look(share: float) -> None:
        if stop.is_set():
            raise InterruptedError

    def run(batch: Batch) -> list[Outcome]:
        return simulate([(one.resolved, one.workload) for one in batch.configurations], threads=1, progress=look)

    running: dict[Future[list[Outcome]], Batch] = {}
    with ThreadPoolExecutor(threads) as pool:
        try:
            while True:
                while len(running) <= threads and (batch := next(batches, None)) is not None:
                    running[pool.submit(run, batch)] = batch
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def _on_cluster(
    space: Space, dataset: Dataset, client: "Client | None", workers: int | None
) -> Iterator[tuple[Batch, list[Outcome]]]:
    from fastsim.sweeps import cluster

    with nullcontext(client) if client is not None else cluster.local(workers or 1) as used:
        cluster.check(used)
        batches = _batches(space, dataset.done, max(1, sum(used.nthreads().values())))
        yield from cluster.compute(used, _warmed(batches) if workers else batches)


def _batches(space: Space, done: Iterable[str], threads: int) -> Iterator[Batch]:
    """What is not done yet, in batches, the largest of a block first."""
    known = frozenset(done)
    left = (one for one in space.configurations() if one.digest not in known)
    while block := list(islice(left, BLOCK)):
        yield from cut(block, threads)


def _warmed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches whose kernels are compiled: else every worker of this machine would compile them for itself."""
    from fastsim.simulation.warm import compile_kernel

    ready: set[str] = set()
    for batch in batches:
        policies = {one.resolved.scheduler.policy.name for one in batch.configurations}
        for policy in sorted(policies - ready):
            if not is_function(policy):
                compile_kernel(policy)
        ready |= policies
        yield batch
