"""Connecting to a Dask cluster or starting one on this machine, whose workers must run this version of fastsim."""

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastsim.errors import ClusterError
from fastsim.kernels._jit import CACHE_FOLDER
from fastsim.version import __version__

if TYPE_CHECKING:
    from distributed import Client

PATIENCE_S = 5.0  # how long a scheduler may take to answer
VERSION = __version__, CACHE_FOLDER.name  # of fastsim, and the digest of the kernels


@contextmanager
def connect(address: str) -> "Iterator[Client]":
    """Connect to the scheduler at an address (tcp://host:8786) or in a scheduler file. Raises ClusterError."""
    from distributed import Client

    with _quiet():
        try:
            client = Client(address if "://" in address else _address_in(Path(address)), timeout=PATIENCE_S)
        except (OSError, ValueError) as problem:
            raise ClusterError(
                f"--dask {address}: no scheduler answers within {PATIENCE_S:g} s ({reason(problem)}); is "
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
        compare(theirs, VERSION, worker)


def compare(theirs: tuple[str, str], ours: tuple[str, str], worker: str) -> None:
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


def reason(problem: BaseException) -> str:
    """The first line of an error, or its type."""
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


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
