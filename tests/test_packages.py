"""The wheel, the source archive and the wheel made of it hold the same files, and fastsim runs from each wheel."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from pythons import install, pythons, summary_digest

ROOT = Path(__file__).resolve().parents[1]


def build(source: Path, out: Path, *kinds: str) -> list[Path]:
    """Build packages of ``source`` into ``out`` with the build backend that is installed."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *kinds, str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The source archive, the wheel of a checkout, and the wheel of the source archive."""
    folder = tmp_path_factory.mktemp("packages")
    (archive,) = build(ROOT, folder / "archive", "--sdist")
    (wheel,) = build(ROOT, folder / "wheel", "--wheel")
    with tarfile.open(archive) as file:
        file.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    (again,) = build(source, folder / "again", "--wheel")
    return archive, wheel, again


def test_all_packages_hold_the_same_files(packages: tuple[Path, Path, Path]) -> None:
    archive, *wheels = packages
    contents = [{name: file.read(name) for name in file.namelist()} for file in map(zipfile.ZipFile, wheels)]
    modules = [{name: data for name, data in held.items() if name.startswith("fastsim/")} for held in contents]
    assert modules[0] == modules[1]
    assert {"fastsim/data/default.yaml", "fastsim/kernels/state.py", "fastsim/profiling/session.py"} <= set(modules[0])
    with tarfile.open(archive) as file:
        names = [name.partition("/")[2] for name in file.getnames()]
    assert len(names) == len(set(names))
    assert set(modules[0]) == {name for name in names if name.startswith("fastsim/")}
    assert {name for name in names if not name.startswith("fastsim/")} <= {
        ".gitignore",
        "LICENSE",
        "NOTICE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
    }
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".nbi", ".nbc"))]


def test_a_wheel_of_the_source_archive_runs(packages: tuple[Path, Path, Path], tmp_path: Path) -> None:
    with zipfile.ZipFile(packages[2]) as file:
        file.extractall(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "fastsim", "simulate", "--requests", "20", "--out", "run"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "20 requests" in done.stdout and (tmp_path / "run" / "requests.parquet").exists()


def test_another_python_gives_the_same_bits(packages: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """With kernels interpreted, to be quick; `bench/pythons.py` compiles, on all Pythons."""
    others = {version: python for version, python in pythons().items() if int(version[2:]) != sys.version_info.minor}
    if not others:
        pytest.skip("needs another Python from 3.11 on")
    version, python = max(others.items(), key=lambda item: int(item[0][2:]))
    try:
        own = install(python, str(packages[1]), tmp_path / version)
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"pip cannot install fastsim on Python {version}: {problem.stderr[-200:]}")
    digests: list[str] = []
    for each in (Path(sys.executable), own):
        (folder := tmp_path / f"run{len(digests)}").mkdir()
        digests.append(summary_digest(each, folder, NUMBA_DISABLE_JIT="1"))
    assert digests[0] == digests[1]
