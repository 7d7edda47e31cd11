"""Real Dask clusters for tests: `dask scheduler` and `dask worker` processes, and the tables that sweeps write."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[1]
WAIT_S = 60.0


def until(holds: Callable[[], object], process: subprocess.Popen[Any] | None = None) -> None:
    """Wait for something that happens soon, as long as it may take on a busy machine."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None
        time.sleep(0.02)


def table(folder: Path) -> pa.Table:
    found: pa.Table = pq.read_table(folder)
    return found.sort_by("digest")


def parts(folder: Path) -> int:
    return len(list(folder.glob("part-*.parquet")))


@dataclass
class Cluster:
    """`dask scheduler` and `dask worker` processes."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    @property
    def address(self) -> str:
        found: str = json.loads(self.file.read_text())["address"]
        return found

    def start(self, kind: str, *given: str, **variables: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard", *given]
        with (self.folder / f"{kind}-{len(self.processes)}.log").open("wb") as log:
            process = subprocess.Popen(command, env=environment(**variables), stderr=log, stdout=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def scheduler(self, *given: str, **variables: str) -> subprocess.Popen[bytes]:
        usual = ("--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(self.file))
        process = self.start("scheduler", *usual, *given, **variables)
        until(self._is_named, process)
        return process

    def _is_named(self) -> bool:
        """Whether the scheduler has written its file, to the end."""
        try:
            return bool(self.address)
        except (OSError, ValueError):
            return False

    def worker(self, **variables: str) -> subprocess.Popen[bytes]:
        return self.start("worker", self.address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", **variables)


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


@contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    found = Cluster(folder)
    try:
        yield found
    finally:
        for process in found.processes:
            process.kill()
        for process in found.processes:
            process.wait()
