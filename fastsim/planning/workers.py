"""Evaluating candidates on threads of this process, or on the workers of a Dask cluster."""

import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING, Any

from fastsim.errors import ClusterError
from fastsim.planning.rungs import Outcome, evaluate
from fastsim.simulation.arena import Arena

if TYPE_CHECKING:
    from distributed import Client


class Evaluators:
    """Threads of this process or workers of a Dask cluster; each takes the next candidate as soon as it is free."""

    def __init__(self, threads: int | None, client: "Client | None") -> None:
        """``threads``: one per core by default; not used with a ``client``.

        Raises ClusterError if a worker of the cluster runs another version of fastsim.
        """
        if client is not None:
            from fastsim.sweeps.cluster import check, explained

            with explained(client):
                check(client)
        self._threads, self._client = threads or os.cpu_count() or 1, client
        self._local = threading.local()

    def each(self, tasks: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Outcome]]:
        """Yield outcomes by the keys of ``tasks``, whose values are arguments of ``rungs.evaluate``, as they finish."""
        if self._client is not None:
            yield from self._on_cluster(tasks)
            return
        with ThreadPoolExecutor(self._threads) as pool:
            pending = {pool.submit(self._evaluate, arguments): key for key, arguments in tasks.items()}
            try:
                for future in as_completed(pending):
                    yield pending[future], future.result()
            finally:
                for future in pending:
                    future.cancel()

    def _evaluate(self, arguments: dict[str, Any]) -> Outcome:
        if not hasattr(self._local, "arena"):
            self._local.arena = Arena()
        return evaluate(**arguments, arena=self._local.arena)

    def _on_cluster(self, tasks: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Outcome]]:
        from distributed import KilledWorker
        from distributed import as_completed as as_finished

        from fastsim.sweeps.cluster import VERSIONS, address_of, explained
        from fastsim.sweeps.remote import result_of

        assert self._client is not None
        client, address = self._client, address_of(self._client)
        with explained(client):
            pending = {
                client.submit(_evaluate_there, VERSIONS, arguments, pure=False): key for key, arguments in tasks.items()
            }
            try:
                for future in as_finished(pending):
                    yield pending.pop(future), result_of(future, address)
            except KilledWorker:
                raise ClusterError(
                    "the workers of the cluster die while they simulate; give them more memory"
                ) from None


def _evaluate_there(versions: dict[str, str], arguments: dict[str, Any]) -> Outcome:
    from distributed import get_worker

    from fastsim.sweeps.cluster import VERSIONS, compare

    compare(VERSIONS, versions, f"worker {get_worker().address}")  # it may have joined after the check
    return evaluate(**arguments)
