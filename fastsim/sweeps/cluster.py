"""Simulating batches on a Dask cluster.

Workloads and operator times are sent to each machine once, and a worker that dies loses no configuration.
"""

import json
import logging
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ClusterError, FastsimError
from fastsim.kernels._jit import CACHE_FOLDER
from fastsim.predictors.build import Built, build_cost
from fastsim.simulation.many import tables_key
from fastsim.sweeps import handover
from fastsim.sweeps.batches import Batch, Outcome, simulate
from fastsim.sweeps.configuration import Configuration
from fastsim.version import __version__
from fastsim.workload import Workload

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE_S = 5.0  # how long a scheduler may take to answer
MOST_SENT = 3  # how many times a worker is sent the same value
LOOK_S = 1.0  # how often the number of threads of the workers is looked up
VERSION = __version__, CACHE_FOLDER.name  # of fastsim, and the digest of the kernels


@dataclass(frozen=True, slots=True)
class Task:
    """A batch as it is sent to a worker, which finds large values by their names in ``handover``."""

    version: tuple[str, str]
    # Deployment, name of the workload, and name of the operator times; None: those that come with fastsim.
    jobs: tuple[tuple[Resolved, str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Lacks:
    """The answer of a worker whose machine does not have these values."""

    names: tuple[str, ...]
    worker: str


@contextmanager
def connect(address: str) -> "Iterator[Client]":
    """Connect to the scheduler at an address (tcp://host:8786) or in a scheduler file. Raises ClusterError."""
    from distributed import Client

    with _quiet():
        try:
            client = Client(address if "://" in address else _address_in(Path(address)), timeout=PATIENCE_S)
        except (OSError, ValueError) as problem:
            raise ClusterError(
                f"--dask {address}: no scheduler answers within {PATIENCE_S:g} s ({_reason(problem)}); is "
                "`dask scheduler` running there, with the same release of dask?"
            ) from None
        try:
            yield client
        finally:
            client.close(timeout=1)


@contextmanager
def local(workers: int) -> "Iterator[Client]":
    """Start a cluster of ``workers`` processes of this machine, with one thread each."""
    from dask import config
    from distributed import Client, LocalCluster

    settings: dict[str, Any] = {"threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    # No dashboard, and any free port for the scheduler's pages: Dask warns where another cluster has the usual one.
    settings |= {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}

    def ignore_interrupts() -> None:  # a terminal sends Ctrl-C to the workers too
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    # Dask's own profiler would read the stacks of the workers a hundred times per second.
    unprofiled = config.set({"distributed.worker.profile.enabled": False})
    with unprofiled, _quiet(), LocalCluster(n_workers=workers, **settings) as cluster, Client(cluster) as client:
        client.run(ignore_interrupts)
        yield client


def check(client: "Client") -> None:
    """Raise ClusterError unless all workers run this version of fastsim."""

    def version() -> tuple[str, str]:  # is sent as code, as a worker may have no fastsim
        from importlib import import_module

        try:  # by name, as an older fastsim has no module for its version
            return import_module("fastsim").__version__, import_module("fastsim.kernels._jit").CACHE_FOLDER.name
        except ImportError as problem:
            return "", str(problem)

    for worker, theirs in client.run(version, on_error="ignore").items():
        _compare(theirs, VERSION, worker)


def compute(client: "Client", batches: Iterator[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
    """Yield batches with the outcomes of their configurations, as they finish; each configuration once.

    Dask gives up a batch whose workers died several times. Its configurations are tried once more at the end, one at
    a time, so that only the one that kills its workers fails. Raises FastsimError if the scheduler is lost.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    sender, ready = _Sender(client), as_completed(loop=client.loop)
    running: dict[Future[Any], Batch] = {}
    suspects: list[Configuration] = []
    alone = False  # whether the suspects run one at a time

    def submit(batch: Batch) -> None:
        future = client.submit(work, sender.task(batch), pure=False)
        running[future] = batch
        ready.add(future)

    try:
        while True:
            while len(running) < sender.window() and (batch := next(batches, None)) is not None:
                submit(batch)
            if not running:
                if not suspects:
                    return
                alone = True
                submit(Batch((suspects.pop(),), 0.0))
            future = next(ready)
            batch = running.pop(future)
            try:
                answer = _result(future, sender.address)
            except KilledWorker:
                if alone:
                    yield batch, ["every worker that simulated it died (out of memory?)"]
                else:
                    suspects += batch.configurations
                continue
            if isinstance(answer, Lacks):
                sender.send(answer)
                submit(batch)
            else:
                yield batch, answer
    except (CancelledError, CommClosedError):
        gone = f"{sender.address}: the scheduler is gone; run again to compute what is missing"
        raise FastsimError(gone) from None
    finally:
        sender.clean()
        with suppress(CancelledError, OSError):  # the scheduler may be gone
            if client.status == "running":
                client.cancel(list(running))
                sender.clean_workers()


def work(task: Task) -> list[Outcome] | Lacks:
    """Simulate a batch on a worker; or return what the worker lacks."""
    from distributed import get_worker

    address = get_worker().address
    _compare(VERSION, task.version, address)
    needed = dict.fromkeys(name for _, *names in task.jobs for name in names if name is not None)
    lacking, values = [], {}
    for name in needed:
        try:
            values[name] = handover.get(name)
        except FileNotFoundError:
            lacking.append(name)
    if lacking:
        return Lacks(tuple(lacking), address)
    tables = {tables_key(resolved): values[built] for resolved, _, built in task.jobs if built is not None}

    def build(resolved: Resolved) -> Built:
        sent: Built | None = tables.get(tables_key(resolved))
        return sent or build_cost(resolved)

    return simulate([(resolved, values[workload]) for resolved, workload, _ in task.jobs], threads=1, build=build)


class _Sender:
    """Sends batches to the workers of a client, with the workloads and operator times that they need."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.address: str = client.scheduler_info()["address"]
        self._names: dict[Any, str | None] = {}  # of values in ``handover``; None: it cannot be built
        self._sent: Counter[tuple[str, str]] = Counter()  # by worker and name
        self._looked, self._window = -LOOK_S, 0

    def task(self, batch: Batch) -> Task:
        """A batch as it is sent."""
        jobs = [
            (each.resolved, self._workload(each.workload), self._built(each.resolved)) for each in batch.configurations
        ]
        return Task(VERSION, tuple(jobs))

    def window(self) -> int:
        """How many batches to submit at once: enough for all threads, and for a cluster that grows with its queue."""
        if (now := time.monotonic()) - self._looked > LOOK_S:
            self._looked, self._window = now, 4 * sum(self._client.nthreads().values()) + 16
        return self._window

    def send(self, lacks: Lacks) -> None:
        """Send a worker the values that it lacks, which other workers of its machine then find too."""
        for name in lacks.names:
            self._sent[lacks.worker, name] += 1
            if self._sent[lacks.worker, name] > MOST_SENT:
                raise ClusterError(f"{lacks.worker}: cannot keep the requests of a workload; is its disk full?")
            data = handover.packed(name)
            self._client.run(handover.store, name, data, workers=[lacks.worker], on_error="ignore")

    def clean(self) -> None:
        """Remove the values that were kept on this machine for its workers."""
        handover.discard(name for name in self._names.values() if name is not None)

    def clean_workers(self) -> None:
        """Remove the values that were sent to workers of other machines."""
        if sent := [name for _, name in self._sent]:
            self._client.run(handover.discard, sent, on_error="ignore")

    def _workload(self, workload: Workload) -> str:
        key = workload.name, workload.digest
        name = self._names.get(key) or handover.put(workload)
        self._names[key] = name
        return name

    def _built(self, resolved: Resolved) -> str | None:
        """The name of operator times that only this machine may have; None for those that come with fastsim."""
        if resolved.predictor.source == "default":
            return None
        key = tables_key(resolved)
        if key not in self._names:
            try:
                self._names[key] = handover.put(build_cost(resolved))
            except FastsimError:  # the worker will find the same error, which goes into the row
                self._names[key] = None
        return self._names[key]


def _result(future: "Future[Any]", address: str) -> list[Outcome] | Lacks:
    try:
        answer: list[Outcome] | Lacks = future.result()
    except (ImportError, AttributeError) as problem:  # of a worker that joined later, without fastsim or with another
        raise ClusterError(f"{address}: a worker cannot run fastsim ({_reason(problem)})") from None
    return answer


def _address_in(file: Path) -> str:
    """The address in a scheduler file. Raises ClusterError."""
    try:
        address = json.loads(file.read_text())["address"]
        if isinstance(address, str):
            return address
    except FileNotFoundError:
        raise ClusterError(
            f"--dask {file}: neither an address nor a scheduler file (e.g. tcp://host:8786, or scheduler.json)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ClusterError(f"--dask {file}: no scheduler file; `dask scheduler --scheduler-file {file}` writes one")


def _compare(theirs: tuple[str, str], ours: tuple[str, str], worker: str) -> None:
    """Raise ClusterError unless a worker has this version of fastsim and its kernels."""
    if theirs == ours:
        return
    if not theirs[0]:
        raise ClusterError(f"worker {worker} has no fastsim ({theirs[1]}), and this is {ours[0]}; install it there")
    if theirs[0] != ours[0]:
        raise ClusterError(f"worker {worker} runs fastsim {theirs[0]}, and this is {ours[0]}; install the same on all")
    raise ClusterError(
        f"worker {worker} runs fastsim {theirs[0]} with kernels {theirs[1]}, and here they are {ours[1]}; "
        "install the same on all"
    )


def _reason(problem: BaseException) -> str:
    """The first line of an error, or its type."""
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Dask's log, which repeats in many lines what the sweep says in one."""
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    levels = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
