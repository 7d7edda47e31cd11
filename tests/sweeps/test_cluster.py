"""Sweeps on real Dask clusters: the same rows to the bit, whichever process is killed meanwhile."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from clusters import ROOT, WAIT_S, Cluster, parts, started, table, until
from gate import Gate

from fastsim.errors import FastsimError, OutputError
from fastsim.simulation.warm import compile_kernel
from fastsim.sweeps import cluster, handover
from fastsim.sweeps.sweep import sweep
from fastsim.workload import Workload

SPACE: dict[str, Any] = {
    "workload": {"source": "chat", "rate": 4, "num_requests": 3000, "seed": 0},
    "axes": {"scheduler.max_num_seqs": [64, 128], "seed": {"from": 1, "to": 200, "step": 1}},
}
SIZE = 400


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The rows of this process; also compiles all that a process with local workers compiles, and builds the tables."""
    compile_kernel("sarathi")
    out = tmp_path_factory.mktemp("alone") / "out"
    sweep(SPACE, out)
    return table(out)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture
def running(tmp_path: Path, gate: Gate, alone: pa.Table) -> Iterator[Cluster]:
    """A scheduler with two workers, which do part of the work and wait for the gate to open before the rest."""
    with started(tmp_path) as found:
        found.scheduler()
        for _ in range(2):
            found.worker(**gate.environment)
        yield found


def command(folder: Path, *given: str, **more: Any) -> subprocess.Popen[str]:
    (folder / "space.yaml").write_text(json.dumps(SPACE))
    whole = [sys.executable, "-m", "fastsim", "sweep", "space.yaml", "--out", "out", *given]
    more = {"env": Gate(folder).environment, **more}
    return subprocess.Popen(whole, cwd=folder, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_rows_are_the_same_on_any_number_of_workers(alone: pa.Table, workers: int, tmp_path: Path) -> None:
    small = {**SPACE, "axes": {**SPACE["axes"], "seed": {"from": 1, "to": 30, "step": 1}}}
    done = sweep(small, tmp_path / "out", workers=workers)
    assert (done.computed, done.failed) == (60, 0)
    found = table(tmp_path / "out")
    assert found.to_pylist() == [row for row in alone.to_pylist() if row["seed"] <= 30]


def test_a_worker_that_is_killed_costs_nothing(running: Cluster, gate: Gate, alone: pa.Table) -> None:
    process = command(running.folder, "--dask", str(running.file))
    until(lambda: parts(running.folder / "out"), process)
    running.processes[1].kill()
    gate.open()
    assert process.wait(WAIT_S) == 0
    assert table(running.folder / "out").to_pylist() == alone.to_pylist()


LETHAL = """
import os
from fastsim.simulation import many

def run(job, *given, original=many._run):
    if job.resolved.seed == 2:
        os._exit(1)
    return original(job, *given)

many._run = run
"""


def test_only_the_configuration_that_kills_its_workers_fails(tmp_path: Path, alone: pa.Table) -> None:
    (tmp_path / "sitecustomize.py").write_text(LETHAL)
    few = {**SPACE, "axes": {**SPACE["axes"], "seed": [1, 2, 3]}}
    with started(tmp_path) as found:
        found.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0")
        found.start("worker", found.address, "--nthreads", "1", PYTHONPATH=f"{tmp_path}:{ROOT}")
        with cluster.connect(found.address) as client:
            done = sweep(few, tmp_path / "out", client)
    assert (done.configurations, done.failed) == (6, 2)
    for row in table(tmp_path / "out").to_pylist():
        if row["seed"] == 2:
            assert row["error"] == "every worker that simulated it died (out of memory?)"
        else:
            assert row == next(one for one in alone.to_pylist() if one["digest"] == row["digest"])


def test_a_client_that_is_killed_goes_on_where_it_ended(running: Cluster, gate: Gate, alone: pa.Table) -> None:
    process = command(running.folder, "--dask", running.address)
    out = running.folder / "out"
    until(lambda: parts(out), process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    gate.open()
    left = len(table(out))
    assert 0 < left < SIZE
    with cluster.connect(running.address) as client:
        assert sweep(SPACE, out, client).computed == SIZE - left
    assert table(out).to_pylist() == alone.to_pylist()


def test_the_loss_of_the_scheduler_is_one_sentence(running: Cluster, alone: pa.Table) -> None:
    process = command(running.folder, "--dask", running.address)
    out = running.folder / "out"
    until(lambda: parts(out), process)
    running.processes[0].kill()
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    # On a busy machine the workers may join late, which is said before.
    *waited, last = said.splitlines()
    assert all(line.endswith("has no workers yet; waiting for the first") for line in waited)
    assert last == f"fastsim: {running.address}: the scheduler is gone; run again to compute what is missing"
    left = table(out)
    assert 0 < len(left) < SIZE
    assert sweep(SPACE, out).computed == SIZE - len(left)
    assert table(out).to_pylist() == alone.to_pylist()


def test_the_loss_of_the_scheduler_before_the_first_batch_is_the_same_sentence(tmp_path: Path) -> None:
    with started(tmp_path) as found:
        scheduler = found.scheduler()
        with (
            pytest.raises(FastsimError, match="the scheduler is gone; run again"),
            cluster.connect(found.address) as client,
        ):
            scheduler.kill()
            scheduler.wait()
            sweep(SPACE, tmp_path / "out", client)


def test_a_local_worker_that_is_killed_while_it_starts_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributed.Nanny.start_unsafe", failed)
    said = r"^one of 1 workers ended while it started \(Nanny failed to start"
    with pytest.raises(FastsimError, match=said), cluster.local(1):
        pass


async def failed(nanny: Any) -> None:
    raise RuntimeError("Nanny failed to start worker process")


def test_values_that_cannot_be_kept_for_workers_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(name: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(handover, "store", full)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\); set FASTSIM_CACHE_DIR"):
        handover.put([])


def test_a_worker_of_another_machine_gets_what_it_lacks_once(tmp_path: Path, alone: pa.Table) -> None:
    """A worker with a cache of its own does not see the files of the client."""
    with started(tmp_path) as found:
        found.scheduler()
        compiled = handover.folder().parent / "kernels"
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "kernels").symlink_to(compiled)
        found.worker(FASTSIM_CACHE_DIR=str(tmp_path / "cache"))
        small = {**SPACE, "axes": {"seed": [1, 2, 3], "workload.rate": [3, 4]}}
        with cluster.connect(found.address) as client:
            sweep(small, tmp_path / "there", client)
        sweep(small, tmp_path / "here")
        assert table(tmp_path / "there").to_pylist() == table(tmp_path / "here").to_pylist()
        assert (tmp_path / "cache" / "shared").is_dir()
        assert not list((tmp_path / "cache" / "shared").iterdir())


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "tcp://nowhere.invalid:8786", "nonsense://x", "space.yaml"])
def test_a_scheduler_that_does_not_answer(address: str, tmp_path: Path) -> None:
    process = command(tmp_path, "--dask", address)
    _, said = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert said.startswith(f"fastsim: --dask {address}: no scheduler ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_local_workers_in_one_sentence(alone: pa.Table, tmp_path: Path, sent: signal.Signals) -> None:
    """As a terminal does it: the signal reaches the workers too. The port of another cluster's pages is no news."""
    taken = socket.socket()
    with suppress(OSError):  # then it is taken already
        taken.bind(("", 8787))
        taken.listen()
    process = command(tmp_path, "--workers", "2", start_new_session=True)
    try:
        until(lambda: parts(tmp_path / "out"), process)
        os.killpg(process.pid, sent)
        _, said = process.communicate(timeout=WAIT_S)
    finally:
        taken.close()
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 128 + sent
    assert said.strip() == "fastsim: interrupted; out holds what is done, and the same command resumes"
    assert 0 < len(table(tmp_path / "out")) < SIZE


def test_ctrl_c_while_local_workers_start_is_one_sentence(alone: pa.Table, tmp_path: Path) -> None:
    process = command(tmp_path, "--workers", "2", start_new_session=True)

    def starting() -> bool:
        return any("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(process.pid).children())

    try:
        until(starting, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=WAIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert said == "fastsim: interrupted; out holds what is done, and the same command resumes\n"


def test_values_are_shared_as_memory_of_a_file() -> None:
    workload = Workload(np.arange(1000.0), np.full(1000, 7), np.full(1000, 3), name="seven")
    name = handover.put(workload)
    found = handover.get(name)
    assert (found.digest, found.name) == (workload.digest, "seven")
    assert found is handover.get(name)
    handover.discard([name])
    assert (found.num_prompt_tokens == 7).all()
    handover.get.cache_clear()
    with pytest.raises(FileNotFoundError):
        handover.get(name)
