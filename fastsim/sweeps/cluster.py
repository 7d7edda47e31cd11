"""Batches on a Dask cluster: workers get what they lack once, and those that die take nothing with them."""

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

PATIENCE_S = 5.0  # for a scheduler to answer
MOST_SENT = 3  # times that a worker gets the same
LOOK_S = 1.0  # between two looks at how many threads the workers have
VERSION = __version__, CACHE_FOLDER.name  # and the digest of the kernels


@dataclass(frozen=True, slots=True)
class Task:
    """A batch as it travels: large values by their names in shared.py."""

    version: tuple[str, str]
    jobs: tuple[tuple[Resolved, str, str | None], ...]  # deployment, workload, tables that are no worker's to build


@dataclass(frozen=True, slots=True)
class Lacks:
    """What a worker says that lacks values."""

    names: tuple[str, ...]
    worker: str


@contextmanager
def connect(address: str) -> "Iterator[Client]":
    """A client of the scheduler at an address (tcp://host:8786) or in a scheduler file. Raises ClusterError."""
    from distributed import Client

    with _quiet():
        try:
            client = Client(address if "://" in address else _written(Path(address)), timeout=PATIENCE_S)
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
    """A client of a cluster of ``workers`` processes of this machine, one thread each."""
    from dask import config
    from distributed import Client, LocalCluster

    settings: dict[str, Any] = {"threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    # No dashboard, and any free port for the scheduler's pages: Dask warns where another cluster has the usual one.
    settings |= {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}

    def deafen() -> None:  # Ctrl-C reaches the workers too, and is not for them
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    # Dask's own profiler looks at the stacks of workers a hundred times per second.
    unprofiled = config.set({"distributed.worker.profile.enabled": False})
    with unprofiled, _quiet(), LocalCluster(n_workers=workers, **settings) as cluster, Client(cluster) as client:
        client.run(deafen)
        yield client


def check(client: "Client") -> None:
    """Raise ClusterError unless all workers run this version of fastsim."""

    def version() -> tuple[str, str]:  # travels as code: a worker may have no fastsim
        from importlib import import_module

        try:  # by name: an older fastsim has its version in its face only
            return import_module("fastsim").__version__, import_module("fastsim.kernels._jit").CACHE_FOLDER.name
        except ImportError as problem:
            return "", str(problem)

    for worker, found in client.run(version, on_error="ignore").items():
        _compare(found, VERSION, worker)


def compute(client: "Client", batches: Iterator[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
    """Batches with the outcomes of their configurations, as they get ready; each configuration once.

    Those whose workers died again and again are tried once more one by one at the end, so that only what is to blame
    fails. Raises FastsimError when the scheduler is gone.
    """
    from distributed import CancelledError, KilledWorker, as_completed
    from distributed.comm.core import CommClosedError

    sender, ready = _Sender(client), as_completed(loop=client.loop)
    running: dict[Future[Any], Batch] = {}
    suspects: list[Configuration] = []
    alone = False  # whether nobody but the suspect that runs can be to blame

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
                found = _result(future, sender.address)
            except KilledWorker:
                if alone:
                    yield batch, ["every worker that simulated it died (out of memory?)"]
                else:
                    suspects += batch.configurations
                continue
            if isinstance(found, Lacks):
                sender.send(found)
                submit(batch)
            else:
                yield batch, found
    except (CancelledError, CommClosedError):
        gone = f"{sender.address}: the scheduler is gone; run again to compute what is missing"
        raise FastsimError(gone) from None
    finally:
        sender.clean()
        with suppress(CancelledError, OSError):  # there is nothing to tidy up where nobody answers
            if client.status == "running":
                client.cancel(list(running))
                sender.clean_workers()


def work(task: Task) -> list[Outcome] | Lacks:
    """What a worker does with a batch."""
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
        found: Built | None = tables.get(tables_key(resolved))
        return found or build_cost(resolved)

    return simulate([(resolved, values[stream]) for resolved, stream, _ in task.jobs], threads=1, build=build)


class _Sender:
    """What the workers of a client need, and how much of it at once."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self.address: str = client.scheduler_info()["address"]
        self._names: dict[Any, str | None] = {}  # of values in shared.py
        self._sent: Counter[tuple[str, str]] = Counter()
        self._looked, self._window = -LOOK_S, 0

    def task(self, batch: Batch) -> Task:
        """A batch as it travels."""
        jobs = [(one.resolved, self._stream(one.workload), self._built(one.resolved)) for one in batch.configurations]
        return Task(VERSION, tuple(jobs))

    def window(self) -> int:
        """Batches under way at once: enough for all threads, and for a cluster that grows with its queue."""
        if (now := time.monotonic()) - self._looked > LOOK_S:
            self._looked, self._window = now, 4 * sum(self._client.nthreads().values()) + 16
        return self._window

    def send(self, lacks: Lacks) -> None:
        """Give a worker, and the others of its machine, what it lacks."""
        for name in lacks.names:
            self._sent[lacks.worker, name] += 1
            if self._sent[lacks.worker, name] > MOST_SENT:
                raise ClusterError(f"{lacks.worker}: cannot keep the requests of a workload; is its disk full?")
            data = handover.packed(name)
            self._client.run(handover.store, name, data, workers=[lacks.worker], on_error="ignore")

    def clean(self) -> None:
        """Remove what was kept for the workers on this machine."""
        handover.discard(name for name in self._names.values() if name is not None)

    def clean_workers(self) -> None:
        """Remove what they were sent."""
        if sent := [name for _, name in self._sent]:
            self._client.run(handover.discard, sent, on_error="ignore")

    def _stream(self, workload: Workload) -> str:
        key = workload.name, workload.digest
        name = self._names.get(key) or handover.put(workload)
        self._names[key] = name
        return name

    def _built(self, resolved: Resolved) -> str | None:
        """Tables of operator times that only this machine may have. The shipped forests are everywhere."""
        if resolved.predictor.source == "default":
            return None
        key = tables_key(resolved)
        if key not in self._names:
            try:
                self._names[key] = handover.put(build_cost(resolved))
            except FastsimError:  # the worker will say the same, in the row of the configuration
                self._names[key] = None
        return self._names[key]


def _result(future: "Future[Any]", address: str) -> list[Outcome] | Lacks:
    try:
        found: list[Outcome] | Lacks = future.result()
    except (ImportError, AttributeError) as problem:  # a worker that came later, and has no fastsim or an older one
        raise ClusterError(f"{address}: a worker cannot run fastsim ({_reason(problem)})") from None
    return found


def _written(file: Path) -> str:
    """The address in a scheduler file."""
    try:
        found = json.loads(file.read_text())["address"]
        if isinstance(found, str):
            return found
    except FileNotFoundError:
        raise ClusterError(
            f"--dask {file}: neither an address nor a scheduler file (e.g. tcp://host:8786, or scheduler.json)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ClusterError(f"--dask {file}: no scheduler file; `dask scheduler --scheduler-file {file}` writes one")


def _compare(found: tuple[str, str], wanted: tuple[str, str], worker: str) -> None:
    if found == wanted:
        return
    if not found[0]:
        raise ClusterError(f"worker {worker} has no fastsim ({found[1]}), and this is {wanted[0]}; install it there")
    if found[0] != wanted[0]:
        raise ClusterError(f"worker {worker} runs fastsim {found[0]}, and this is {wanted[0]}; install the same on all")
    raise ClusterError(
        f"worker {worker} runs fastsim {found[0]} with kernels {found[1]}, and here they are {wanted[1]}; "
        "install the same on all"
    )


def _reason(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Dask's log says in many lines what the sweep says in one."""
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    levels = [(logger := logging.getLogger(name), logger.level) for name in names]
    for logger, _ in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)
