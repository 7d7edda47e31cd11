"""Simulating every configuration of a space, on threads of this process or on a Dask cluster."""

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
    """What a sweep has done.

    Attributes
    ----------
    folder : Path
        The folder that holds the table.
    configurations : int
        Rows of the table.
    computed : int
        How many of them this call has simulated; the others were in the folder before.
    failed : int
        How many of them have an error in place of figures.
    dropped : dict of str to Dropped
        Combinations that are not in the table, by reason: how many, and an example.
    seconds : float
        Time that the call took, s.
    notes : tuple of str
        What was left out of the workloads, or changed, one sentence each.
    """

    folder: Path
    configurations: int
    computed: int
    failed: int
    dropped: dict[str, Dropped]
    seconds: float
    notes: tuple[str, ...] = ()


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
    """Simulate every configuration of a space into a table of Parquet files.

    The rows are the same, to the bit, on any number of threads, processes or machines; their order is not. The folder
    is a valid table at any moment, and the same call resumes a sweep that was interrupted.

    Parameters
    ----------
    space : str, Path, mapping or Space
        A YAML, TOML or JSON file that describes the space, or its content: ``deployment``, ``workload``, ``axes``
        (every combination of their values), ``zip`` (fields that change together) and ``where`` (conditions).
    out : str or Path
        The folder for the table. Configurations that it has already are not simulated again.
    client : distributed.Client, optional
        The client of a Dask cluster whose workers simulate. By default threads of this process do.
    workers : int, optional
        How many processes of this machine simulate instead of threads.
    threads : int, optional
        Threads of this process. By default one per core.
    yes : bool
        Whether the space may have more than 100,000 combinations. By default False.
    progress : callable, optional
        A function that is called with the number of configurations that are done, and of all.

    Returns
    -------
    Sweep
        How many configurations the table has, and which combinations were left out.

    Raises
    ------
    errors.ConfigError
        When the space is not valid, or no configuration is left of it. A configuration that cannot be simulated is no
        error: its row says why.
    errors.OutputError
        When the folder cannot be written, holds something else, or is being written by another process.
    errors.ClusterError
        When the cluster cannot be used.
    errors.FastsimError
        When the scheduler of the cluster is lost; the same call then resumes the sweep.

    Examples
    --------
    >>> axes = {"scheduler.policy": ["vllm", "sarathi"], "num_replicas": [1, 2]}
    >>> workload = {"source": "chat", "rate": 20, "num_requests": 200}
    >>> done = fastsim.sweep({"workload": workload, "axes": axes, "where": "num_gpus > 1"}, "out")
    >>> done.configurations, {reason: each.count for reason, each in done.dropped.items()}
    (2, {'where num_gpus > 1': 2})
    >>> import pyarrow.parquet
    >>> sorted(pyarrow.parquet.read_table("out")["scheduler.policy"].to_pylist())
    ['sarathi', 'vllm']
    """
    began = time.monotonic()
    space = Space.load(space, yes=yes)
    if client is not None and workers is not None:
        raise ConfigError("workers: a client brings its own; give one of client and workers")
    columns = {name: pa.string() if name == "workload" else column_type(space.values(name)) for name in space.names}
    about = {"digest": space.digest, "space": space.source, "varied": space.names, "combinations": space.size}
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
            dataset.add(row(*pair) for pair in zip(batch.configurations, outcomes, strict=True))
            if progress:
                progress(dataset.rows, space.size - sum(each.count for each in space.dropped.values()))
        dropped = {reason: {"count": each.count, "example": each.example} for reason, each in space.dropped.items()}
        dataset.finish(configurations=dataset.rows, failed=dataset.failed, dropped=dropped)
        seconds = time.monotonic() - began
        counts = dataset.rows, dataset.rows - before, dataset.failed
        return Sweep(dataset.folder, *counts, dict(space.dropped), seconds, tuple(space.base.notes))


def here(batches: Iterator[Batch], threads: int) -> Generator[tuple[Batch, list[Outcome]], None, None]:
    """Simulate batches on threads of this process, and yield each with the outcomes of its configurations.

    Closing the generator stops the simulations.
    """
    stop = threading.Event()

    def check(share: float) -> None:
        if stop.is_set():
            raise InterruptedError

    def run(batch: Batch) -> list[Outcome]:
        jobs = [(configuration.resolved, configuration.workload) for configuration in batch.configurations]
        return simulate(jobs, threads=1, progress=check)

    running: dict[Future[list[Outcome]], Batch] = {}
    pool = ThreadPoolExecutor(threads)
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
        # Threads end by themselves, so that rows are written at once even while one of them compiles a kernel.
        pool.shutdown(wait=False, cancel_futures=True)


def _on_cluster(
    space: Space, dataset: Dataset, client: "Client | None", workers: int | None
) -> Iterator[tuple[Batch, list[Outcome]]]:
    from fastsim.sweeps import cluster, remote

    with nullcontext(client) if client is not None else cluster.local(workers or 1) as used, cluster.explained(used):
        cluster.check(used)
        batches = _batches(space, dataset.done, max(1, sum(used.nthreads().values())))
        try:
            yield from remote.compute(used, _warmed(batches) if workers else batches)
        except KeyboardInterrupt:
            dataset.write()  # the process may be ended before the cluster is closed
            raise


def _batches(space: Space, done: Iterable[str], threads: int) -> Iterator[Batch]:
    """The configurations whose digest is not in ``done``, in batches; the longest batch of a block comes first."""
    known = frozenset(done)
    missing = (configuration for configuration in space.configurations() if configuration.digest not in known)
    while block := list(islice(missing, BLOCK)):
        yield from cut(block, threads)


def _warmed(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Compile the kernels of each batch before it is yielded, as every worker would otherwise compile its own."""
    from fastsim.simulation.warm import compile_kernel

    ready: set[str] = set()
    for batch in batches:
        policies = {configuration.resolved.scheduler.policy.name for configuration in batch.configurations}
        for policy in sorted(policies - ready):
            if not is_function(policy):
                compile_kernel(policy)
        ready |= policies
        yield batch
