"""A cluster runs code on every machine of it: TLS keeps strangers out, and workers of another version are refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from clusters import ROOT, WAIT_S, environment, started, table

from fastsim.errors import ClusterError
from fastsim.planning import workers
from fastsim.sweeps import cluster, remote
from fastsim.sweeps.sweep import sweep

SPACE: dict[str, Any] = {
    "workload": {"source": "chat", "rate": 4, "num_requests": 200, "seed": 0},
    "axes": {"seed": [1, 2, 3]},
}


def test_a_worker_with_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "site" / "fastsim"
    (other / "kernels").mkdir(parents=True)
    (other / "__init__.py").write_text('__version__ = "9.9.9"\n')
    (other / "kernels" / "__init__.py").touch()
    with started(tmp_path) as found:
        found.scheduler()
        found.worker(PYTHONPATH=str(tmp_path / "site"))
        with cluster.connect(found.address) as client:
            client.wait_for_workers(1, timeout=WAIT_S)
            with pytest.raises(ClusterError, match=r"runs fastsim 9\.9\.9, and this is .*; install the same on all"):
                sweep(SPACE, tmp_path / "out", client)


def test_a_worker_without_fastsim_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "site" / "fastsim"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text('raise ImportError("no fastsim here")\n')
    with started(tmp_path) as found:
        found.scheduler()
        found.worker(PYTHONPATH=str(tmp_path / "site"))
        with cluster.connect(str(found.file)) as client:
            client.wait_for_workers(1, timeout=WAIT_S)
            with pytest.raises(ClusterError, match=r"has no fastsim \(no fastsim here\)"):
                sweep(SPACE, tmp_path / "out", client)


OTHERS = {
    "Python": """
from distributed import versions

def newer(packages, original=versions.get_package_info):
    return {**original(packages), "python": "3.99.1.final.0"}

versions.get_package_info = newer
""",
    "Dask": """
from distributed import versions

def newer(packages, original=versions.get_package_info):
    return {**original(packages), "dask": "1999.1.2"}

versions.get_package_info = newer
""",
    "Numba": """
import numba

numba.__version__ = "99.1.2"
""",
}


@pytest.mark.parametrize(("name", "there"), [("Python", "3.99"), ("Dask", "1999.1"), ("Numba", "99.1")])
def test_a_worker_with_another_library_is_refused(name: str, there: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(OTHERS[name])
    with started(tmp_path) as found:
        found.scheduler()
        found.worker(PYTHONPATH=f"{tmp_path}:{ROOT}")
        with cluster.connect(found.address) as client:
            client.wait_for_workers(1, timeout=WAIT_S)
            refused = rf"worker tcp://\S+ runs {name} {there}, and this is \d+\.\d+; install the same on all"
            with pytest.raises(ClusterError, match=refused):
                sweep(SPACE, tmp_path / "out", client)


def test_a_worker_of_another_version_that_joins_later_is_refused() -> None:
    other = {**cluster.VERSIONS, "NumPy": "9.9"}
    with cluster.local(1) as client:
        for future in (
            client.submit(remote.work, remote.Task(other, ())),
            client.submit(workers._evaluate_there, other, {}),
        ):
            with pytest.raises(ClusterError, match=r"^worker t(ls|cp)://\S+ runs NumPy \d\.\d+, and this is 9\.9; "):
                future.result(timeout=WAIT_S)


@pytest.fixture
def tls(tmp_path: Path) -> dict[str, str]:
    """Variables with which Dask reads the manual's configuration of TLS, with a certificate as the manual makes it."""
    if not shutil.which("openssl"):
        pytest.skip("no program openssl")
    manual = (ROOT / "fastsim" / "manual" / "sweeps.md").read_text().replace("/etc/dask/", f"{tmp_path}/")
    (make,) = re.findall(r"^openssl req .*$", manual, re.MULTILINE)
    subprocess.run(make.split(), check=True, capture_output=True)
    (configuration,) = re.findall(r"```yaml\n(distributed:.*?)```", manual, re.DOTALL)
    (tmp_path / "dask").mkdir()
    (tmp_path / "dask" / "tls.yaml").write_text(configuration)
    return {"DASK_CONFIG": str(tmp_path / "dask")}


def swept(address: str, folder: Path, **variables: str) -> tuple[int, str]:
    """The exit code of a sweep over Dask, and what it says on stderr."""
    (folder / "space.yaml").write_text(json.dumps(SPACE))
    whole = [sys.executable, "-m", "fastsim", "sweep", "space.yaml", "--out", "out", "--dask", address]
    given: dict[str, Any] = {"cwd": folder, "env": environment(**variables), "capture_output": True, "text": True}
    done = subprocess.run(whole, timeout=WAIT_S, **given)
    return done.returncode, done.stderr


def test_a_sweep_over_tls(tls: dict[str, str], tmp_path: Path) -> None:
    with started(tmp_path) as found:
        found.scheduler("--protocol", "tls", **tls)
        assert found.address.startswith("tls://")
        found.worker(**tls)
        code, said = swept(found.address, tmp_path)
        assert (code, said.count("\n")) == (2, 1)
        assert "over TLS within 5 s (Dask's configuration names no certificates); is " in said
        code, said = swept(found.address.replace("tls", "tcp"), tmp_path)
        assert (code, said.count("\n")) == (2, 1)
        assert "is `dask scheduler` running there" in said
        code, said = swept(found.address.replace("tls", "tcp"), tmp_path, **tls)
        assert (code, said.count("\n")) == (2, 1)
        assert said.endswith("; start the scheduler with `--protocol tls`, and name its tls:// address\n")
        assert not (tmp_path / "out").exists()
        assert swept(found.address, tmp_path, **tls) == (0, "")
    sweep(SPACE, tmp_path / "here")
    assert table(tmp_path / "out").to_pylist() == table(tmp_path / "here").to_pylist()


def test_strangers_cannot_use_local_workers() -> None:
    with cluster.local(1) as client:
        address = client.scheduler_info()["address"]
        assert address.startswith("tls://127.0.0.1")
        with pytest.raises(ClusterError, match="names no certificates"), cluster.connect(address):
            pass
