"""Files and folders are written in one atomic step: after a failure or a kill, the old content is still there."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fastsim
from fastsim.errors import OutputError
from fastsim.files.writing import atomic_file, atomic_folder, replacing, write_text, writing
from fastsim.workload.write import save

ROOT = Path(__file__).resolve().parents[2]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_flushed_before_it_replaces_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "deep" / "result.json"
    write_text(target, "old")
    content_at_flush = []
    flush = os.fsync

    def recorded(file: int) -> None:
        content_at_flush.append(target.read_text())
        flush(file)

    monkeypatch.setattr(os, "fsync", recorded)
    write_text(target, "new")
    assert content_at_flush == ["old", "new"]  # the file, then the names in its folder
    assert target.read_text() == "new"
    with atomic_file(target, durable=False) as part:
        part.write_text("newer")
    assert (content_at_flush, target.read_text()) == (["old", "new"], "newer")
    assert names(target.parent) == ["result.json"]


def test_a_failure_leaves_the_old_content_and_no_temporary_file(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    with (
        pytest.raises(OutputError, match=r"result.json: cannot be written \(No space left on device\)"),
        writing(target),
    ):
        raise OSError(28, "No space left on device")
    with pytest.raises(ZeroDivisionError), atomic_file(target) as part:
        part.write_text("new")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "folder") as part:
        (part / "a").write_text("new")
        raise ZeroDivisionError
    assert names(tmp_path) == ["result.json"]
    assert target.read_text() == "old"
    with pytest.raises(OutputError, match=r"name a file that can"), writing(target / "below"):
        raise AssertionError("there is no folder to write into")


KILLED = """
import os, signal, sys
from pathlib import Path
from fastsim.files.writing import writing
with writing(Path(sys.argv[1])) as part:
    part.write_text("half of the n")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_while_it_writes_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "result.json"
    target.write_text("old")
    process = subprocess.run([sys.executable, "-c", KILLED, str(target)], cwd=ROOT, check=False)
    assert process.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 2  # the temporary file is left, under a hidden name
    write_text(target, "new")
    assert target.read_text() == "new"


def test_new_files_and_folders_have_the_usual_permissions(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "file", "")
        with replacing(tmp_path / "folder", ("a",)) as part:
            (part / "a").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_folder_that_exists_keeps_its_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with replacing(folder, ("a", "b")) as part:
        (part / "a").write_text("1")
        (part / "b").write_text("1")
    (folder / "notes.txt").write_text("mine")
    with replacing(folder, ("a", "b")) as part:
        (part / "b").write_text("2")
    assert names(folder) == ["b", "notes.txt"]
    assert (folder / "b").read_text() == "2"


def test_a_folder_that_another_process_makes_meanwhile_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "forests"
    rename = Path.rename

    def late(part: Path, target: Path) -> Path:
        folder.mkdir()
        (folder / "a").write_text("theirs")
        return rename(part, target)

    monkeypatch.setattr(Path, "rename", late)
    with atomic_folder(folder) as part:
        (part / "a").write_text("ours")
    assert (folder / "a").read_text() == "theirs"
    assert names(tmp_path) == ["forests"]


def renames(path: Path) -> list[int]:
    """Lines where a module makes temporary files or renames any: ``Path.replace`` has exactly one argument."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            single = len(node.args) == 1 and not node.keywords
            if node.func.attr in ("rename", "mkstemp", "mkdtemp", "NamedTemporaryFile") or (
                node.func.attr == "replace" and (single or ast.unparse(node.func.value) == "os")
            ):
                found.append(node.lineno)
    return found


def test_only_one_module_writes_in_one_step() -> None:
    """Except the cache of machine code: kernels import nothing from the rest of fastsim."""
    files = [*(ROOT / "fastsim").rglob("*.py"), *(ROOT / "profiling").rglob("*.py")]
    found = {path.relative_to(ROOT).as_posix(): renames(path) for path in files if renames(path)}
    assert found.pop("fastsim/files/writing.py")
    assert len(found.pop("fastsim/sweeps/store.py")) == 1  # a damaged part gets another name
    assert found == {}


def test_names_with_a_colon_are_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As which pyarrow reads only absolute ones."""
    monkeypatch.chdir(tmp_path)
    rows = fastsim.load_workload("chat", num_requests=3)
    for suffix in ("csv", "parquet", "jsonl"):
        save(rows, f"run:1.{suffix}")
        assert fastsim.load_workload(f"run:1.{suffix}").num_requests == 3
    fastsim.sweep({"axes": {"num_replicas": [1]}, "workload": {"source": "chat", "num_requests": 3}}, "sweep:1")
    fastsim.simulate(None, rows).save("result:1")
    assert fastsim.Result.load("result:1").requests.num_rows == 3
