"""Simulating batches on the workers of a Dask cluster.

Workloads and operator times are sent to each machine once, and a worker that dies loses no configuration.
"""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastsim.deployment.resolved import Resolved
from fastsim.errors import ClusterError, FastsimError, first_line
from fastsim.predictors.build import build_cost
from fastsim.predictors.built import Built
from fastsim.simulation.many import tables_key
from fastsim.sweeps import handover
from fastsim.sweeps.batches import Batch, Outcome, simulate
from fastsim.sweeps.cluster import VERSIONS, address_of, compare
from fastsim.sweeps.configuration import Configuration
from fastsim.workload import Workload

if TYPE_CHECKING:
    from distributed import Client, Future

MOST_SENT = 3  # how many times a worker is sent the same value
LOOK_S = 1.0  # how often the number of threads of the workers is looked up


@dataclass(frozen=True, slots=True)
class Task:
    """A batch as it is sent to a worker, which finds large values by their names in ``handover``."""

    versions: dict[str, str]  # of the client
    # Deployment, name of the workload, and name of the operator times; None: those that come with fastsim.
    jobs: tuple[tuple[Resolved, str, str | None], ...]


@dataclass(frozen=True, slots=True)
class Lacks:
    """The answer of a worker whose machine does not have these values."""

    names: tuple[str, ...]
    worker: str


def compute(client: "Client", batches: Iterator[Batch]) -> Iterator[tuple[Batch, list[Outcome]]]:
    """Yield batches with the outcomes of their configurations, as they finish; each configuration once.

    Dask gives up a batch whose workers died several times. Its configurations are tried once more at the end, one at
    a time, so that only the one that kills its workers fails. Raises FastsimError if the scheduler is lost.
    """
    from distributed import CancelledError, KilledWorker, as_completed

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
                answer = result_of(future, sender.address)
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
    compare(VERSIONS, task.versions, f"worker {address}")
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
        self.address = address_of(client)
        self._names: dict[Any, str | None] = {}  # of values in ``handover``; None: it cannot be built
        self._sent: Counter[tuple[str, str]] = Counter()  # by worker and name
        self._looked, self._window = -LOOK_S, 0

    def task(self, batch: Batch) -> Task:
        """A batch as it is sent."""
        jobs = [
            (each.resolved, self._workload(each.workload), self._built(each.resolved)) for each in batch.configurations
        ]
        return Task(VERSIONS, tuple(jobs))

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


def result_of(future: "Future[Any]", address: str) -> Any:
    """What a worker returned. Raises ClusterError if it cannot run this version of fastsim."""
    try:
        return future.result()
    except (ImportError, AttributeError) as problem:  # of a worker that joined later, without fastsim or with another
        raise ClusterError(f"{address}: a worker cannot run fastsim ({first_line(problem)})") from None
