"""The processes of disturbed sweeps, clients and Dask's schedulers and workers, and the faults that they suffer."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 120.0  # for a process to start or to end
PAUSE_S, FULL_S = 2.0, 1.5  # how long a worker is stopped, and the disk is full
MOST_DEATHS = 3  # of workers in one attempt: Dask gives up a batch after four
MODES = {"threads": (), "workers": ("--workers", "2"), "dask": ("--dask", "scheduler.json")}
FAULTS = ("kill client", "end client", "interrupt client", "kill worker", "pause worker", "kill scheduler", "fill disk",
          "second client")  # fmt: skip
SIGNALS = {"kill client": signal.SIGKILL, "end client": signal.SIGTERM, "interrupt client": signal.SIGINT}
# Exit codes that the faults explain: the sweep is complete; the scheduler is gone; the disk is full, or another sweep
# is writing; SIGINT and SIGTERM, handled or not; SIGKILL.
ENDS = (0, 1, 2, 130, 143, -signal.SIGINT, -signal.SIGTERM, -signal.SIGKILL)
FAULTY = ("Traceback", "a fault of fastsim", "not enough")  # what no client may say
SLOW = """
import os, random, time

def slow(call):
    def wait(*given, **named):
        time.sleep(random.random())
        return call(*given, **named)
    return wait

os.fsync, os.replace = slow(os.fsync), slow(os.replace)
"""


class Lost(Exception):
    """A sweep has lost, doubled or changed rows, or one of its processes ended as it must not."""


@dataclass
class Victims:
    """The processes of one attempt to complete a sweep."""

    folder: Path  # of space.json, logs and the file of the scheduler
    disk: Path  # holds the table ``out`` and the folder ``cache`` of values for workers
    mode: str
    slow: bool  # whether flushes and renames take up to a second
    random: random.Random
    suffered: Counter[str] = field(default_factory=Counter)
    processes: list[tuple[str, subprocess.Popen[bytes], Path]] = field(default_factory=list)  # kind, process, log

    def begin(self) -> None:
        """Start the cluster, if any, and the first client."""
        if self.mode == "dask":
            file = self.folder / "scheduler.json"
            file.unlink(missing_ok=True)
            given = ("--no-dashboard", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
            self._start("scheduler", "distributed.cli.dask_scheduler", *given)
            until(file.exists)
            self._worker()
            self._worker()
        self._client()

    def suffer(self, fault: str) -> None:
        """Do one thing to a process or to the disk, if this attempt has what it is done to."""
        if fault in SIGNALS:
            if client := self._one("client"):
                client.send_signal(SIGNALS[fault])
                self.suffered[fault] += 1
        elif fault == "kill scheduler":
            if scheduler := self._one("scheduler"):
                scheduler.kill()
                self.suffered[fault] += 1
        elif fault in ("kill worker", "pause worker"):
            self._hit_worker(fault)
        elif fault == "second client":
            self._client()
            self.suffered[fault] += 1
        elif self.disk != self.folder:
            fill(self.disk, FULL_S)
            self.suffered[fault] += 1

    def end(self) -> Counter[str]:
        """Wait for the clients, kill the cluster, and return how the clients ended.

        Raises Lost if a client hangs, prints a traceback or ends as no fault explains, or if a process is left.
        """
        ends: Counter[str] = Counter()
        for kind, process, log in self.processes:
            if kind == "client":
                until(lambda process=process: process.poll() is not None)  # type: ignore[misc]
                said = log.read_text(errors="replace")
                early = said.endswith("\nKeyboardInterrupt\n")  # while Python starts, and this package does not run
                if process.returncode not in ENDS or (any(word in said for word in FAULTY) and not early):
                    raise Lost(f"a client ended with {process.returncode} after {self}; it said: {said}")
                ends[_brief(process.returncode, said)] += 1
        for kind, process, _ in self.processes:
            if kind != "client":
                process.kill()
                process.wait()
        until(lambda: not any(_alive(process) for _, process, _ in self.processes))
        return ends

    def stop(self) -> None:
        """Kill every process."""
        for _, process, _ in self.processes:
            for each in _alive(process):
                with suppress(psutil.Error):
                    each.kill()
            process.wait()

    @property
    def working(self) -> bool:
        """Whether a client is running."""
        return self._one("client") is not None

    def _start(self, kind: str, module: str, *given: str) -> None:
        path = f"{self.folder / 'slow'}:{ROOT}" if self.slow else str(ROOT)
        variables = {**os.environ, "PYTHONPATH": path, "FASTSIM_CACHE_DIR": str(self.disk / "cache")}
        log = self.folder / f"{kind}-{len(self.processes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *given],
                env=variables,
                stdout=file,
                stderr=file,
                cwd=self.folder,
                start_new_session=True,
            )
        self.processes.append((kind, process, log))

    def _client(self) -> None:
        self._start("client", "fastsim", "sweep", "space.json", "--out", str(self.disk / "out"), *MODES[self.mode])

    def _worker(self) -> None:
        nanny = self.random.choice(("--nanny", "--no-nanny"))  # a nanny starts another worker when its own dies
        given = ("--no-dashboard", "--host", "127.0.0.1", "--nthreads", "1", nanny)
        self._start("worker", "distributed.cli.dask_worker", *given, "--scheduler-file", "scheduler.json")

    def _one(self, kind: str) -> subprocess.Popen[bytes] | None:
        """A running process of a kind, drawn at random."""
        running = [process for each, process, _ in self.processes if each == kind and process.poll() is None]
        return self.random.choice(running) if running else None

    def _hit_worker(self, fault: str) -> None:
        session = self._one("worker" if self.mode == "dask" else "client")
        if session is None or self.mode == "threads":
            return
        if fault == "kill worker" and self.suffered[fault] == MOST_DEATHS:
            return
        alive = _alive(session)
        children = [each for each in alive if each.pid != session.pid and "resource_tracker" not in _command(each)]
        # A worker with a nanny is a child of it, as the workers of --workers are children of the client.
        found = children or (alive if self.mode == "dask" else [])
        if not found:
            return
        worker = self.random.choice(found)
        with suppress(psutil.NoSuchProcess):
            if fault == "kill worker":
                worker.kill()
                if self.mode == "dask" and not children:
                    self._worker()
            else:
                worker.suspend()
                time.sleep(PAUSE_S)
                worker.resume()
            self.suffered[fault] += 1


def fill(disk: Path, seconds: float) -> None:
    """Leave no space on a disk for some seconds."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
        time.sleep(seconds)
    path.unlink()


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds. Raises Lost if that takes too long."""
    limit = time.monotonic() + WAIT_S
    while not holds():
        if time.monotonic() > limit:
            raise Lost(f"a process hangs for {WAIT_S:g} s")
        time.sleep(0.05)


def _alive(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes of the session that a process leads, without those that have ended."""
    found = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(each.pid) == process.pid and each.status() != psutil.STATUS_ZOMBIE:
                found.append(each)
    return found


def _command(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def _brief(code: int, said: str) -> str:
    """How a client ended: its exit code, and what it said without paths and numbers."""
    if code == 0:
        return "0: complete"
    lines = [line for line in said.splitlines() if line.startswith("fastsim: ")] or ["nothing was said"]
    words = ("..." if "/" in word or any(letter.isdigit() for letter in word) else word for word in lines[-1].split())
    return f"{code}: {' '.join(words)}"
