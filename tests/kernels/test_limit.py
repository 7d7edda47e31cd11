"""The limit of caches on disk: what was used longest ago goes, and a disk that is full fails no run."""

import os
import resource
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from fastsim.kernels._limit import HOUR, limit, make_room, size_of, use

ROOT = Path(__file__).resolve().parents[2]
KB = 1000


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of tables that may take 30 kB."""
    monkeypatch.setenv("FASTSIM_CACHE_GB", "0.00004")
    folder = tmp_path / "tables"
    folder.mkdir()
    return folder


def put(path: Path, age_s: float, size: int = 10 * KB) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


def test_what_was_used_longest_ago_goes_first(tables: Path) -> None:
    files = [put(tables / f"{number}.tables", 1000 - number) for number in range(5)]
    use(files[0])
    make_room(tables)
    assert [path.exists() for path in files] == [True, False, False, True, True]
    assert size_of(tables) == 30 * KB
    make_room(tables)
    assert size_of(tables) == 30 * KB  # all that the limit allows


def test_a_use_leaves_the_content_and_its_date(tables: Path) -> None:
    path = put(tables / "a.tables", HOUR)
    before = path.stat()
    use(path)
    after = path.stat()
    assert after.st_mtime_ns == before.st_mtime_ns and after.st_atime > before.st_atime + HOUR / 2
    use(tables / "none")


def test_files_of_other_versions_and_their_folders_go_too(tables: Path) -> None:
    old = [put(tables / "older.npz", 5000), put(tables / "0123" / "schedulers" / "run.bin", 4000)]
    put(tables / "0123" / "schedulers" / "run.lock", 4500, 0)
    new = [put(tables / f"{number}.tables", 10) for number in range(3)]
    make_room(tables)
    assert not any(path.exists() for path in old) and all(path.exists() for path in new)
    assert sorted(path.name for path in tables.iterdir()) == ["0.tables", "1.tables", "2.tables"]


def test_what_a_process_writes_stays(tables: Path) -> None:
    new = [put(tables / name, 60, 40 * KB) for name in (".a.tables.0123", "b.part", "c.lock")]
    old = [put(tables / name, 2 * HOUR, 40 * KB) for name in (".d.tables.0123", "e.part")]
    make_room(tables)
    assert all(path.exists() for path in new) and not any(path.exists() for path in old)


def test_half_of_a_disks_free_space_is_left(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        put(tables / f"{number}.tables", number)
    full = shutil.disk_usage(tables)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    make_room(tables)
    assert [path.name for path in tables.iterdir()] == ["0.tables"]


@pytest.mark.parametrize("text", ["4GB", "0", "-1", "nan", "inf", "many"])
def test_a_limit_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsim.errors import ConfigError
    from fastsim.predictors.tables.cache import most

    monkeypatch.setenv("FASTSIM_CACHE_GB", text)
    with pytest.raises(ConfigError, match=rf"^FASTSIM_CACHE_GB: '{text}' is not a positive number .*\(e.g. 4\)$"):
        most()
    monkeypatch.setenv("FASTSIM_CACHE_GB", "")
    assert limit() == most() == 4e9


def test_processes_make_room_at_once(tables: Path) -> None:
    for number in range(300):
        put(tables / f"{number % 7}" / f"{number}.tables", 1000 - number)
    code = "import sys; from pathlib import Path; from fastsim.kernels._limit import make_room as make; "
    code += "make(Path(sys.argv[1]))"
    started = [subprocess.Popen([sys.executable, "-c", code, str(tables)], cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert {path.name for path in tables.rglob("*.tables")} == {f"{number}.tables" for number in (297, 298, 299)}


def test_a_run_needs_no_room_on_disk(tmp_path: Path) -> None:
    """As much as fits is kept of tables and of a policy's module; the answer is the same without."""
    script = tmp_path / "run.py"
    script.write_text(
        """
import fastsim
from fastsim.predictors.tables.cache import finish_writing

@fastsim.policy
def first(replicas, request):
    return 0

print(fastsim.simulate(None, "chat", num_requests=3, router=first).summary["latency"]["e2e"]["mean"])
finish_writing()
"""
    )
    answers, kept = [], []
    for most in (resource.RLIM_INFINITY, 100):
        disk = tmp_path / str(most)
        environment = {**os.environ, "FASTSIM_CACHE_DIR": str(disk), "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, str(script)],
            env=environment,
            capture_output=True,
            text=True,
            preexec_fn=partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most)),
        )
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
        kept.append(sorted(path.suffix for path in disk.rglob("*") if path.is_file()))
    assert answers[0] == answers[1] and kept == [[".py", ".tables"], []]
