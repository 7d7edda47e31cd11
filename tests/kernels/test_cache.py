"""Compiled kernels on disk: never the wrong code, never another user's, and never fatal."""

import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOY = """
import os, sys, warnings
warnings.simplefilter("always")
from fastsim.kernels import _cache
from fastsim.kernels._jit import kernel
_cache.SILENT_S = float(os.environ.get("SILENT_S", 60))

@kernel
def toy(x):
    return x + 1

answers = [toy(int(text)) if text.isdigit() else toy(float(text)) for text in sys.argv[1:]]
stats = toy.stats
print(*answers, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


class Toy:
    """A kernel in a file of its own, run in processes that share a cache."""

    def __init__(self, folder: Path) -> None:
        self.script, self.cache = folder / "toy.py", folder / "cache"
        self.script.write_text(TOY)
        self.env = {**os.environ, "FASTSIM_CACHE_DIR": str(self.cache), "PYTHONPATH": str(ROOT)}

    def start(self, *values: str, **more: object) -> "subprocess.Popen[str]":
        command = [sys.executable, str(self.script), *values]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, text=True, stdout=pipe, stderr=pipe, env=self.env, **more)  # type: ignore[call-overload,no-any-return]

    def run(self, *values: str, **more: object) -> tuple[list[str], str]:
        process = self.start(*values, **more)
        out, err = process.communicate()
        assert process.returncode == 0, err
        return out.split(), err

    def files(self) -> list[Path]:
        return sorted(self.cache.rglob("*.bin"))


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)


def test_compiling_is_said_where_it_takes_long(toy: Toy) -> None:
    toy.env["SILENT_S"] = "0"
    assert toy.run("1")[1] == "compiling a policy; later runs load it\n"
    assert toy.run("1")[1] == ""


def test_a_kernel_is_compiled_once_for_each_signature(toy: Toy) -> None:
    assert toy.run("1") == (["2", "0", "1"], "")
    assert toy.run("1") == (["2", "1", "0"], "")
    assert toy.run("1", "1.5") == (["2", "2.5", "1", "1"], "")
    assert len(toy.files()) == 2 and toy.run("1", "1.5")[0] == ["2", "2.5", "2", "0"]
    toy.script.write_text(TOY.replace("x + 1", "x + 2"))
    assert toy.run("1")[0] == ["3", "0", "1"]  # the same file and line, and another function


def test_processes_that_start_cold_together_get_the_right_code(toy: Toy) -> None:
    """Numba's own cache gave two signatures the same file in this case."""
    for _ in range(2):
        processes = [toy.start(value) for value in ("1", "1.5", "1", "1.5")]
        done = [process.communicate() for process in processes]
        assert [out.split()[0] for out, _ in done] == ["2", "2.5", "2", "2.5"], done
        # One process compiles each signature while the others wait for it.
        assert sum(int(out.split()[2]) for out, _ in done) == 2
        assert toy.run("1", "1.5")[0] == ["2", "2.5", "2", "0"]
        shutil.rmtree(toy.cache)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.rename(path.with_suffix(".other"))
    path.symlink_to(path.with_suffix(".other"))


def open_to_others(path: Path) -> None:
    path.chmod(0o666)


@pytest.mark.parametrize(
    "damage", [emptied, truncated, flipped, a_folder, a_pipe, a_link, open_to_others], ids=lambda one: one.__name__
)
def test_a_file_that_cannot_be_trusted_is_compiled_again(toy: Toy, damage: Callable[[Path], None]) -> None:
    toy.run("1")
    (path,) = toy.files()
    damage(path)
    answer, said = toy.run("1")
    assert answer == ["2", "0", "1"] and said.count("UserWarning") == 1 and str(path) in said
    assert toy.run("1") == (["2", "1", "0"], "")  # it has repaired itself


def test_a_full_disk_is_said_once_and_is_not_fatal(toy: Toy) -> None:
    def no_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    answer, said = toy.run("1", "1.5", preexec_fn=no_room)
    assert answer == ["2", "2.5", "0", "2"] and said.count("UserWarning") == 1 and "set FASTSIM_CACHE_DIR" in said
    assert not toy.files() and not list(toy.cache.rglob("*.part"))


def test_what_a_killed_process_left_is_removed(toy: Toy) -> None:
    toy.run("1")
    left = toy.files()[0].parent / "toy.abc.part"
    left.write_bytes(b"half")
    toy.run("1.5")
    assert left.exists()  # another process may be writing it
    os.utime(left, (0, 0))
    toy.files()[0].unlink()
    toy.run("1", "1.5")
    assert not left.exists() and len(toy.files()) == 2


def test_files_and_folders_are_private_whatever_the_umask(toy: Toy) -> None:
    toy.run("1", umask=0)
    (path,) = toy.files()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(toy.cache.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can make files of another user")
def test_nothing_of_another_user_is_unpickled(toy: Toy, tmp_path: Path) -> None:
    toy.run("1")
    (path,) = toy.files()
    os.chown(path, 12345, 12345)
    answer, said = toy.run("1")
    assert answer == ["2", "0", "1"] and "another user can write it" in said
    # Neither is a whole folder, in the user's cache or in the temporary one: a private one is made.
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    for folder in (toy.cache, temporary / f"fastsim-{os.getuid()}"):
        folder.mkdir(exist_ok=True)
        os.chown(folder, 12345, 12345)
    toy.env["TMPDIR"] = str(temporary)
    before = len(toy.files())
    assert toy.run("1")[0] == ["2", "0", "1"]
    assert len(toy.files()) == before and [path.name for path in temporary.iterdir()] == [f"fastsim-{os.getuid()}"]


def can_run_as_another_user() -> bool:
    if os.getuid() != 0:
        return False
    try:
        done = subprocess.run([sys.executable, "-c", "import numba"], user=12345, cwd="/", capture_output=True)
    except PermissionError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not can_run_as_another_user(), reason="another user cannot run this Python")
def test_a_warm_cache_that_cannot_be_written_is_used(toy: Toy, tmp_path: Path) -> None:
    """As in the image of a container: root has filled the cache, and another user runs."""
    toy.run("1")
    for path in toy.cache.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    temporary.chmod(0o777)
    for folder in (toy.cache, tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    toy.env["TMPDIR"] = str(temporary)
    assert toy.run("1", "1.5", user=12345)[0] == ["2", "2.5", "1", "1"]
    assert toy.run("1", "1.5", user=12345)[0] == ["2", "2.5", "2", "0"]  # the other is in a folder of its own
    toy.cache.chmod(0o777)
    assert toy.run("1", "1.5", user=12345)[0][2:] == ["1", "1"]  # nothing is read that others may have written
