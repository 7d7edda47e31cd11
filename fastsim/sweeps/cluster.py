"""Connecting to a Dask cluster or starting one on this machine, whose workers must run what this process runs.

The processes of a cluster unpickle what they send to each other, which can run any code. This process therefore trusts
the scheduler that it connects to, and everything that can connect to that scheduler.
"""

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastsim.errors import ClusterError, FastsimError, first_line
from fastsim.files.children import without_interrupts
from fastsim.kernels._folder import CACHE_FOLDER
from fastsim.version import __version__

if TYPE_CHECKING:
    from distributed import Client

PATIENCE_S = 5.0  # how long a scheduler may take to answer


def _release(version: str) -> str:
    """The first two numbers of a version: 2.4.6 is 2.4."""
    return ".".join(version.split(".")[:2])


# What the figures of a row may depend on beside its configuration. Kernels: the digest of their sources.
VERSIONS = {
    "fastsim": __version__,
    "kernels": CACHE_FOLDER.name,
    "Python": f"{sys.version_info.major}.{sys.version_info.minor}",
    "NumPy": _release(np.__version__),
    "Numba": _release(version("numba")),
}


@contextmanager
def connect(address: str) -> "Iterator[Client]":
    """Connect to the scheduler at an address (tcp://host:8786, tls://host:8786) or in a scheduler file.

    Certificates and keys are those of Dask's configuration. Raises ClusterError.
    """
    from distributed import Client

    found = address if "://" in address else _address_in(Path(address))
    with _quiet():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a table of other versions; ``check`` names one in a sentence
                client = Client(found, timeout=PATIENCE_S)
        except (OSError, ValueError, TypeError, RuntimeError) as problem:  # the last two: by the settings of TLS
            raise ClusterError(f"--dask {address}: {_hint(found, problem)}") from None
        try:
            with explained(client):
                yield client
        finally:
            client.close(timeout=1)


@contextmanager
def explained(client: "Client") -> Iterator[None]:
    """Raise FastsimError in place of what Dask raises in this block when the scheduler is lost."""
    from distributed import CancelledError
    from distributed.client import ClosedClientError
    from distributed.comm.core import CommClosedError

    address = address_of(client)
    try:
        yield
    except (CancelledError, ClosedClientError, OSError) as problem:
        of_files = isinstance(problem, OSError) and not isinstance(problem, CommClosedError | TimeoutError)
        if of_files and not str(problem).startswith("Timed out trying to connect"):
            raise
        raise FastsimError(f"{address}: the scheduler is gone; run again to compute what is missing") from None


def address_of(client: "Client") -> str:
    """The address of the scheduler that a client is connected to."""
    assert client.scheduler is not None
    return str(client.scheduler.address)


@contextmanager
def local(workers: int) -> "Iterator[Client]":
    """Start a cluster of ``workers`` processes of this machine, with one thread each.

    Other users of the machine can reach its ports, so it only accepts processes that have a certificate made for this
    run.
    """
    from dask import config
    from distributed import Client, LocalCluster, Security

    settings: dict[str, Any] = {"threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    # No dashboard, and any free port for the scheduler's pages: Dask warns where another cluster has the usual one.
    settings |= {"dashboard_address": ":0", "scheduler_kwargs": {"dashboard": False}}
    settings |= {"protocol": "tls", "security": Security.temporary()}

    # Dask's own profiler would read the stacks of the workers a hundred times per second.
    unprofiled = config.set({"distributed.worker.profile.enabled": False})
    with unprofiled, _quiet(), ExitStack() as stack:
        try:
            with without_interrupts():
                cluster = LocalCluster(n_workers=workers, **settings)
            client = stack.enter_context(Client(stack.enter_context(cluster)))
        except (RuntimeError, OSError) as problem:
            raise FastsimError(
                f"one of {workers} workers ended while it started ({first_line(problem)}); is there enough memory?"
            ) from None
        yield client


def check(client: "Client") -> None:
    """Raise ClusterError unless all workers have the versions of this process."""

    def versions() -> dict[str, str]:  # is sent as code, as a worker may have no fastsim
        from importlib import import_module

        try:  # by name, as an older fastsim has no module for its version
            found = {"fastsim": import_module("fastsim").__version__}
            try:
                found["kernels"] = import_module("fastsim.kernels._folder").CACHE_FOLDER.name
            except ImportError:
                found["kernels"] = "of another version"
            for package in ("NumPy", "Numba"):
                found[package] = ".".join(import_module(package.lower()).__version__.split(".")[:2])
            return found
        except Exception as problem:  # of whatever has this name there
            return {"fastsim": "", "reason": str(problem)}

    # Code can only be sent to the same Python, so Dask's own protocol asks for that first.
    asked: Any = client.get_versions()
    there = {f"worker {address}": answer for address, answer in asked["workers"].items()}
    there |= {f"scheduler {client.scheduler_info()['address']}": asked["scheduler"]}
    for process, answer in there.items():
        compare(_base(answer), _base(asked["client"]), process)
    for address, found in client.run(versions, on_error="ignore").items():
        compare(found, VERSIONS, f"worker {address}")


def compare(theirs: Mapping[str, str], ours: Mapping[str, str], process: str) -> None:
    """Raise ClusterError unless a process of the cluster has the same versions, of those that it tells."""
    if theirs.get("fastsim") == "":
        raise ClusterError(
            f"{process} has no fastsim ({theirs['reason']}), and this is {ours['fastsim']}; install it there"
        )
    for name, there in theirs.items():
        if there == ours[name]:
            continue
        if name == "kernels":
            raise ClusterError(
                f"{process} runs fastsim {theirs['fastsim']} with kernels {there}, and here they are "
                f"{ours[name]}; install the same on all"
            )
        raise ClusterError(f"{process} runs {name} {there}, and this is {ours[name]}; install the same on all")


def _base(answer: Mapping[str, Any]) -> dict[str, str]:
    """The releases of Python and Dask, in the answer of a process to Dask's question about its versions."""
    return {name: _release(str(answer["packages"][name.lower()])) for name in ("Python", "Dask")}


def _hint(address: str, problem: BaseException) -> str:
    """Why a scheduler cannot be used, and what to do about it."""
    if isinstance(problem, RuntimeError):  # Dask's configuration requires encryption
        return f"{first_line(problem)}; start the scheduler with `--protocol tls`, and name its tls:// address"
    if address.startswith("tls://"):
        said = "Dask's configuration names no certificates" if isinstance(problem, TypeError) else first_line(problem)
        return (
            f"no scheduler answers over TLS within {PATIENCE_S:g} s ({said}); is `dask scheduler --protocol tls` "
            "running there, and does distributed.comm.tls of Dask's configuration name ca-file, client.cert and "
            "client.key?"
        )
    return (
        f"no scheduler answers within {PATIENCE_S:g} s ({first_line(problem)}); is `dask scheduler` running there, "
        "with the same release of dask, and without TLS?"
    )


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
